"""New labels: dropped into an inbox, checked, merged into ``mood_labels.csv``; see `inbox.run`."""
