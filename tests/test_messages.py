"""No message shows a password, however its URL is spelled."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from unittest import mock
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import StageError, failure, masked_secrets
from pipeline.errors import CmgError, UnavailableError, run_main
from pipeline.messages import masked
from tests.conftest import ROOT

SECRET = "S3cr3t"
NO_SPACE = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Z", "C"]), max_size=6
)
SCHEMES = st.sampled_from(
    ["http", "https", "postgresql", "postgresql+asyncpg", "postgresqlx", "ssh", "s3", "HTTP"]
)
WORDS = st.sampled_from(
    ["", "expected a store at ", "received (", "'", "{'url': \"", "see http://docs.example.org, ", "\n"]
)


@st.composite
def urls(draw: st.DrawFn) -> str:
    """Return a URL whose user-info, as it stands or percent-encoded, holds the secret somewhere."""
    secret = draw(NO_SPACE) + SECRET + draw(NO_SPACE)
    user_info = draw(st.sampled_from(["{0}", "user:{0}", ":{0}", "user:{0}:x"])).format(
        quote(secret, safe="") if draw(st.booleans()) else secret
    )
    end = draw(st.sampled_from(["", ":5432/db", ":notaport", "/a/b?c=d", "/x@y", "?mail=a@b.example"]))
    return f"{draw(SCHEMES)}://{user_info}@db.example{end}"


@st.composite
def parameters(draw: st.DrawFn) -> str:
    name = draw(
        st.sampled_from(["password", "sslpassword", "PASSWORD", "token", "X-Amz-Signature", "api_key", "sig"])
    )
    return f"https://host.example/x?a=b&{name}={quote(draw(NO_SPACE), safe='')}{SECRET}&c=d"


@given(st.lists(st.tuples(WORDS, st.one_of(urls(), parameters())), min_size=1, max_size=3), WORDS)
def test_no_spelling_of_a_url_shows_its_password(parts: list[tuple[str, str]], end: str) -> None:
    assert SECRET not in masked("".join(f"{word}{url} " for word, url in parts) + end)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("a store at postgresql://ann:pw@db:5432/x, none", "a store at postgresql://***@db:5432/x, none"),
        ("http://ann:pw@one/ http://bob:pw@two/", "http://***@one/ http://***@two/"),
        ("//ann:pw@host/share", "//***@host/share"),
        ("next=https%3A%2F%2Fann%3Apw%40host", "next=https%3A%2F%2F***%40host"),
        ("host=db password='two words' user=ann", "host=db password=*** user=ann"),
        ("Authorization: Basic Y21nOng=", "Authorization: Basic ***"),
        ("Authorization=Y21nOng= x", "Authorization=*** x"),
        ("'authorization': 'token abc' x", "'authorization': 'token *** x"),
        ("Cookie: session=abc; other=def\nnext", "Cookie: ***\nnext"),
        ("{'Set-Cookie': 'session=abc; Secure'}", "{'Set-Cookie': ***"),
        ("ann:hunter2@db.example refused", "***@db.example refused"),
        ("at ann:hun/ter2@db:5432, none", "at ***@db:5432, none"),
        ("ann:hunter2@localhost", "***@localhost"),
        ("token:abc, password: def", "token:*** password: ***"),
        ("X-Api-Key: abc", "X-Api-Key: ***"),
        ("GET /x?key=abc&b=c", "GET /x?key=***&b=c"),
        ("next=%2Fx%3Fkey%3Dabc%26b%3Dc", "next=%2Fx%3Fkey%3D***%26b%3Dc"),
        ("password%3Dabc%26b%3Dc", "password%3D***%26b%3Dc"),
        ("{'Authorization': 'Bearer abc'}", "{'Authorization': 'Bearer ***"),
        ('{"password": "x y", "user": "ann"}', '{"password": *** "user": "ann"}'),
    ],
)
def test_the_rest_is_shown(said: str, shown: str) -> None:
    assert masked(said) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize(
    "said",
    [
        "train@mood-lenet5: expected 3 tokens, received max_tokens=5; see https://example.org/a?b=c",
        "models:/genre-classifier@champion at http://127.0.0.1:5000/#/experiments",
        "sqlite:////home/ann/mlruns/mlflow.db; make password prints it; ann@example.org",
        "expected the password to be user:password",
        "Running stage 'train@mood-lenet5': dvc.yaml:train@mood-lenet5 at 10:30",
        "write to mailto:ann@example.org; monkey=1; keys: a, b",
    ],
)
def test_what_is_no_secret_stays(said: str) -> None:
    assert masked(said) == said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PREFECT_API_AUTH_STRING", "cmg:long-enough", "received long-enough"),
        ("POSTGRES_PASSWORD", "long-enough", "FATAL: long-enough"),
        (
            "MLFLOW_TRACKING_URI",
            "postgresql://u:long enough/@ x@h/db",
            "at postgresql://u:long enough/@ x@h/db",
        ),
        ("CMG_MLFLOW_STORE", "postgresql://u:long%2Fenough@h/db", "password long/enough was refused"),
        ("AWS_SECRET_ACCESS_KEY", "long-enough", "key=long-enough."),
    ],
)
def test_secrets_of_the_environment_are_known_wherever_they_stand(name: str, value: str, said: str) -> None:
    with mock.patch.dict(os.environ, {name: value}):
        assert "enough" not in masked(said)


@pytest.mark.parametrize(("kind", "code"), [(CmgError, 2), (UnavailableError, 75)])
def test_a_user_error_is_masked(kind: type[CmgError], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise kind(f"expected a store at http://u:{SECRET}@h, received none.")

    with pytest.raises(SystemExit) as told:
        run_main(main)
    assert told.value.code == code
    assert capsys.readouterr().err == "error: expected a store at http://***@h, received none.\n"


def test_the_traceback_of_a_bug_and_the_log_before_it_are_masked() -> None:
    code = (
        "import logging; from pipeline.errors import run_main\n"
        "def main():\n"
        "    logging.warning('at %s', 'http://u:S3cr3t@h')\n"
        "    raise KeyError('http://u:S3cr3t@h')\n"
        "run_main(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "WARNING:root:at http://***@h" in done.stderr
    assert "KeyError: 'http://***@h'" in done.stderr
    assert "Traceback" in done.stderr


def test_a_flow_masks_what_it_logs_and_what_its_state_would_say(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        with masked_secrets():
            logging.getLogger("flow").warning("at %s", f"http://u:{SECRET}@h")
            try:
                raise ValueError(f"http://u:{SECRET}@h")
            except ValueError as error:
                raise RuntimeError("no answer") from error

    with pytest.raises(StageError, match=r"^RuntimeError: no answer$") as told:
        fail()
    assert told.value.__suppress_context__
    assert SECRET not in caplog.text
    with pytest.raises(KeyError, match="harmless"), masked_secrets():
        raise KeyError("harmless")


def test_a_failed_stage_says_what_its_lines_say() -> None:
    lines = [masked(f"error: expected a store at http://u:{SECRET}@h, received none.")]
    assert str(failure("register", 2, lines)) == "register: expected a store at http://***@h, received none."
