"""Listening over HTTP: FastAPI, JSON, errors as ``application/problem+json`` (RFC 9457), and the page."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import FastAPI, HTTPException, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline import taxonomy
from pipeline.errors import CmgError, ParamsError
from pipeline.messages import masked
from serving import champions as kept
from serving import corrections, jobs
from serving.attribution import UnexplainableError
from serving.champions import project
from serving.corrections import ContradictionError
from serving.listener import UnreadableError, pole_matrix, poles
from serving.mix import Wanted
from serving.playlists import MEDIA_TYPES, Entry, playlist
from serving.service import Limits, Service, UnknownTrackError, windows
from serving.why_api import add_why, saved
from serving.workers import BusyError, TooLongError

_WEB: Final = Path(__file__).with_name("web")
_RETRY_SECONDS: Final = 2
_MOST: Final = 500  # tracks of an answer
_PROBLEM: Final = "application/problem+json"
# Nothing is loaded from elsewhere, and nothing is run that is not one of the page's own files.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_STATUS: Final[dict[type[CmgError], int]] = {
    BusyError: 503,
    TooLongError: 504,
    UnknownTrackError: 404,
    UnreadableError: 422,
    ContradictionError: 409,
    UnexplainableError: 501,
    ParamsError: 422,
}

Words = Annotated[str, Field(max_length=500)]
Ids = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=100)]


class Asked(BaseModel):
    """A mix that is asked for."""

    model_config = ConfigDict(extra="forbid")

    q: Words = Field("", description="Words: negative but hopeful", examples=["negative but hopeful"])
    weights: dict[str, float] = Field({}, description="Strength of each pole, -1 to 1.", max_length=50)
    exclude: Words = Field("", description="What must not be heard.")
    genre: Annotated[list[Words], Field(max_length=50)] = Field([], description="Only these.")
    like: Ids = Field([], description="Ids of tracks to resemble.")
    unlike: Ids = Field([], description="Ids of tracks not to resemble.")
    n: int = Field(20, ge=1, le=_MOST, description="How many tracks.")
    min_score: float | None = Field(None, ge=0, le=1, description="All that fit at least so well.")
    max_per_artist: int | None = Field(None, ge=1, le=_MOST)

    def wanted(self) -> Wanted:
        """Return it as `serving.mix` takes it."""
        for pole, weight in self.weights.items():
            if pole not in pole_matrix() or not -1 <= weight <= 1:
                raise ParamsError(
                    f"expected weights of -1 to 1 for {', '.join(pole_matrix())}, received "
                    f"{pole[:40]!r}: {weight:g}."
                )
        weighted = " ".join(f"{pole}:{weight:g}" for pole, weight in self.weights.items() if weight)
        return Wanted(
            text=", ".join(part for part in (self.q.strip(), weighted) if part),
            excluded=self.exclude,
            genres=tuple(self.genre),
            like=tuple(self.like),
            unlike=tuple(self.unlike),
            number=self.n,
            least=self.min_score,
            per_artist=self.max_per_artist,
        )


class Correction(BaseModel):
    """A listener's annotation of a track."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(max_length=64, description="The track's.")]
    annotator: Words
    mood: Words = ""
    poles: tuple[Words, Words] | None = Field(None, description="The mood by its two poles.")
    asked_for: Words = Field("", description="The query of the mix in which the track was wrong.")


