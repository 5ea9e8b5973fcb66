"""What people do with labels: an inbox for new ones, agreement, aggregation, audit, what to label next."""
