from pathlib import Path

import pytest

from pipeline import templates
from tests.pages import loaded_from_elsewhere

STYLED = '<style>{}</style><p style="color: red"><a href="https://a.example">a link is for people</a></p>'


@pytest.mark.parametrize(
    ("page", "found"),
    [
        (STYLED.format("p { background: url(data:image/png;base64,AA) }"), []),
        ('<img src="pictures/a.png"><link rel="icon" href="data:,"><script>1</script>', []),
        ('<script src="https://a.example/b.js"></script>', ["https://a.example/b.js"]),
        ('<link rel="stylesheet" href="//a.example/b.css">', ["//a.example/b.css"]),
        ('<audio src="http://a.example/b.ogg"></audio>', ["http://a.example/b.ogg"]),
        ('<p style="background: url(HTTPS://a.example/b.png)">', ["HTTPS://a.example/b.png"]),
        (STYLED.format("@import 'https://a.example/b.css';"), ["https://a.example/b.css"]),
        (STYLED.format('@font-face { src: url( "https://a.example/f") }'), ["https://a.example/f"]),
    ],
)
def test_what_a_page_would_load_from_another_host_is_found(page: str, found: list[str]) -> None:
    assert loaded_from_elsewhere(page) == found


@pytest.mark.parametrize("name", ["report", "guide", "players", "data_docs/page"])
def test_every_page_has_the_shared_style_and_a_policy_that_forbids_other_hosts(name: str) -> None:
    text = (Path(templates.__file__).parent / f"{name}.html.j2").read_text(encoding="utf-8")
    assert '{% include "style.css.j2" %}' in text
    assert "default-src 'none'" in text
    assert "--ink:" not in text
