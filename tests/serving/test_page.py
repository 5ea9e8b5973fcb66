"""The page in a real Chromium: every tab, by a listener who asks, hears, saves, corrects and labels."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from serving.api import create_app
from serving.guard import Guard
from serving.service import Limits
from serving.track_index import Library
from tests import listener as made
from tests.flows import browser
from tests.flows.stack import wait_until
from tests.serving.test_guard import running

AUTH = "cmg:letters-and-digits"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.chromium() is None, reason="needs Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, tables: Path) -> Iterator[str]:
    """Serve a project of 15 tracks whose genres are answered, as the command does; for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        Path("mlruns").mkdir()
        shutil.copyfile(tables, "mlruns/mlflow.db")
        listener = made.champion(patch)
        Path("data").rename("music")
        Path("data").mkdir()
        Path("music").rename("data/gtzan")
        library = Library(Path("library.sqlite"))
        list(library.add([file.absolute() for file in Path("data").rglob("*.wav")], listener, workers=2))
        library.close()
        with running(Guard(create_app(Path("library.sqlite"), Limits(workers=1)), auth=AUTH)) as port:
            yield f"http://127.0.0.1:{port}/"


def ask_why(opened: Page, label: str) -> None:
    """Look at what decided and listen to both parts, by the keyboard alone."""
    why = opened.locator(".why")
    why.locator(".spectrogram").wait_for()
    figures = why.locator("strong").inner_text()
    assert re.match(rf"{label}: \d+ %\. Without what is outlined: \d+ %\. By that alone: \d+ %", figures)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    for name, said in (("Only what decided", "Only what decided"), ("The rest", "All but what decided")):
        why.get_by_role("button", name=name).focus()
        opened.keyboard.press("Enter")
        wait_until(lambda said=said: opened.locator("#playing").inner_text() == f"{said}: {label}", 20, said)
    wait_until(lambda: opened.evaluate("document.getElementById('audio').duration") > 0.1, 20, "it is audio")
    why.get_by_label("Opacity").focus()
    opened.keyboard.press("Home")
    wait_until(lambda: why.locator(".heat").evaluate("one => one.style.opacity") == "0", 20, "no overlay")
    why.locator("select").select_option("blues")
    wait_until(lambda: why.locator("strong").inner_text().startswith("Blues"), 20, "why blues")
    why.get_by_text("The parts that speak most").click()
    assert why.locator("details tr").count() > 1


@pytest.mark.slow
def test_a_listener_goes_through_every_tab(address: str, tmp_path: Path) -> None:
    with browser.page(AUTH, "--autoplay-policy=no-user-gesture-required", width=390, height=844) as opened:
        assert browser.shown_alone(opened, address) == []  # nothing from elsewhere, no error
        assert "15 tracks · genre-classifier/1" in opened.locator("#state").inner_text()

        opened.locator("#genre").select_option("pop")
        opened.locator("#tracks li").nth(4).wait_for()
        assert opened.locator("#tracks li").count() == 5
        opened.locator("#tracks .play").first.click()
        wait_until(
            lambda: opened.evaluate("document.getElementById('audio').currentTime") > 0, 20, "it plays"
        )
        with opened.expect_download() as saved:
            opened.locator("#save-m3u8").click()
        lines = Path(saved.value.path()).read_text(encoding="utf-8").splitlines()
        assert len([line for line in lines if not line.startswith("#")]) == 5

        opened.locator("#words").fill("nonsensical")
        opened.get_by_role("button", name="Find music").click()
        opened.get_by_text("expected a champion for moods").wait_for()
        assert opened.locator("#tracks li").count() == 0
        opened.locator("#words").fill("")
        opened.get_by_role("button", name="Find music").click()
        opened.locator("#tracks li").nth(4).wait_for()

        opened.locator("#tracks").get_by_text("wrong mood…").first.click()
        form = opened.locator("#wrong-form")
        form.locator("select").first.select_option("negative")
        form.locator("select").last.select_option("hopeful")
        form.locator("input").fill("Zoë")
        form.get_by_role("button", name="Save").click()
        opened.get_by_text("Saved in the label inbox as Negative but hopeful").wait_for()
        form.get_by_role("button", name="Close").click()

        opened.get_by_role("tab", name="Song").click()
        opened.locator("#file").set_input_files(next(Path("data").rglob("pop*.wav")))
        opened.locator("#answer .answer-big").wait_for()
        assert opened.locator("#answer .answer-big").inner_text() == "Pop"
        assert opened.locator("svg.timeline .wave").count() == 480
        ask_why(opened, "Pop")
        wrong = tmp_path / "wrong.mp3"
        wrong.write_text("no music")
        opened.locator("#file").set_input_files(wrong)
        opened.get_by_text("not an audio file that can be decoded").wait_for()

        opened.get_by_role("tab", name="Library").click()
        opened.locator("#search").fill("metal")
        wait_until(lambda: opened.locator("#rows tr").count() == 5, 20, "five tracks of metal are listed")
        opened.locator("#rows button").first.click()
        ask_why(opened, "Metal")
        opened.get_by_role("tab", name="Label").click()
        wait_until(lambda: opened.locator("#label-track").inner_text() != "", 20, "a track to label is shown")
        for tab in ("Mix", "Song", "Library", "Label"):
            opened.get_by_role("tab", name=tab).click()
            assert opened.evaluate("document.documentElement.scrollWidth") <= 390, tab

    [file] = Path("inbox/labels").iterdir()
    [row] = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    assert (row["mood"], row["annotator"], row["asked_for"]) == ("NegativeButHopeful", "Zoë", "only pop")


