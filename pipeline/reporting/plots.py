"""The pictures, written as PNG files that are the same to the byte every time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from pipeline.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 110
_STYLE: Final[dict[str, Any]] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "figure.dpi": _DPI,
}
_COLOURS = {"train": "#9aa5b1", "valid": "#1f6feb"}


def new_figure(width: float, height: float, **kwargs: Any) -> tuple[Figure, Any]:
    """Return a figure of ``width`` x ``height`` inches and its axes; nothing is drawn on a screen."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    mpl.rcParams.update(_STYLE)  # type: ignore[arg-type]  # its stub lists every key
    figure = Figure(figsize=(width, height), layout="constrained")  # makes room for long names
    # Without pyplot, which would keep every figure and look for a screen.
    FigureCanvasAgg(figure)
    return figure, figure.subplots(**kwargs)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG without the metadata that would name the library's version."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, metadata={"Software": None})


def confusion(counts: np.ndarray, classes: list[str], title: str, path: Path) -> None:
    """Draw a heatmap of counts, coloured by the share of each true class.

    Parameters
    ----------
    counts
        int (n_classes, n_classes): one row per true class, one column per predicted class.
    classes, title, path
        Names, heading, and where to write.
    """
    # Not scikit-learn's ConfusionMatrixDisplay: it colours a cell by the number that it writes there, and a
    # class of many tracks would outshine the others.
    side = 2.6 + 0.52 * len(classes)  # inches: the margins, and a cell for each class
    figure, axes = new_figure(side + 0.6, side)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # 0 in a row without tracks
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        ink = "white" if share[row, column] > 0.55 else "#24292f" if counts[row, column] else "#c8d0d8"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=ink)
    axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    save(figure, path)


def timeline(
    loudness: np.ndarray, shares: np.ndarray, classes: list[str], seconds: float, title: str, path: Path
) -> None:
    """Draw a track's loudness, and below it the probability of each class over time as stacked bands.

    Parameters
    ----------
    loudness
        (n_parts,), 0 to 1, of equal parts of the track.
    shares
        (n_windows, n_classes): probabilities in each of equal parts of the track.
    classes, seconds, title, path
        Names, the track's length, heading, and where to write.
    """
    figure, (top, bottom) = new_figure(9, 4, nrows=2, sharex=True, height_ratios=[1, 3])
    places = np.linspace(0, seconds, len(loudness))
    top.fill_between(places, -loudness, loudness, color=_COLOURS["train"], linewidth=0)
    top.set_axis_off()
    top.set_title(title)
    edges = np.linspace(0, seconds, len(shares) + 1)
    low = np.zeros(len(shares))
    for number in np.argsort(-shares.mean(axis=0), kind="stable"):  # the strongest at the bottom
        high = low + shares[:, number]
        bottom.stairs(high, edges, baseline=low, fill=True, color=f"C{number}", label=classes[number])
        low = high
    bottom.set(xlim=(0, seconds), ylim=(0, 1), ylabel="probability", xlabel="minutes and seconds")
    bottom.xaxis.set_major_formatter(lambda at, _: f"{int(at) // 60}:{int(at) % 60:02}")
    bottom.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), reverse=True)
    save(figure, path)


def curves(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw loss and accuracy of training and validation over the epochs."""
    figure, (left, right) = new_figure(9, 3.2, ncols=2)
    _curve(left, table, "loss")
    _curve(right, table, "accuracy")
    right.set_ylim(0, 1)  # the same in all pictures, to be compared
    best = table["epoch"][table["kept"].idxmax()]
    for axes in (left, right):
        axes.axvline(best, color="#d0d7de", zorder=0, label="kept epoch")
    left.legend(frameon=False)
    left.set_title(title)
    save(figure, path)


def _curve(axes: Axes, table: pd.DataFrame, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for part, column in (("train", name), ("valid", f"val_{name}")):
        axes.plot(table["epoch"], table[column], color=_COLOURS[part], marker="o", ms=3, label=part)
    axes.set(xlabel="epoch", ylabel=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def calibration(
    shares: np.ndarray, probabilities: np.ndarray, before: np.ndarray, n_bins: int, title: str, path: Path
) -> None:
    """Draw agreement with the annotators against confidence, in grey ``before`` calibration.

    Large dots are large bins. Where labels are hard, agreement is accuracy.
    """
    # Not scikit-learn's CalibrationDisplay: its dots are all of one size, be it one track or fifty.
    figure, axes = new_figure(4.4, 4)
    axes.plot([0, 1], [0, 1], color="#d0d7de", zorder=0)  # where confidence is accuracy
    for said, colour in ((before, "#d0d7de"), (probabilities, _COLOURS["valid"])):
        confidence = said.max(axis=1)
        hit = np.take_along_axis(shares, said.argmax(axis=1)[:, None], axis=1)[:, 0]
        number = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
        for bin_number in np.unique(number):
            inside = number == bin_number
            area = 20 + 400 * inside.mean()  # points squared; a single track is still seen
            axes.scatter(confidence[inside].mean(), hit[inside].mean(), s=area, color=colour)
    hard = bool((shares.max(axis=1) == 1).all())
    agreement = "accuracy" if hard else "share of annotators who agree"
    axes.set(xlabel="confidence", ylabel=agreement, title=title, xlim=(0, 1), ylim=(-0.03, 1.03))
    save(figure, path)


def embedding(
    places: np.ndarray, truth: np.ndarray, right: np.ndarray, classes: list[str], title: str, path: Path
) -> None:
    """Draw tracks where the model's last layer has them, in the colour of their class.

    Parameters
    ----------
    places
        (n, 2), any unit.
    truth, right
        Class numbers, and whether they were answered, (n,).
    classes, title, path
        Names, heading, and where to write.
    """
    figure, axes = new_figure(6.4, 4.4)
    for number in np.unique(truth):
        own, colour = truth == number, f"C{number % 10}"
        axes.scatter(*places[own & right].T, s=36, color=colour, label=classes[number])
        axes.scatter(*places[own & ~right].T, s=36, marker="x", color=colour)
    axes.set(xlabel="first component", ylabel="second component", title=title, xticks=[], yticks=[])
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path)


def abstention(
    coverage: np.ndarray, accuracy: np.ndarray, sure: tuple[float, float] | None, title: str, path: Path
) -> None:
    """Draw how right the surest answers are; ``sure`` marks coverage and accuracy at the threshold."""
    figure, axes = new_figure(4.4, 4)
    axes.plot(coverage, accuracy, color=_COLOURS["valid"], drawstyle="steps-pre")
    if sure:
        axes.plot(*sure, "o", color=_COLOURS["train"], ms=8, label="at the threshold")
        axes.legend(frameon=False, loc="lower left")
    axes.set(xlabel="share of tracks answered, the surest first", ylabel="accuracy", title=title)
    axes.set(xlim=(0, 1.02), ylim=(-0.03, 1.03))
    save(figure, path)
