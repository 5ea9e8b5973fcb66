"""What listeners reach: models out of the registry, never out of the workspace."""
