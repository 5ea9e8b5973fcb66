"""What decoding and classifying may refuse; the rest of the pipeline adds its own in ``pipeline.errors``."""

from __future__ import annotations


class CmgError(Exception):
    """Say what was expected, what came, where, and what to do about it."""


class DataError(CmgError):
    """The data on disk is not what the contract promises."""


class UndecodableError(RuntimeError):
    """Say why content does not decode; whoever knows its name makes a `DataError` of it."""
