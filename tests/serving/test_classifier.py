"""The registered model's code on a real ONNX graph, without a registry."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
from mlflow.exceptions import MlflowException

from pipeline import files
from pipeline.inference import audio, logmel
from pipeline.inference.normalise import Normaliser
from pipeline.training import backend, models

CLASSES = ["a", "b", "c"]
CARD = {
    "classes": CLASSES,
    "spectrogram": {"n_fft": 2048, "hop_length": 512, "n_mels": 128},
    "normaliser": Normaliser("l2").as_dict(),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("model")
    backend.prepare(seed=3)
    model = models.build("cnn64", (128, 431), len(CLASSES))
    model(np.zeros((1, 128, 431, 1), np.float32))
    model.export(folder / "model.onnx", format="onnx", verbose=False)
    files.write_json(folder / "card.json", CARD)
    from serving.classifier import Classifier

    classifier = Classifier()
    classifier.load_context(
        SimpleNamespace(artifacts={"graph": str(folder / "model.onnx"), "card": str(folder / "card.json")})
    )
    return SimpleNamespace(keras=model, classifier=classifier)


def encoded(seconds: float, rate: int = 22_050, format: str = "WAV") -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(5).normal(0, 0.1, round(seconds * rate))
    soundfile.write(stream, noise, rate, format=format)
    return stream.getvalue()


def test_same_probabilities_as_keras_on_the_stored_features(served: SimpleNamespace) -> None:
    content = encoded(30)
    features = logmel.features(audio.slices(audio.load(content)), logmel.LogMel())
    wanted = np.asarray(served.keras(Normaliser("l2")(features)[..., None], training=False))
    answer = served.classifier.predict(None, pd.DataFrame({"audio": [content]}), {"per_slice": True})
    assert len(answer) == 3
    np.testing.assert_allclose(answer[CLASSES].to_numpy(), wanted, atol=1e-5)


def test_track_is_the_mean_of_its_slices_and_does_not_depend_on_batch_mates(served: SimpleNamespace) -> None:
    contents = [encoded(30), encoded(4), encoded(12, rate=44_100, format="FLAC")]
    together = served.classifier.predict(None, pd.DataFrame({"audio": contents}))
    slices = served.classifier.predict(None, pd.DataFrame({"audio": contents}), {"per_slice": True})
    np.testing.assert_allclose(together, slices.groupby("row")[CLASSES].mean(), atol=1e-6)
    for row, content in enumerate(contents):
        alone = served.classifier.predict(None, pd.DataFrame({"audio": [content]}))
        np.testing.assert_array_equal(alone.iloc[0], together.iloc[row])


@pytest.mark.parametrize("content", [b"", b"no audio", encoded(1)[:30], "no base64", 3.5])
def test_rows_without_audio_are_named_and_no_others(served: SimpleNamespace, content: object) -> None:
    table = pd.DataFrame({"audio": [encoded(1), content, encoded(1), content]})
    with pytest.raises(MlflowException, match=r"^row 1: expected .*; row 3: expected ") as caught:
        served.classifier.predict(None, table)
    assert caught.value.get_http_status_code() == 400
    assert "row 0" not in str(caught.value)


@pytest.mark.parametrize("cell", [str, bytes, np.bytes_])
def test_base64_is_audio_too(served: SimpleNamespace, cell: type) -> None:
    text = base64.b64encode(encoded(2))
    value = text.decode() if cell is str else cell(text)
    answer = served.classifier.predict(None, pd.DataFrame({"audio": [value]}))
    wanted = served.classifier.predict(None, pd.DataFrame({"audio": [encoded(2)]}))
    np.testing.assert_array_equal(answer, wanted)


@pytest.mark.parametrize("per_slice", [False, True])
def test_no_rows_give_no_rows(served: SimpleNamespace, per_slice: bool) -> None:
    answer = served.classifier.predict(None, pd.DataFrame({"audio": []}), {"per_slice": per_slice})
    assert answer.empty
    assert list(answer.columns)[-3:] == CLASSES