def create_app(file: Path, limits: Limits | None = None) -> FastAPI:
    """Return the application; its workers start with it and end with it.

    Parameters
    ----------
    file
        The library's index, see `serving.track_index`.
    limits
        What a request may cost.
    """
    limits = limits or Limits()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = Service(file, limits)
        yield
        app.state.service.close()

    app = FastAPI(
        title="Composite Mood Genre",
        version="1",
        description="What does a file sound like, and which of my music fits a mood?",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(_Measured, metrics=_Metrics())
    app.add_middleware(_Limited, most=limits.megabytes << 20)
    _say_problems(app)
    _add_music(app, limits)
    _add_tracks(app)
    add_why(app)
    _add_overviews(app)
    _add_state(app)
    app.mount("/", StaticFiles(directory=_WEB, html=True))
    return app


def _service(request: Request) -> Service:
    return request.app.state.service


def _add_music(app: FastAPI, limits: Limits) -> None:
    @app.post("/v1/classify")
    def classify(
        request: Request, file: list[UploadFile], per_slice: bool = False, why: bool = False
    ) -> list[dict[str, Any]]:
        """Answer audio files; one that cannot be answered says why in ``error``.

        With ``why`` each answer says by task what decided, in the form of ``/v1/why``.
        A single file that cannot be answered is an error: 422 with the reason, 503 if all workers are busy,
        504 if it took too long.
        """
        if len(file) > limits.files:
            raise HTTPException(413, f"expected at most {limits.files} files, received {len(file)}")
        parts = {"per_slice": per_slice, "why": why}
        return [_classified(_service(request), one, parts, alone=len(file) == 1) for one in file]

    @app.get("/v1/recommend")
    def recommend(
        request: Request,
        asked: Annotated[_AskedInAddress, Query()],
    ) -> Any:
        """Choose the tracks of the library that fit a mood best: as JSON or as a playlist."""
        return _mixed(_service(request), asked, asked.format)

    @app.post("/v1/recommend")
    def recommend_by_weights(request: Request, asked: Asked) -> Any:
        """Choose tracks by words and weights."""
        return _mixed(_service(request), asked, "json")

    @app.post("/v1/labels", status_code=201)
    def label(request: Request, said: Correction) -> dict[str, Any]:
        """Write one annotation into the label inbox; 409 if this annotator has said otherwise."""
        service = _service(request)
        path = Path(service.tracks().paths[service.place(said.id)])
        done = corrections.annotate(
            said.id,
            path,
            annotator=said.annotator,
            mood=said.mood,
            poles=said.poles or (),
            asked_for=said.asked_for,
        )
        return {
            "track_id": done.track_id,
            "mood": done.mood,
            "file": done.file.name if done.file else None,
            "others": done.others,
        }


class _AskedInAddress(Asked):
    weights: dict[str, float] = Field({}, exclude=True, max_length=0)
    format: Literal["json", "m3u8", "xspf", "jspf"] = "json"


def _classified(
    service: Service, upload: UploadFile, parts: dict[str, bool], *, alone: bool
) -> dict[str, Any]:
    name = Path(upload.filename or "audio").name[:200] or "audio"
    with saved(upload) as path:
        try:
            record, heard = service.work(jobs.answer, path, name)
            if parts["per_slice"]:
                record["timeline"] = windows(dict(heard.slices), service.classes, heard.seconds)
                record["waveform"] = service.work(jobs.waveform, path)
            if parts["why"]:
                record["why"] = service.work(jobs.why_each, path)
        except CmgError as error:
            if alone:
                raise
            return {"path": name, "error": str(error)}
    return record


def _mixed(service: Service, asked: Asked, form: str) -> Any:
    mix, tracks = service.mix(asked.wanted())
    if form != "json":
        entries = [
            Entry(Path(tracks.paths[n]), tracks.artists[n], tracks.titles[n], float(tracks.seconds[n]))
            for n in mix.chosen
        ]
        # Relative to the project's folder: a browser says not where it saves the list.
        text = playlist(form, entries, project())
        headers = {"Content-Disposition": f'attachment; filename="mix.{form}"'}
        return Response(text, media_type=MEDIA_TYPES[form], headers=headers)
    found = mix.as_dict(tracks)
    for one, n, (start, end) in zip(
        found["tracks"], mix.chosen, service.highlights(mix, tracks), strict=True
    ):
        one |= {"start": start, "end": end}
        for task, values in tracks.means.items():
            best = int(values[n].argmax())
            one[task] = {"best": service.classes[task][best], "probability": round(float(values[n][best]), 4)}
    return found


def _add_tracks(app: FastAPI) -> None:
    @app.get("/v1/tracks")
    def tracks(
        request: Request,
        q: Words = "",
        offset: Annotated[int, Query(ge=0)] = 0,
        n: Annotated[int, Query(ge=1, le=_MOST)] = 50,
    ) -> dict[str, Any]:
        """List the library's tracks whose artist, title or file name has some letters."""
        service = _service(request)
        known = service.tracks()
        wanted = q.casefold()
        found = [
            i
            for i, path in enumerate(known.paths)
            if wanted in f"{known.artists[i]} {known.titles[i]} {Path(path).name}".casefold()
        ]
        shown = [service.track(known.digests[i]) for i in found[offset : offset + n]]
        return {"total": len(found), "tracks": shown}

    @app.get("/v1/tracks/{id}")
    def track(request: Request, id: str) -> dict[str, Any]:
        """Return a track's record."""
        return _service(request).track(id)

    @app.get("/v1/tracks/{id}/timeline")
    def timeline(request: Request, id: str) -> dict[str, Any]:
        """Return the answers to each ten seconds of a track."""
        return _service(request).timeline(id)

    @app.get("/v1/tracks/{id}/waveform")
    def waveform(request: Request, id: str) -> list[float]:
        """Return a track's loudness over time, 0 to 1, in equal parts."""
        return _service(request).waveform(id)

    @app.get("/v1/tracks/{id}/similar")
    def similar(request: Request, id: str, n: Annotated[int, Query(ge=1, le=_MOST)] = 20) -> Any:
        """Return the tracks whose answers are most alike, in the form of OpenSubsonic's sonicSimilarity."""
        service = _service(request)
        service.place(id)  # else the error would be that of a query
        mix, known = service.mix(Wanted(like=(id,), number=n))
        return [
            {"entry": service.track(known.digests[i]), "similarity": round(float(mix.ranking.score[i]), 4)}
            for i in mix.chosen
        ]

    @app.get("/v1/tracks/{id}/audio")
    def audio(request: Request, id: str) -> FileResponse:
        """Return a track's audio, or the part of it that ``Range`` asks for."""
        return FileResponse(_service(request).audio(id), content_disposition_type="inline")


def _add_overviews(app: FastAPI) -> None:
    @app.get("/v1/map")
    def map_of_library(request: Request) -> dict[str, Any]:
        """Return the library in two dimensions: the poles calm to energetic, and negative to positive."""
        service = _service(request)
        known = service.tracks()
        if "mood" not in known.means or not known.paths:
            return {"x": "", "y": "", "points": []}
        strength = poles(known.means["mood"], service.classes["mood"])
        x, y = strength["energetic"] - strength["calm"], strength["positive"] - strength["negative"]
        points = [
            [digest, round(float(a), 3), round(float(b), 3), service.classes["mood"][int(c)]]
            for digest, a, b, c in zip(known.digests, x, y, known.means["mood"].argmax(axis=1), strict=True)
        ]
        return {"x": "calm to energetic", "y": "negative to positive", "points": points}

    @app.get("/v1/changes")
    def changes(request: Request) -> list[dict[str, str]]:
        """Return the tracks that the present champions call otherwise than those before."""
        return _service(request).changes()


def _add_state(app: FastAPI) -> None:
    @app.get("/v1/moods")
    def moods(request: Request) -> dict[str, Any]:
        """Return moods with their poles, genres, and the words that are understood."""
        from serving.query import thesaurus

        service = _service(request)
        known = taxonomy.read().moods
        return {
            "moods": {name: list(one.poles) for name, one in known.items()},
            "poles": list(pole_matrix()),
            "genres": service.classes.get("genre", []),
            "words": {word: list(poles) for word, poles in thesaurus().items() if poles},
        }

    @app.get("/v1/models")
    def models(request: Request) -> dict[str, Any]:
        """Return which versions answer, what they measured, and whether another one serves by now."""
        service = _service(request)
        return {
            "models": [
                {
                    "task": task,
                    "name": champion.name,
                    "model": champion.model,
                    "protocol": champion.protocol,
                    "dataset": champion.dataset,
                    "synthetic": champion.synthetic,
                    "metrics": champion.metrics,
                    "newer": kept.newer(champion),
                }
                for task, champion in service.champions.items()
            ],
            "tracks": len(service.tracks().paths),
            "remaining": service.remaining,
            "fault": service.fault,
        }

    @app.post("/v1/models/pull")
    def pull(request: Request) -> dict[str, bool]:
        """Fetch the champions that serve now; the library is then answered anew."""
        return {"changed": _service(request).pull()}

    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        """Return the page that describes all addresses; it reads /openapi.json."""
        return FileResponse(_WEB / "docs.html")

    @app.get("/healthz", response_class=PlainTextResponse)
    def healthz() -> str:
        """Say that the server runs."""
        return "ok\n"

    @app.get("/readyz", response_class=PlainTextResponse)
    def readyz(request: Request) -> PlainTextResponse:
        """Say whether a file would be answered now, and why the library is not filled, if it cannot be."""
        service = _service(request)
        is_ready = service.workers.is_ready()
        fault = f"the library is not filled: {service.fault}\n" if service.fault else ""
        return PlainTextResponse(("ready\n" if is_ready else "busy\n") + fault, 200 if is_ready else 503)


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": masked(detail),
    }
    return JSONResponse(body, status, headers, media_type=_PROBLEM)


