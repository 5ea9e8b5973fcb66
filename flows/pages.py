"""The pipeline's own pages over HTTP: report, Data Docs, label audit, what to label next; nothing else."""

from __future__ import annotations

from typing import Final

from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

FOLDERS: Final = {
    "/report": "artifacts/report",
    "/data_docs": "data_docs",
    "/label_audit": "label_audit",
    "/label_next": "label_next",
}


def build() -> Starlette:
    """Return the application; a folder that is not there yet answers 404 until a run has made it."""
    mounts = [Mount(path, _files(folder)) for path, folder in FOLDERS.items()]
    return Starlette(routes=[Route("/", lambda _: RedirectResponse("/report/")), *mounts])


def _files(folder: str) -> StaticFiles:
    files = StaticFiles(directory=folder, html=True, check_dir=False)
    files.config_checked = True  # else a folder that is missing at the first request is a server error
    return files
