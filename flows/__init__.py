"""Prefect's edge: when the stages of ``dvc.yaml`` run, and notifications. No science, no second graph."""
