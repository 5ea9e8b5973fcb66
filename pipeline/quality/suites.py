"""The edge to Great Expectations: a table of checks in, findings and Data Docs out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from pipeline.errors import QualityError
from pipeline.quality.findings import Finding, Severity

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.data_context import EphemeralDataContext

# Beside the pages, so that one suite's run can list the other suites' latest results in the index.
_STORE: Final = ".store"
_RUN_NAME: Final = "latest"


@dataclass(frozen=True)
class Check:
    """One expectation, and what a failure of it means here.

    Parameters
    ----------
    name
        Name of the check in findings, parameters and Data Docs; several checks may share one.
    column
        The column that is looked at.
    expected
        What is expected, in words.
    advice
        What to do about a failure.
    expectation
        Class name in ``great_expectations.expectations``; a name, so that nothing imports it early.
    arguments
        Keyword arguments of that class; nothing means ``column`` alone.
    severity
        What a failure means unless the parameters say otherwise.
    excludes
        Whether a row that fails is left out of the rest of the pipeline.
    shown
        Columns quoted for an offending row; nothing means ``column``.
    """

    name: str
    column: str
    expected: str
    advice: str
    expectation: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity = "warning"
    excludes: bool = False
    shown: tuple[str, ...] = ()


def with_severity(checks: Sequence[Check], severity: Mapping[Any, Severity]) -> list[Check]:
    """Return the checks with the severities that the parameters ask for, by check name."""
    return [replace(check, severity=severity.get(check.name, check.severity)) for check in checks]


def run(
    table: pd.DataFrame, checks: Sequence[Check], *, name: str, row: str, docs: Path | None
) -> list[Finding]:
    """Run one expectation suite over ``table`` and return what failed, in the order of ``checks``.

    Parameters
    ----------
    table
        One row an item; its unnamed, unique index names the rows in the Data Docs.
    checks
        The suite.
    name
        Name of the suite and of its pages in the Data Docs, without dots.
    row
        Column that names a row in the findings.
    docs
        Folder of the Data Docs site; this suite's earlier pages in it are replaced, other suites'
        pages stay. None writes nothing.

    Raises
    ------
    QualityError
        An expectation could not be evaluated, for instance for want of its column.
    """
    with _site(docs, name=name) as store:
        results = _validate(table, checks, name=name, docs=docs, store=store)
    failed = {_position(result): result for result in results if not result.success}
    return [_finding(table, checks[at], failed[at], row=row) for at in sorted(failed)]


@contextmanager
def _site(docs: Path | None, *, name: str) -> Iterator[Path | None]:
    """Hold the Data Docs folder alone, forget the suite's earlier results, yield the results' folder."""
    if docs is None:
        yield None
        return
    from filelock import FileLock

    store = docs.resolve() / _STORE
    store.mkdir(parents=True, exist_ok=True)
    with FileLock(store / "lock"):
        # Great Expectations would list every earlier run beside this one.
        shutil.rmtree(store / "results" / name, ignore_errors=True)
        (store / "expectations" / f"{name}.json").unlink(missing_ok=True)
        yield store
        # Great Expectations copies 4 MB of fonts and logos beside the pages, which use none of them.
        shutil.rmtree(docs / "static", ignore_errors=True)


def _validate(
    table: pd.DataFrame, checks: Sequence[Check], *, name: str, docs: Path | None, store: Path | None
) -> list[ExpectationValidationResult]:
    """Run the checkpoint: the suite over the table, then the Data Docs."""
    import great_expectations as gx
    from great_expectations.checkpoint import UpdateDataDocsAction
    from great_expectations.core.run_identifier import RunIdentifier

    context = _context(docs, store=store)
    asset = context.data_sources.add_pandas("tables").add_dataframe_asset(name)
    definition = gx.ValidationDefinition(
        name=name,
        data=asset.add_batch_definition_whole_dataframe("whole"),
        suite=context.suites.add(_suite(checks, name=name)),
    )
    # A checkpoint, although there is one definition: no other object runs the action that writes the pages.
    checkpoint = gx.Checkpoint(
        name=name,
        validation_definitions=[context.validation_definitions.add(definition)],
        actions=[UpdateDataDocsAction(name="data_docs")] if docs else [],
        # Index labels, not columns: Great Expectations gathers columns cell by cell (minutes for
        # 100,000 rows).
        result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False},
    )
    result = context.checkpoints.add(checkpoint).run(
        batch_parameters={"dataframe": table}, run_id=RunIdentifier(run_name=_RUN_NAME)
    )
    return next(iter(result.run_results.values())).results


def _suite(checks: Sequence[Check], *, name: str) -> ExpectationSuite:
    """Build the suite; each expectation carries its check's name and its position in the table."""
    import great_expectations as gx

    return gx.ExpectationSuite(
        name=name,
        expectations=[
            getattr(gx.expectations, check.expectation)(
                **(check.arguments or {"column": check.column}),
                severity=check.severity,
                description=f"{check.name} [{check.severity}]: {check.expected}",
                notes=[check.advice],
                meta={"check": check.name, "position": position},
            )
            for position, check in enumerate(checks)
        ],
    )


