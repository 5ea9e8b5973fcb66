"""How far annotators agree: Krippendorff's alpha, overall and by mood, and who differs from whom in what.

Annotations are tables of ``track_id``, ``mood`` (in any accepted spelling; others are left out) and
``annotator``. Alpha is 1 where all agree, 0 where they agree no more than chance would have them, below 0
where they do so less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from pipeline import identity
from pipeline.labelling import aggregation
from pipeline.quality.findings import Finding
from pipeline.taxonomy import canonical_mood, moods

# Landis and Koch (1977) call agreement below 0.2 slight at best; half of that is next to none. The moods of
# Emotify's real listeners lie between 0.00 and 0.19.
LOWEST_ALPHA: Final = 0.1
FEWEST_LABELS: Final = 20  # of a mood, on tracks with a second label: fewer say nothing about it

_DIGITS: Final = 4


@dataclass(frozen=True)
class Agreement:
    """What `report` found.

    Parameters
    ----------
    n_labels, n_tracks, n_annotators
        Of all annotations whose mood is known.
    n_shared
        Tracks with two labels or more; only these say anything about agreement.
    n_unknown, n_repeats
        Labels left out, since their mood is not in the taxonomy; labels that an annotator gave a track again.
    alpha
        Krippendorff's nominal alpha, at most 1; NaN where it is not defined.
    classes
        From `alpha_per_class`, with ``flagged``: nobody agrees on it.
    annotators
        From `annotators`, without those below ten labels.
    occasional
        Those below ten labels together: ``annotators``, ``n``, ``n_compared``, ``agreement``,
        ``reliability``.
    confusions
        From `confusions`: all of every annotator's.
    confused_moods
        Those of all annotators together: ``said``, ``others`` and ``n``, most frequent first.
    """

    n_labels: int
    n_tracks: int
    n_annotators: int
    n_shared: int
    n_unknown: int
    n_repeats: int
    alpha: float
    classes: pd.DataFrame
    annotators: pd.DataFrame
    occasional: dict[str, Any]
    confusions: pd.DataFrame
    confused_moods: pd.DataFrame

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types; None where a figure is not defined."""
        names = ("classes", "annotators", "confusions", "confused_moods")
        tables = {name: getattr(self, name) for name in names}
        counts = ("n_labels", "n_tracks", "n_annotators", "n_shared", "n_unknown", "n_repeats")
        return (
            {name: getattr(self, name) for name in counts}
            | {"alpha": _plain(self.alpha)}
            | {name: records(table) for name, table in tables.items()}
            | {"occasional": {name: _plain(value) for name, value in self.occasional.items()}}
        )


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows as plain JSON types; None where a value is missing."""
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and np.isnan(value) else value


def _known(annotations: pd.DataFrame) -> pd.DataFrame:
    """Return ``track_id``, ``annotator`` and ``label``, the taxonomy's spelling, without unknown moods."""
    spelling = {name: canonical_mood(str(name)) for name in annotations["mood"].dropna().unique()}
    table = annotations[["track_id", "annotator"]].astype("str").fillna("")
    table["label"] = annotations["mood"].map(spelling)
    table["annotator"] = identity.first_spellings(table["annotator"])
    return table[table["label"].notna()].reset_index(drop=True)


