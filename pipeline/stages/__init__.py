"""The nine stages of ``dvc.yaml`` and nothing else, one module each."""
