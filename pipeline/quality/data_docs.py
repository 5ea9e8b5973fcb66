"""The pages of the Data Docs: Great Expectations' content in the project's own page, without a network.

Great Expectations imports this module by its name, and only where it writes pages.
"""

from __future__ import annotations

import copy
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from great_expectations.core import ExpectationSuiteValidationResult
from great_expectations.render import (
    RenderedDocumentContent,
    RenderedSectionContent,
    RenderedStringTemplateContent,
    RenderedTableContent,
)
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView
from jinja2 import BytecodeCache, ChoiceLoader, FileSystemLoader
from jinja2.bccache import Bucket

import pipeline.templates

_TEMPLATES: Final = Path(pipeline.templates.__file__).parent


class _Compiled(BytecodeCache):
    """Compiled templates of this process: Great Expectations would compile all of them anew for each page."""

    def __init__(self) -> None:
        self._code: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._code:
            bucket.bytecode_from_string(self._code[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._code[bucket.key] = bucket.bytecode_to_string()


_COMPILED: Final = _Compiled()


class PageView(DefaultJinjaPageView):
    """Any page of the site; templates of this project go before Great Expectations' of the same name.

    Great Expectations' own page loads styles and scripts from six hosts, and is bare without them.
    """

    _template = "page.html.j2"

    def __init__(self) -> None:
        super().__init__()
        own = FileSystemLoader([_TEMPLATES / "data_docs", _TEMPLATES])
        assert self.env.loader is not None
        self.env.loader = ChoiceLoader([own, self.env.loader])
        self.env.bytecode_cache = _COMPILED

    def render(self, document: RenderedDocumentContent, template: str | None = None, **values: Any) -> str:
        """Return the page's HTML."""
        page = super().render(document, template, **values)
        return page.replace("<br>1 unexpected values found", "<br>1 unexpected value found")


class ResultsRenderer:
    """Great Expectations' page of a validation, in which the data's own text is text.

    The page's templates put values into HTML as they are: an annotator called ``<script>`` would run.
    """

    def render(self, results: ExpectationSuiteValidationResult) -> RenderedDocumentContent:
        """Return the page."""
        # Whoever called the checkpoint reads the values as they are.
        shown = copy.deepcopy(results)
        for result in shown.results:
            result.result, result.exception_info = _escaped(result.result), _escaped(result.exception_info)
        return ValidationResultsPageRenderer().render(shown)


class IndexRenderer:
    """The index: a plain table of the latest validations. Great Expectations' own is drawn by scripts."""

    def render(self, links: Mapping[str, Any]) -> RenderedDocumentContent:
        """Return the page; ``links`` is what the site's index builder has gathered."""
        latest = sorted(links.get("validations_links", []), key=lambda link: link["expectation_suite_name"])
        table = RenderedTableContent(
            table=[_index_row(link) for link in latest],
            header_row=["Suite", "Result", "Run", "Checks"],
            styling={"classes": ["table-responsive"], "body": {"classes": ["table", "table-sm", "index"]}},
        )
        return RenderedDocumentContent(
            renderer_type="SiteIndexPageRenderer",
            sections=[RenderedSectionContent(section_name="Latest validations", content_blocks=[table])],
        )


def _escaped(value: Any) -> Any:
    """Return the value with every text in it as HTML that shows it."""
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, Mapping):
        return {_escaped(key): _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list | tuple) else value


def _index_row(link: Mapping[str, Any]) -> list[Any]:
    """Return the index page's row of one validation."""
    # In words: a colour alone says nothing on paper, or to everybody.
    passed = link["validation_success"]
    return [
        _anchor(link["expectation_suite_name"], link["filepath"]),
        _template(
            "passed" if passed else "failed", tag="span", classes=["mark", "good" if passed else "bad"]
        ),
        f"{link['run_time']:%Y-%m-%d %H:%M:%S} UTC",
        _anchor("list", link["expectation_suite_filepath"]),
    ]


def _anchor(text: str, address: str) -> RenderedStringTemplateContent:
    return _template(text, tag="a", attributes={"href": address})


def _template(text: str, *, tag: str, **styling: Any) -> RenderedStringTemplateContent:
    template = {"template": "$text", "params": {"text": text}, "tag": tag, "styling": styling}
    return RenderedStringTemplateContent(content_block_type="string_template", string_template=template)