def _shared(known: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of tracks with a second label."""
    return known[known["track_id"].duplicated(keep=False)]


def alpha(annotations: pd.DataFrame) -> float:
    """Return Krippendorff's nominal alpha, at most 1.

    NaN where it is not defined: no track has two labels, or all such tracks' labels are the same mood.
    """
    return _alpha(_shared(_known(annotations)))


def _alpha(shared: pd.DataFrame) -> float:
    if shared["label"].nunique() < 2:
        return float("nan")  # the library would say 1
    from crowdkit.metrics.data import alpha_krippendorff

    names = {"track_id": "task", "annotator": "worker"}
    return round(float(alpha_krippendorff(shared.rename(columns=names))), _DIGITS)


def alpha_per_class(annotations: pd.DataFrame) -> pd.DataFrame:
    """Return how far annotators agree on each mood against all others.

    Returns
    -------
    pd.DataFrame
        Every mood of the taxonomy, in its order: ``mood``, ``n`` (labels on tracks with a second one) and
        ``alpha`` of "this mood or another"; NaN where it is not defined.
    """
    shared = _shared(_known(annotations))
    rows = [
        (mood, int((shared["label"] == mood).sum()), _alpha(shared.assign(label=shared["label"] == mood)))
        for mood in moods()
    ]
    return pd.DataFrame(rows, columns=["mood", "n", "alpha"])


def disputed(classes: pd.DataFrame) -> pd.Series:
    """Return which rows of `alpha_per_class` nobody agrees on: alpha below 0.1, of 20 labels or more."""
    return (classes["alpha"] < LOWEST_ALPHA) & (classes["n"] >= FEWEST_LABELS)


def findings(annotations: pd.DataFrame) -> list[Finding]:
    """Return a warning that names the moods nobody agrees on; nothing where there is none."""
    classes = alpha_per_class(annotations)
    flagged = classes[disputed(classes)]
    if flagged.empty:
        return []
    rows = tuple((str(row.mood), f"alpha {row.alpha:.2f} of {row.n} labels") for row in flagged.itertuples())
    return [
        Finding(
            check="mood_agreement",
            severity="warning",
            column="mood",
            expected=f"annotators who agree on a mood (Krippendorff's alpha at least {LOWEST_ALPHA})",
            rows=rows,
            advice="Talk its two poles over with the annotators, or do not trust its scores.",
        )
    ]


def _against_others(known: pd.DataFrame) -> pd.DataFrame:
    """Compare each label with the majority of the same track's other labels.

    Returns
    -------
    pd.DataFrame
        ``annotator``, ``said``, ``others`` (the others' most frequent mood, of equals the taxonomy's
        first) and ``agrees``: 0 or 1, and 1/k where ``said`` is one of k that the others chose equally
        often. One row per label that has others to compare with.
    """
    shared = _shared(known)
    mood = pd.Index(moods()).get_indexer(shared["label"])
    track = shared["track_id"].factorize()[0]
    counts = np.zeros((track.max(initial=-1) + 1, len(moods())), np.int64)
    np.add.at(counts, (track, mood), 1)
    others = counts[track]  # (n_labels, n_moods)
    row = np.arange(len(shared))
    others[row, mood] -= 1
    top = others == others.max(axis=1, keepdims=True, initial=0)
    return pd.DataFrame(
        {
            "annotator": shared["annotator"].to_numpy(),
            "said": shared["label"].to_numpy(),
            "others": np.array(moods(), object)[top.argmax(axis=1)],
            "agrees": top[row, mood] / top.sum(axis=1),
        }
    )


def confusions(annotations: pd.DataFrame) -> pd.DataFrame:
    """Return what annotators said where the others said something else.

    Returns
    -------
    pd.DataFrame
        ``annotator``, ``said``, ``others`` (the majority of the others) and ``n``, most frequent first. A
        label that is one of the others' most frequent ones is no confusion.
    """
    return _confusions(_against_others(_known(annotations)))


def _confusions(compared: pd.DataFrame) -> pd.DataFrame:
    by = ["annotator", "said", "others"]
    wrong = compared[compared["agrees"] == 0]
    return _most_first(wrong.groupby(by).size().rename("n").reset_index(), by)


def _most_first(counts: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Sort by ``n``, the largest first; equals by name."""
    return counts.sort_values(["n", *by], ascending=[False, *[True] * len(by)], ignore_index=True)


def annotators(annotations: pd.DataFrame) -> pd.DataFrame:
    """Return how reliable each annotator is.

    Returns
    -------
    pd.DataFrame
        Most labels first: ``annotator``; ``n`` labels; ``n_compared``, those on tracks that others
        labelled too; ``agreement`` with the majority of the others, 0 to 1, a tie of k counting 1/k;
        ``reliability``, Dawid and Skene's chance that a label is the true one, 0 to 1; and the most
        frequent confusion: ``said`` where the ``others`` said something else, ``times``. Blank or NaN
        where there is nothing to tell: reliability needs ten labels.
    """
    known = _known(annotations)
    compared = _against_others(known)
    return _annotators(known, compared, _confusions(compared), _dawid_skene(known))


def _dawid_skene(known: pd.DataFrame) -> pd.Series:
    """Return every annotator's reliability; that of the occasional ones is the same figure."""
    if known.empty:
        return pd.Series(dtype=float)
    return aggregation.dawid_skene(known, moods())[1]


def _annotators(
    known: pd.DataFrame, compared: pd.DataFrame, confused: pd.DataFrame, reliability: pd.Series
) -> pd.DataFrame:
    count = known.groupby("annotator").size()
    by = compared.groupby("annotator")["agrees"]
    worst = confused.drop_duplicates("annotator")
    table = pd.DataFrame(
        {
            "n": count,
            "n_compared": by.size().reindex(count.index, fill_value=0),
            "agreement": by.mean().round(_DIGITS),
            "reliability": reliability.round(_DIGITS).where(count >= aggregation.FEWEST_LABELS),
        },
        index=count.index,
    )
    table = table.join(worst.rename(columns={"n": "times"}).set_index("annotator"))
    table = table.fillna({"said": "", "others": "", "times": 0}).astype({"times": int})
    return table.reset_index().sort_values(["n", "annotator"], ascending=[False, True], ignore_index=True)


def report(annotations: pd.DataFrame) -> Agreement:
    """Return every figure on a set of annotations."""
    known = _known(annotations)
    compared, reliability = _against_others(known), _dawid_skene(known)
    confused, pair = _confusions(compared), ["said", "others"]
    people = _annotators(known, compared, confused, reliability)
    regular = people["n"] >= aggregation.FEWEST_LABELS
    classes = alpha_per_class(annotations)
    return Agreement(
        n_labels=len(known),
        n_tracks=known["track_id"].nunique(),
        n_annotators=len(people),
        n_shared=_shared(known)["track_id"].nunique(),
        n_unknown=len(annotations) - len(known),
        n_repeats=int(known.duplicated(["track_id", "annotator"]).sum()),
        alpha=alpha(annotations),
        classes=classes.assign(flagged=disputed(classes)),
        annotators=people[regular],
        occasional=_occasional(people[~regular], compared, reliability),
        confusions=confused,
        confused_moods=_most_first(confused.groupby(pair, as_index=False)["n"].sum(), pair),
    )


def _occasional(people: pd.DataFrame, compared: pd.DataFrame, reliability: pd.Series) -> dict[str, Any]:
    """Return the figures of those with few labels, taken together."""
    theirs = compared.loc[compared["annotator"].isin(people["annotator"]), "agrees"]
    return {
        "annotators": len(people),
        "n": int(people["n"].sum()),
        "n_compared": len(theirs),
        "agreement": round(float(theirs.mean()), _DIGITS),
        "reliability": round(float(reliability.reindex(people["annotator"]).mean()), _DIGITS),
    }
