"""The model registry: what a version ships, how it answers, which tracks it has seen, whose turn it is."""
