"""Prefect's edge: when the stages of ``dvc.yaml`` run, and who is told. No science, no second graph."""
