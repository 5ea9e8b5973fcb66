"""Pictures and kept results that the report page shows."""
