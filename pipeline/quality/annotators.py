"""Check that each annotator's name has one spelling."""

from __future__ import annotations

import pandas as pd

from pipeline.identity import first_spellings
from pipeline.quality.findings import Finding
from pipeline.untrusted import visible


def spelling_findings(annotations: pd.DataFrame) -> list[Finding]:
    """Return a warning that names the people with several spellings; nothing where there are none.

    Of two answers of such a person for one track the first counts.
    """
    # Once a name, since folding Unicode costs more than the rest.
    names = pd.Series(annotations["annotator"].unique(), dtype="str")
    shown = first_spellings(names)
    others = names[names != shown].groupby(shown[names != shown]).agg(list)
    if others.empty:
        return []
    rows = tuple((str(name), ", ".join(map(visible, several))) for name, several in others.items())
    return [
        Finding(
            check="annotator_spelling",
            severity="warning",
            column="annotator",
            expected="one spelling of each annotator's name",
            rows=rows,
            advice="They are taken for one person; correct mood_labels.csv if they are not.",
        )
    ]
