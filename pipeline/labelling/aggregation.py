"""Annotations that differ become one soft label a track: shares, majority, or Dawid–Skene.

``share`` keeps the annotators' disagreement as it is. ``majority`` drops it. ``dawid_skene`` learns how
reliable each annotator is and returns the posterior of the one true class; it outvotes spammers, and is
surer of itself than the annotators are. All annotations are tables of ``track_id`` and ``label``, some
with ``annotator`` and ``weight``.
"""

from __future__ import annotations

import warnings
from typing import Any, Final

import numpy as np
import pandas as pd

from pipeline.params import Aggregation

# A confusion matrix of ten classes says nothing on fewer labels: such annotators share one.
FEWEST_LABELS: Final = 10

_ITERATIONS: Final = 100
_DIGITS: Final = 6
_OCCASIONAL: Final = "occasional"  # those with fewer labels; the others go by numbers
_COLUMNS: Final = ["track_id", "annotator", "label"]


def aggregate(
    annotations: pd.DataFrame, classes: tuple[str, ...], method: Aggregation = "share"
) -> pd.DataFrame:
    """Turn annotations into one row a track.

    Parameters
    ----------
    annotations
        Columns ``track_id`` and ``label`` (one of ``classes``); for ``share`` also ``weight`` (above 0),
        which the other methods do not look at; for ``dawid_skene`` also ``annotator``.
    classes
        All classes, also those nobody chose.
    method
        How annotations that differ become one label.

    Returns
    -------
    pd.DataFrame
        ``track_id``, ``label``, ``n_labels``, ``agreement`` (share of the annotations that chose ``label``,
        whatever the method) and a ``p_<class>`` each, sorted by track. Of equals the first of ``classes``
        wins.

    Examples
    --------
    >>> said = pd.DataFrame({"track_id": ["a", "a", "a"], "label": ["calm", "epic", "calm"], "weight": 1.0})
    >>> aggregate(said, ("calm", "epic")).to_dict("records") == [
    ...     {"track_id": "a", "label": "calm", "n_labels": 3, "agreement": 0.666667,
    ...      "p_calm": 0.666667, "p_epic": 0.333333}
    ... ]
    True
    """
    weighed = annotations if method == "share" else annotations.assign(weight=1.0)
    share = shares(weighed, classes)
    soft = _soft(annotations, share, classes, method)
    label = soft.idxmax(axis=1)
    chosen = share.to_numpy()[np.arange(len(share)), share.columns.get_indexer(label)]
    out = pd.DataFrame(
        {
            "label": label,
            "n_labels": annotations.groupby("track_id").size().reindex(share.index),
            "agreement": chosen.round(_DIGITS),
        }
    )
    return pd.concat([out, soft.round(_DIGITS).add_prefix("p_")], axis=1).sort_index().reset_index()


def _soft(
    annotations: pd.DataFrame, share: pd.DataFrame, classes: tuple[str, ...], method: Aggregation
) -> pd.DataFrame:
    """Return the soft labels by the method asked for, in the order of ``share``."""
    if method == "dawid_skene":
        return dawid_skene(annotations, classes)[0].reindex(share.index)
    if method == "majority":
        winner = share.to_numpy().argmax(axis=1)  # of equals the first class
        return pd.DataFrame(np.eye(share.shape[1])[winner], index=share.index, columns=share.columns)
    return share


def shares(annotations: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """Return each class's share of a track's weights, 0 to 1: one row per track, one column per class."""
    table = annotations.pivot_table(
        index="track_id", columns="label", values="weight", aggfunc="sum", fill_value=0.0, observed=True
    ).reindex(columns=list(classes), fill_value=0.0)
    return table.div(table.sum(axis=1), axis=0)


def dawid_skene(annotations: pd.DataFrame, classes: tuple[str, ...]) -> tuple[pd.DataFrame, pd.Series]:
    """Fit Dawid and Skene's model of annotators who err (1979) by expectation maximisation.

    Annotators with fewer than ten labels share one confusion matrix: of a single label the model would learn
    that it means nothing.

    Parameters
    ----------
    annotations
        Columns ``track_id``, ``annotator`` and ``label``; their order does not matter.
    classes
        All classes, also those nobody chose.

    Returns
    -------
    posterior : pd.DataFrame
        Probability of each class, 0 to 1: one row per track, one column per class; rows sum to 1.
    reliability : pd.Series
        By annotator, in order of name: the probability, 0 to 1, that a label of theirs is the true one.
        It is the shared figure for annotators with fewer than ten labels.
    """
    from crowdkit.aggregation.classification.dawid_skene import DawidSkene

    rows = annotations[_COLUMNS].sort_values(_COLUMNS)
    annotator = rows["annotator"]
    number = pd.Series(annotator.factorize(sort=True)[0].astype(str), index=rows.index)
    # The occasional ones share a name, and with it a confusion matrix.
    worker = number.where(annotator.map(annotator.value_counts()) >= FEWEST_LABELS, _OCCASIONAL)
    data = pd.DataFrame({"task": rows["track_id"], "worker": worker, "label": rows["label"]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's use of pandas is older than our pandas
        model: Any = DawidSkene(n_iter=_ITERATIONS).fit(data.astype(str).reset_index(drop=True))
    posterior = model.probas_.reindex(columns=list(classes), fill_value=0.0).rename_axis(columns=None)
    own = pd.Series(worker.to_numpy(), index=annotator.to_numpy()).groupby(level=0).first()
    reliability = own.map(_reliability(model.errors_, model.priors_)).rename("reliability")
    posterior = posterior.div(posterior.sum(axis=1), axis=0).rename_axis("track_id").sort_index()
    return posterior, reliability


def _reliability(errors: pd.DataFrame, priors: pd.Series) -> pd.Series:
    """Return each worker's chance to name the true class.

    Parameters
    ----------
    errors
        Index (worker, label), one column per true class: the probability that the worker gives the label.
    priors
        Probability of each true class.
    """
    said = errors.index.get_level_values("label")
    right = errors.to_numpy()[np.arange(len(errors)), errors.columns.get_indexer(said)]
    return pd.Series(right * priors[said].to_numpy(), index=errors.index).groupby(level="worker").sum()
