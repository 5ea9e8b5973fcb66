"""Audio in, probabilities out: exactly what a registered model carries.

Imports nothing outside itself, and nothing heavy: a version that is loaded later runs this code as it was.
"""
