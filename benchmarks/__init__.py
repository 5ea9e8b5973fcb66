"""Ratios measured side by side in one run: against librosa, bare Keras and TensorFlow."""