def _context(docs: Path | None, *, store: Path | None) -> EphemeralDataContext:
    """Return a context that is configured here alone: no project folder, analytics or progress bars."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import DataContextConfig, ProgressBarsConfig

    return gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            stores={
                "expectations": {
                    "class_name": "ExpectationsStore",
                    "store_backend": _backend(store, "expectations"),
                },
                "results": {
                    "class_name": "ValidationResultsStore",
                    "store_backend": _backend(store, "results"),
                },
                "checkpoints": {"class_name": "CheckpointStore", "store_backend": _backend(None)},
                # This key is Great Expectations' own: its name cannot be set.
                "validation_definition_store": {
                    "class_name": "ValidationDefinitionStore",
                    "store_backend": _backend(None),
                },
            },
            expectations_store_name="expectations",
            validation_results_store_name="results",
            checkpoint_store_name="checkpoints",
            data_docs_sites={"data_docs": _site_builder(docs)} if docs else {},
            progress_bars=ProgressBarsConfig(globally=False),  # one for each expectation
            analytics_enabled=False,  # else it calls home
        ),
    )


def _backend(store: Path | None, folder: str = "") -> dict[str, Any]:
    """Return a store's backend: JSON files in ``store / folder``, or memory without ``store``."""
    if store is None:
        return {"class_name": "InMemoryStoreBackend"}
    return {
        "class_name": "TupleFilesystemStoreBackend",
        "base_directory": str(store / folder),
        "filepath_suffix": ".json",
        "suppress_store_backend_id": True,  # a random one would lie beside the results
    }


def _site_builder(docs: Path) -> dict[str, Any]:
    """Return the Data Docs site's configuration."""
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,  # they lead to pages on the web
        "site_section_builders": {
            "expectations": {"view": _page("PageView")},
            "validations": {"renderer": _page("ResultsRenderer"), "view": _page("PageView")},
        },
        "site_index_builder": {
            "class_name": "DefaultSiteIndexBuilder",
            "renderer": _page("IndexRenderer"),
            "view": _page("PageView"),
        },
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(docs.resolve()),
        },
    }


def _page(name: str) -> dict[str, str]:
    """Return how Great Expectations finds a class of the pages' own module."""
    return {"module_name": "pipeline.quality.data_docs", "class_name": name}


def _position(result: ExpectationValidationResult) -> int:
    """Return where the result's check stands in the table of checks; Great Expectations reorders them."""
    assert result.expectation_config is not None
    return result.expectation_config.meta["position"]


def _finding(table: pd.DataFrame, check: Check, result: ExpectationValidationResult, *, row: str) -> Finding:
    """Translate a failed expectation."""
    # A metric that failed puts its traceback one level deeper, under the metric's name.
    if (result.exception_info or {}).get("raised_exception", bool(result.exception_info)):
        raise QualityError(
            f"check {check.name} expected {check.expected}; it could not run: {result.exception_info}"
        )
    return Finding(
        check=check.name,
        severity=check.severity,
        column=check.column,
        expected=check.expected,
        rows=_rows(table, check, result.result, row=row),
        advice=check.advice,
        excludes=check.excludes,
    )


def _rows(
    table: pd.DataFrame, check: Check, result: Mapping[str, Any], *, row: str
) -> tuple[tuple[str, str], ...]:
    """Return ``(row, value)`` of the offending rows, or the observed value of a check of a whole column."""
    # An expectation about a whole column has no rows.
    if "observed_value" in result:
        return ((check.column, _text(result["observed_value"])),)
    if not result.get("unexpected_index_list"):
        return ()
    # By the index, which is unique; a track's id may be the very thing that is not.
    bad = table.loc[result["unexpected_index_list"]]
    values = (map(_text, bad[column]) for column in check.shown or (check.column,))
    return tuple(zip(bad[row].astype(str), map(", ".join, zip(*values, strict=True)), strict=True))


def _text(value: Any) -> str:
    """Return a cell as text; numbers to six digits, a missing or empty cell as ``blank``."""
    if pd.isna(value) or value == "":
        return "blank"
    return f"{float(value):.6g}" if isinstance(value, Real) else str(value)


DATA_DOCS: Final = Path("data_docs")
