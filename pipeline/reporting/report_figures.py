"""The report's own pictures, as PNG bytes that are the same every time."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from pipeline.inference.audio import SAMPLE_RATE
from pipeline.reporting.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI: Final = 150
_FREQUENCIES: Final = (100, 500, 1000, 2000, 5000, 10000)  # Hz, the marks of the mel axis
_DYNAMIC_RANGE: Final = 80.0  # dB below a slice's maximum, where the features are cut off
_INK: Final = {"promotable": "#1f6feb", "optimistic": "#bf8700", "leaky": "#8c959f"}


@dataclass(frozen=True)
class Point:
    """One result of the comparison.

    Parameters
    ----------
    label
        Who was measured, and how.
    accuracy
        Share of right answers, 0 to 1.
    interval
        Ends of the 95 % interval; None where nobody published one.
    kind
        ``"promotable"``, ``"optimistic"`` or ``"leaky"``.
    """

    label: str
    accuracy: float
    interval: tuple[float, float] | None
    kind: str


def comparison(points: dict[str, list[Point]], floors: dict[str, float]) -> bytes:
    """Draw every accuracy with its interval, one panel per task.

    Parameters
    ----------
    points
        Results by task, best shown in the order given.
    floors
        By task: the accuracy of always naming the most frequent class, 0 to 1.
    """
    rows = [len(some) for some in points.values()]
    figure, panels = new_figure(
        7.4,
        0.6 + sum(0.3 * n + 0.7 for n in rows),  # inches: the lowest axis, and each panel with its title
        nrows=len(rows),
        sharex=True,
        squeeze=False,  # two dimensions, also of one panel
        height_ratios=rows,
    )
    for axes, (task, some) in zip(panels[:, 0], points.items(), strict=True):
        _results(axes, task, some, floors[task])
    panels[-1, 0].set(xlim=(0, 1), xlabel="accuracy on the test part")
    return _png(figure)


def _results(axes: Axes, task: str, points: list[Point], floor: float) -> None:
    axes.axvline(floor, color="#d1242f", lw=1, ls="--", zorder=0)
    said = " always the most frequent class"
    axes.text(floor, 0, said, color="#d1242f", transform=axes.get_xaxis_transform(), va="bottom")
    for row, point in enumerate(points):
        ink = _INK[point.kind]
        low, high = point.interval or (point.accuracy, point.accuracy)  # a dot without a line
        axes.plot([low, high], [row, row], color=ink, lw=2, solid_capstyle="round")
        inside = "white" if point.kind == "leaky" else ink  # hollow: do not believe it
        shape = "o" if point.interval else "D"  # a diamond was published without an interval
        axes.plot(point.accuracy, row, shape, ms=7, color=ink, markerfacecolor=inside, clip_on=False)
        axes.annotate(f"{point.accuracy:.3f}", (high, row), (8, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(points)), [point.label for point in points])
    axes.set(ylim=(len(points) + 0.2, -0.6), title=task)  # the first on top
    axes.grid(axis="x", color="#eaeef2")
    axes.set_axisbelow(True)


def label_history(rejected: list[float], alpha: list[float]) -> bytes:
    """Draw the quality of new labels over the intakes.

    Parameters
    ----------
    rejected
        Share of each intake's rows that was rejected, 0 to 1.
    alpha
        Krippendorff's alpha of all labels after each intake, at most 1; may be NaN.
    """
    figure, (above, below) = new_figure(7.4, 3.4, nrows=2, sharex=True)
    numbers = range(1, len(rejected) + 1)
    above.bar(numbers, [100 * share for share in rejected], color="#bf8700", width=0.6)
    above.set(ylabel="rows rejected, %", ylim=(0, None))
    # Alpha of one annotator is NaN: a gap in the line.
    below.plot(numbers, alpha, "o-", color="#1f6feb")
    # At most twenty ticks, however many intakes there were.
    below.set(ylabel="agreement (alpha)", xlabel="intake", xticks=list(numbers)[:: 1 + len(numbers) // 20])
    for axes in (above, below):
        axes.grid(axis="y", color="#eaeef2")
        axes.set_axisbelow(True)
    return _png(figure)


def examples(labels: pd.DataFrame, classes: list[str]) -> dict[str, str]:
    """Return a track for each class that has one: the one most agreed upon, then the first by id.

    Parameters
    ----------
    labels
        From `pipeline.stages.labels`: ``track_id``, ``label``, ``n_labels``, ``agreement``.
    classes
        In the order to show.
    """
    ranked = labels.sort_values(["agreement", "n_labels", "track_id"], ascending=[False, False, True])
    first = ranked.drop_duplicates("label").set_index("label")["track_id"]
    return {name: str(first[name]) for name in classes if name in first.index}


def spectrogram(clip: np.ndarray, hop_length: int) -> bytes:
    """Draw one slice over seconds and hertz, in dB below its own maximum.

    Parameters
    ----------
    clip
        Log-mel spectrogram (n_mels, frames) in dB.
    hop_length
        Samples from frame to frame.
    """
    level = np.asarray(clip, np.float32)
    figure, axes = new_figure(2.6, 2.0)
    n_mels, frames = level.shape
    image = axes.imshow(
        level - level.max(),
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=-_DYNAMIC_RANGE,
        vmax=0,
        extent=(0, frames * hop_length / SAMPLE_RATE, -0.5, n_mels - 0.5),  # a band's number is its centre
    )
    axes.set_yticks(mel_bands(_FREQUENCIES, n_mels), [f"{hertz / 1000:g}" for hertz in _FREQUENCIES])
    axes.set(xlabel="s", ylabel="kHz")
    figure.colorbar(image, label="dB", ticks=[-80, -40, 0], aspect=30)
    return _png(figure)


def mel_bands(frequencies: tuple[int, ...], n_mels: int) -> np.ndarray:
    """Return where frequencies in Hz lie on an axis of mel-band numbers 0 to ``n_mels`` - 1."""
    import librosa

    # The outer two are edges of the first and the last band, and no centres.
    centres = librosa.mel_frequencies(n_mels + 2, fmin=0, fmax=SAMPLE_RATE / 2)[1:-1]
    return np.interp(frequencies, centres, np.arange(n_mels))


def _png(figure: Figure) -> bytes:
    """Return a PNG of at most 256 colours, a third of the size, without the library's version."""
    from PIL import Image

    stream, small = io.BytesIO(), io.BytesIO()
    figure.savefig(stream, dpi=_DPI, metadata={"Software": None})
    Image.open(stream).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        small, "PNG", optimize=True
    )
    return small.getvalue()