def faults(opened: Page) -> list[str]:
    """Return what axe-core finds serious or critical in what is shown, in light and in dark."""
    found = []
    for scheme in ("light", "dark"):
        opened.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for fault in Axe().run(opened).response["violations"]:
            if fault["impact"] in ("serious", "critical"):
                found += [f"{scheme}: {fault['id']}: {node['html'][:200]}" for node in fault["nodes"]]
    return found


@pytest.mark.slow
def test_everybody_can_use_every_tab(address: str) -> None:
    with browser.page(AUTH) as opened:
        assert browser.shown_alone(opened, address) == []
        opened.locator("#genre").select_option("pop")
        opened.locator("#tracks li").nth(4).wait_for()
        opened.locator("#tracks .play").first.click()
        assert faults(opened) == []
        opened.locator("#tracks").get_by_text("wrong mood…").first.click()
        opened.locator("#wrong-form select").first.wait_for()
        assert faults(opened) == []
        opened.locator("#wrong-form").get_by_role("button", name="Close").click()
        opened.get_by_role("tab", name="Song").click()
        assert faults(opened) == []
        opened.locator("#file").set_input_files(next(Path("data").rglob("pop*.wav")))
        opened.locator(".why .spectrogram").wait_for()
        opened.locator(".why summary").click()
        assert faults(opened) == []
        opened.get_by_role("tab", name="Library").click()
        opened.locator("#rows tr").nth(4).wait_for()
        assert faults(opened) == []
        opened.get_by_role("tab", name="Label").click()
        wait_until(lambda: opened.locator("#label-track").inner_text() != "", 20, "a track to label is shown")
        assert faults(opened) == []
        assert browser.shown_alone(opened, f"{address}docs") == []  # nothing from elsewhere here either
        opened.locator("h2").first.wait_for()
        assert faults(opened) == []


@pytest.mark.slow
def test_the_interface_is_described_and_tried(address: str) -> None:
    with browser.page(AUTH, width=320, height=700) as opened:
        assert browser.shown_alone(opened, f"{address}docs") == []
        opened.locator("h2").first.wait_for()
        described = opened.request.get(f"{address}openapi.json").json()
        wanted = {f"{m.upper()} {path}" for path, ways in described["paths"].items() for m in ways}
        assert set(opened.locator("h2").all_inner_texts()) == wanted
        assert opened.evaluate("document.documentElement.scrollWidth") <= 320
        part = opened.locator("section", has=opened.locator("#tracks_v1_tracks_get"))
        assert "integer 1…500" in part.inner_text()
        part.get_by_text("Try it").click()
        part.get_by_label("n", exact=True).fill("1")
        part.get_by_role("button", name="Send").click()
        wait_until(lambda: '"total": 15' in part.get_by_role("status").inner_text(), 20, "an answer")
        part.get_by_label("n", exact=True).fill("0")
        part.get_by_role("button", name="Send").click()
        wait_until(lambda: "422" in part.get_by_role("status").inner_text(), 20, "a problem")
