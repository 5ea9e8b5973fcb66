"""The science: one module a stage, and below them what the stages share."""
