"""Stage ``register``: each task's best model enters the MLflow registry.

The out, ``artifacts/registry/<task>.json``, says which candidate was best, and the content of the version
that it becomes: a pure function of metrics, models, catalogue and of the code and packages that a version
ships. Running the stage again changes nothing; on an empty registry (after ``dvc pull``, say) it fills it.
Whether the candidate becomes champion is `pipeline.stages.promote`'s to decide.
"""

from __future__ import annotations

from dataclasses import asdict

from pipeline import params, promotion_rule, tracking
from pipeline.files import write_json
from pipeline.promotion_rule import Candidate
from pipeline.registry import candidates as workspace
from pipeline.registry import lease
from pipeline.registry.versions import model_name
from pipeline.stage_run import run_stage
from pipeline.tables.candidates import candidate_path


def record(task: str, ranked: list[Candidate], chosen: Candidate | None) -> None:
    """Write the out."""
    keep = (
        "model",
        "weights_sha256",
        "protocol",
        "leaky",
        "synthetic",
        "valid_macro_f1",
        "valid_cross_entropy",
    )
    rows = [{key: asdict(candidate)[key] for key in keep} for candidate in ranked]
    write_json(
        candidate_path(task),
        {
            "registered_model": model_name(task),
            "candidates": rows,
            "candidate": chosen.model if chosen else None,
            "content_sha256": workspace.content_of(task, chosen) if chosen else None,
        },
    )


def register(task: str, names: list[str]) -> str:
    """Rank one task's models, register the best and record it; return what was done."""
    ranked = workspace.candidates(task, names)
    chosen = promotion_rule.best(ranked)
    done = "none may be promoted: each one's protocol leaks or its score is NaN"
    if chosen and tracking.is_temporary_checkout():
        done = f"{chosen.model} is best; an experiment registers nothing"
    elif chosen:
        client = tracking.configure().MlflowClient()
        with tracking.reachable(), lease.hold(client, model_name(task)):
            done = f"{chosen.model} is version {workspace.ensure_version(client, task, chosen)}"
    record(task, ranked, chosen)
    return f"{model_name(task)}: {done}"


def main() -> None:
    """Register every task's best model."""
    settings = params.read()
    for task in settings.tasks:
        print(register(task, list(settings.models)))


if __name__ == "__main__":
    run_stage(main)
