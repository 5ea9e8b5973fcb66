"""What passes between stages: path, columns and reader of each file in ``data/`` and ``artifacts/``."""
