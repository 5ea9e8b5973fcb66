"""What decided, over HTTP: of a track of the library, and of an uploaded file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, UploadFile
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.background import BackgroundTask

from pipeline.inference.audio import SUFFIXES
from serving import jobs
from serving.explanation import AREA
from serving.jobs import Question
from serving.service import Service


class WhyAsked(BaseModel):
    """What decided: of which class, and how much."""

    model_config = ConfigDict(extra="forbid")

    task: Literal["genre", "mood"] | None = Field(None, description="Mood if there is a champion for it.")
    label: str = Field("", max_length=80, description="Why this class; blank for the most probable one.")
    area: float = Field(
        AREA, ge=0.01, le=0.9, description="How much of the spectrogram is called what decided."
    )

    def question(self, service: Service) -> Question:
        """Return it as `serving.jobs` takes it."""
        return Question(
            self.task or ("mood" if "mood" in service.champions else "genre"), self.label, self.area
        )


class PictureAsked(WhyAsked):
    """A picture of what decided."""

    opacity: float = Field(0.6, ge=0, le=1, description="Of the strongest colour; 0: the spectrogram alone.")


class AudioAsked(WhyAsked):
    """What decided, or the rest, to be heard."""

    part: Literal["decided", "rest"] = "decided"


def add_why(app: FastAPI) -> None:
    """Add the addresses to the application, which has its `Service` in ``state``."""

    @app.get("/v1/tracks/{id}/why")
    def why(request: Request, id: str, asked: Annotated[WhyAsked, Query()]) -> dict[str, Any]:
        """Say what decided: what each cell of the spectrogram adds to a class's logit."""
        service = _service(request)
        return _said(service, service.own_file(id), asked) | {"id": id}

    @app.get("/v1/tracks/{id}/why.png", response_class=Response)
    def picture(request: Request, id: str, asked: Annotated[PictureAsked, Query()]) -> Response:
        """Draw the spectrogram: orange speaks for the class, blue against it."""
        service = _service(request)
        return _drawn(service, service.own_file(id), asked)

    @app.get("/v1/tracks/{id}/why.wav", response_class=FileResponse)
    def audio(request: Request, id: str, asked: Annotated[AudioAsked, Query()]) -> FileResponse:
        """Let only what decided be heard, or only the rest."""
        service = _service(request)
        path = service.part(id, asked.question(service), asked.part)
        return FileResponse(path, media_type="audio/wav", content_disposition_type="inline")

    @app.post("/v1/why")
    def why_of_upload(
        request: Request, file: UploadFile, asked: Annotated[WhyAsked, Query()]
    ) -> dict[str, Any]:
        """Say what decided the answer to an audio file."""
        with saved(file) as path:
            return _said(_service(request), path, asked)

    @app.post("/v1/why.png", response_class=Response)
    def picture_of_upload(
        request: Request, file: UploadFile, asked: Annotated[PictureAsked, Query()]
    ) -> Response:
        """Draw the spectrogram of an audio file, with what decided."""
        with saved(file) as path:
            return _drawn(_service(request), path, asked)

    @app.post("/v1/why.wav", response_class=FileResponse)
    def audio_of_upload(
        request: Request, file: UploadFile, asked: Annotated[AudioAsked, Query()]
    ) -> FileResponse:
        """Let only what decided the answer to an audio file be heard, or only the rest."""
        service = _service(request)
        target = service.new_file()
        with saved(file) as path:
            service.work(jobs.why_audio, path, asked.question(service), asked.part, target)
        return FileResponse(
            target, media_type="audio/wav", background=BackgroundTask(target.unlink, missing_ok=True)
        )


@contextmanager
def saved(upload: UploadFile) -> Iterator[Path]:
    """Keep an upload as a file, with its suffix if that is one of audio, within the block."""
    suffix = Path(upload.filename or "").suffix.lower()
    with tempfile.NamedTemporaryFile(suffix=suffix if suffix in SUFFIXES else "") as copy:
        shutil.copyfileobj(upload.file, copy)
        copy.flush()
        yield Path(copy.name)


def _service(request: Request) -> Service:
    return request.app.state.service


def _said(service: Service, path: Path, asked: WhyAsked) -> dict[str, Any]:
    return service.work(jobs.why, path, asked.question(service))


def _drawn(service: Service, path: Path, asked: PictureAsked) -> Response:
    drawn = service.work(jobs.why_picture, path, asked.question(service), asked.opacity)
    return Response(drawn, media_type="image/png")
