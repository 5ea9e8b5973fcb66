"""A model in words, in Markdown, as MLflow shows it at a run and at a registered version."""

from __future__ import annotations

from typing import Any, Final

from pipeline.untrusted import visible

_PROTOCOLS: Final = {
    "artist": "no artist and no duplicate is in two parts, where the artists are known",
    "fault_filtered": "GTZAN's published lists, cleaned of faults and split by artist",
    "track": "tracks at random: **optimistic**, as other tracks of a test artist were trained on",
    "shuffled": "slices at random: **leaky**, parts of a recording are in training and test; never promoted",
}
_PARTS: Final = ("train", "valid", "test")

_NAMES: Final = ("training", "validation", "test")
_HEARD: Final = {
    "logmel": "its log-mel spectrogram",
    "musicnn": "what the frozen network musicnn, trained on the Million Song Dataset, hears in it",
}
_SYNTHETIC: Final = " (**synthetic**: made by a program, so it says nothing about real music)"


def description(card: dict[str, Any], metrics: dict[str, Any]) -> str:
    """Return what a model is for, what it learned from, how good it is, and what it cannot do.

    Parameters
    ----------
    card
        As the stage ``train`` writes it.
    metrics
        As the stage ``evaluate`` writes them.

    Examples
    --------
    >>> card = {"task": "mood", "model": "lenet5", "params": 7, "classes": ["calm", "epic"]}
    >>> card |= {"protocol": "track", "dataset": {"name": "mine", "synthetic": False}}
    >>> track = {"accuracy": 0.5, "accuracy_ci": [0.2, 0.8], "macro_f1": 0.4, "most_frequent": 0.6}
    >>> part = {"n_tracks": 9, "track": track}
    >>> print(description(card, {"train": part, "valid": part, "test": part}).splitlines()[4])
    **Right for 50.0 %** of 9 test tracks [20.0 %, 80.0 %]; always the most frequent class: 60.0 %.
    """
    test = metrics["test"]
    track, dataset = test["track"], card["dataset"]
    low, high = track["accuracy_ci"]
    floor = ""
    if "most_frequent" in track:
        floor = f"; always the most frequent class: {_percent(track['most_frequent'])}"
    sizes = ", ".join(
        f"{metrics[part]['n_tracks']} {name}" for part, name in zip(_PARTS, _NAMES, strict=True)
    )
    lines = [
        f"{card['model']}, {card['params']:,} parameters: the {card['task']} of music among "
        f"{len(card['classes'])} classes, from {_HEARD[card.get('front_end', 'logmel')]}.",
        "",
        f"*Learned from* `{visible(dataset['name'])}`{_SYNTHETIC if dataset['synthetic'] else ''}: {sizes} "
        f"tracks. *Protocol* `{card['protocol']}`: {_PROTOCOLS[card['protocol']]}.",
        "",
        f"**Right for {_percent(track['accuracy'])}** of {test['n_tracks']} test tracks "
        f"[{_percent(low)}, {_percent(high)}]{floor}.",
        "",
        "*Classes:* " + ", ".join(visible(name) for name in card["classes"]) + ".",
        "",
        f"*Limits:* {_limits(metrics)} The interval is of the test tracks alone; another seed or split moves "
        "the score further.",
    ]
    own = "the weights were learned from these tracks alone; this project adds no terms to theirs"
    lines += ["", f"*Licence:* {_frozen(card) or own}."]
    return "\n".join(lines)


def _frozen(card: dict[str, Any]) -> str:
    return f"the frozen network's weights are {card['licence']}" if "licence" in card else ""


def _limits(metrics: dict[str, Any]) -> str:
    """Say what is known of when the model is wrong."""
    known = metrics.get("calibration")
    if known is None:
        return (
            "it names one of its classes whatever it hears, even speech or noise, and its probabilities are "
            "not calibrated."
        )
    track = metrics["test"]["track"]
    calibrated = f"its probabilities are calibrated on validation (temperature {known['temperature']:g})"
    if known["threshold"] is None:
        return f"{calibrated}, but no probability is high enough for an answer that is surely right."
    said = f"{calibrated}. It is sure where its probability is at least {known['threshold']:.2f}"
    if "coverage" in track:
        said += f": of {_percent(track['coverage'])} of the test tracks"
    if "sure_accuracy" in track:
        said += f", and is right for {_percent(track['sure_accuracy'])} of these"
    return f"{said}."


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
