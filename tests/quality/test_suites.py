import re
from dataclasses import replace

import pandas as pd
import pytest

from pipeline.errors import QualityError
from pipeline.quality.suites import Check, run
from tests.pages import loaded_from_elsewhere

DURATION = Check(
    name="duration",
    column="seconds",
    expected="at least 1 s",
    advice="Replace it.",
    expectation="ExpectColumnValuesToBeBetween",
    arguments={"column": "seconds", "min_value": 1},
    excludes=True,
)


def table_of(*seconds):
    names = [f"track {number}" for number in range(len(seconds))]
    return pd.DataFrame({"name": names, "seconds": seconds}, index=names)


def pages(docs):
    return sorted(path.relative_to(docs).parts[1] for path in docs.glob("validations/**/*.html"))


def test_a_failure_becomes_a_finding_and_a_page(tmp_path):
    docs = tmp_path / "data_docs"
    (finding,) = run(table_of(30.0, 0.25), [DURATION], name="audio", row="name", docs=docs)
    assert (finding.rows, finding.excludes) == ((("track 1", "0.25"),), True)
    (page,) = docs.glob("validations/audio/**/*.html")
    text = page.read_text(encoding="utf-8")
    for part in ("Failed", "duration [warning]: at least 1 s", "track 1", "0.25"):
        assert part in text
    assert f'href="{page.relative_to(docs).as_posix()}"' in (docs / "index.html").read_text(encoding="utf-8")
    assert "1 unexpected value found" in text
    found = {path: path.read_text(encoding="utf-8") for path in docs.rglob("*.html")}
    assert len(found) == 3
    for path, content in found.items():
        assert loaded_from_elsewhere(content) == []
        assert "<script" not in content
        links = re.findall(r'<a[^>]* href="([^#":]+)"', content)
        assert all((path.parent / link).is_file() for link in links)
    assert not (docs / "static").exists()


SCRIPT = "<script>alert('&')</script>"


def test_what_stands_in_the_data_is_text_on_the_page_and_itself_in_the_finding(tmp_path):
    checks = [
        replace(DURATION, name="set", column="name", expectation=name, arguments={"column": "name", **more})
        for name, more in (
            ("ExpectColumnValuesToBeInSet", {"value_set": ["track 7"]}),
            ("ExpectColumnValuesToMatchRegex", {"regex": "^track"}),
            ("ExpectColumnValuesToBeNull", {}),
            ("ExpectColumnValueLengthsToBeBetween", {"max_value": 3}),
            ("ExpectColumnDistinctValuesToEqualSet", {"value_set": ["track 7"]}),
        )
    ]
    table = pd.DataFrame({"name": [SCRIPT]}, index=[f"annotator {SCRIPT}"])
    found = run(table, checks, name="audio", row="name", docs=tmp_path)
    assert found[0].rows == ((SCRIPT, SCRIPT),)
    (page,) = tmp_path.glob("validations/audio/**/*.html")
    text = page.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;" in text


def test_runs_replace_their_own_pages_and_keep_the_others(tmp_path):
    for name in ("audio", "labels", "audio"):
        run(table_of(30.0), [DURATION], name=name, row="name", docs=tmp_path)
        files = sum(path.is_file() for path in tmp_path.rglob("*"))
    assert pages(tmp_path) == ["audio", "labels"]
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == files
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'href="validations/(\w+)/', index) == ["audio", "labels"]


def test_damaged_leftovers_do_not_stop_a_run(tmp_path):
    run(table_of(30.0), [DURATION], name="audio", row="name", docs=tmp_path)
    run(table_of(30.0), [DURATION], name="labels", row="name", docs=tmp_path)
    for path in (tmp_path / ".store").rglob("*.json"):
        path.write_text(path.read_text(encoding="utf-8")[:40], encoding="utf-8")
    assert run(table_of(30.0), [DURATION], name="audio", row="name", docs=tmp_path) == []
    assert "audio" in pages(tmp_path)


def test_without_a_folder_nothing_is_written_or_printed(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    run(table_of(30.0, 0.1), [DURATION], name="audio", row="name", docs=None)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_check_that_cannot_run_is_an_error():
    check = Check(**(vars(DURATION) | {"arguments": {"column": "minutes", "min_value": 1}}))
    with pytest.raises(QualityError, match=r"duration expected at least 1 s.*could not run.*minutes"):
        run(table_of(30.0), [check], name="audio", row="name", docs=None)
