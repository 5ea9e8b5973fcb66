"""The science: one module a stage, and below them what the stages share."""

import pipeline.environment  # noqa: F401 - stops where Python is not the project's