def _say_problems(app: FastAPI) -> None:
    @app.exception_handler(CmgError)
    def known(request: Request, error: CmgError) -> JSONResponse:
        status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 422)
        return _problem(status, str(error), {"Retry-After": f"{_RETRY_SECONDS}"} if status == 503 else None)

    @app.exception_handler(StarletteHTTPException)
    def refused(request: Request, error: StarletteHTTPException) -> JSONResponse:
        if error.status_code == 404:
            where = request.url.path[:200]
            return _problem(404, f"expected an address of /openapi.json, received {where}")
        return _problem(error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        said = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()[:5]]
        return _problem(422, "; ".join(said))


class _Limited:
    """Refuse a body as soon as it is too large, whatever its header said; add the page's policy."""

    def __init__(self, app: ASGIApp, *, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0
        declared = Headers(scope=scope).get("content-length", "0")
        said = f"expected at most {self._most >> 20} MB, received more"

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most:
                raise HTTPException(413, said)  # of whatever reads the body
            return message

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", _POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        if declared.isascii() and declared.isdigit() and int(declared) > self._most:
            await _problem(413, said, {"Connection": "close"})(scope, receive, with_policy)
            return
        await self._app(scope, counted, with_policy)


class _Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("cmg_requests_total", "Requests.", labels, registry=self.registry)
        self.seconds = Histogram(
            "cmg_request_seconds", "Time of a request.", ("route",), registry=self.registry
        )
        self.tracks = Gauge("cmg_library_tracks", "Tracks of the library.", registry=self.registry)
        self.busy = Gauge("cmg_workers_busy", "Workers that work.", registry=self.registry)


class _Measured:
    """Count and time requests by route; answer ``/metrics``."""

    def __init__(self, app: ASGIApp, *, metrics: _Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] == "/metrics":
            service: Service = scope["app"].state.service
            self._metrics.busy.set(service.workers.busy)
            self._metrics.tracks.set(len(service.tracks().paths))
            text = generate_latest(self._metrics.registry).decode()
            await PlainTextResponse(text, media_type="text/plain; version=0.0.4")(scope, receive, send)
            return
        start, status = time.monotonic(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "") or "page"
            self._metrics.requests.labels(scope["method"], route, status).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - start)
