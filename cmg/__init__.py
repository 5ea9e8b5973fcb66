"""The command ``cmg``."""
