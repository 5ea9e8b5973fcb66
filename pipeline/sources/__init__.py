"""Where data comes from: GTZAN, any folder, or the synthetic sample."""
