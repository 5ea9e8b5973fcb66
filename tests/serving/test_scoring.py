"""A model over HTTP: MLflow's answers, for whoever may ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from pipeline.errors import CmgError
from serving import password, scoring


def test_a_model_answers_whoever_knows_the_password_and_no_foreign_page(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    class Doubled(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input):  # hints would become a signature
            return model_input * 2

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv(password.SERVERS, "cmg:letters")
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")  # MLflow sets it, for good
    mlflow.pyfunc.save_model("model", python_model=Doubled(), pip_requirements=[])
    asked = TestClient(scoring.build("model"), base_url="http://127.0.0.1:5001")
    question = {"dataframe_split": {"columns": ["x"], "data": [[21]]}}
    assert asked.post("/invocations", json=question).status_code == 401
    known = {"json": question, "auth": ("cmg", "letters")}
    assert asked.post("/invocations", **known).json() == {"predictions": [{"x": 42}]}
    for header in ({"Host": "evil.example:5001"}, {"Origin": "null"}):
        assert asked.post("/invocations", **known, headers=header).status_code == 403


def test_a_model_that_is_not_there_is_named_with_what_makes_it(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(CmgError, match="expected a model at models:/genre-classifier@champion, received"):
        scoring.build("models:/genre-classifier@champion")
