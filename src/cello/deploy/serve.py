"""Serve a model over HTTP: files by POST, endless sound by WebSocket, its page and its description.

Nothing of a client is written to disk. What clients may ask for is bounded by ``Limits``; whatever is refused is
answered with a fact, a value and a remedy, and leaves no task, stream or memory behind.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any, Protocol
from urllib.parse import urlsplit

from fastapi import FastAPI, Query, Request, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from numpy.typing import NDArray
from pydantic import BaseModel
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import cello
from cello.audio.decode import decode_bytes
from cello.deploy.limits import Limits, RateLimit, RefusedError, refusal_of
from cello.deploy.serve_text import DESCRIPTION, ERRORS, HEADERS, UPLOAD, index_page
from cello.deploy.socket_stream import AGAIN_LATER, FAILED, POLICY, SocketStream, Stream, StreamFormat
from cello.deploy.upload import uploaded
from cello.errors import CelloError, ClipError, LongClipError

_BUG = "report it with the server's log"
TOP, MOST_TOP = 3, 1000
_QUERY = {"top": (f"a whole number from 1 to {MOST_TOP}", f"say how many labels you want, or leave it out for {TOP}")}
"""What each value of a request must be, and what to do where it is not."""
THREADS = 2
"""Files that are computed at once."""


class Served(Protocol):
    """A model that can be served: an exported folder, or a run."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The C labels."""

    @property
    def rate_hz(self) -> int:
        """The sampling rate that it takes."""

    def predict(self, samples: NDArray[Any], rate_hz: int | None = None) -> list[tuple[str, float]]:
        """The labels of a clip with their probabilities, the most probable first."""

    def stream(self) -> Stream:
        """A new stream."""


class Label(BaseModel):
    """A label with its probability."""

    label: str
    probability: float


class Prediction(BaseModel):
    """What a file is: the most probable label, and the next ones."""

    label: str
    probability: float
    top: list[Label]
    seconds: float


class Labels(BaseModel):
    """What the model tells apart, and the sampling rate that it computes at."""

    labels: list[str]
    rate_hz: int


class Health(BaseModel):
    """That the server lives, and how much it has to do."""

    status: str
    version: str
    streams: int
    most_streams: int
    files: int
    most_files: int


class Server:
    """Answers for one model.

    Attributes:
        streams: WebSocket streams that are open
        files: uploads that are received or computed
    """

    def __init__(self, served: Served, limits: Limits, page: str | None = None) -> None:
        self.served, self.limits, self.page = served, limits, page
        self.streams = self.files = 0
        self._rate = RateLimit(limits.a_minute)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="cello-serve")

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def index(self) -> HTMLResponse:
        """The model's page, or what can be asked of this server."""
        return HTMLResponse(self.page or index_page(self.served.labels))

    async def docs(self) -> HTMLResponse:
        """What can be asked of this server."""
        return HTMLResponse(index_page(self.served.labels))

    async def labels(self) -> Labels:
        """What the model tells apart."""
        return Labels(labels=list(self.served.labels), rate_hz=self.served.rate_hz)

    async def health(self) -> Health:
        """Whether the server lives, and how busy it is."""
        return Health(
            status="ok",
            version=cello.__version__,
            streams=self.streams,
            most_streams=self.limits.streams,
            files=self.files,
            most_files=self.limits.files,
        )

    async def predict(self, request: Request, top: Annotated[int, Query(ge=1, le=MOST_TOP)] = TOP) -> Prediction:
        """Say what an audio file is: WAV, FLAC, OGG, Opus or MP3 of any rate, as the body or as a form's `file`."""
        _check_origin(request)
        client = request.client.host if request.client else ""
        if wait_s := self._rate.wait_s(client):
            remedy = f"try again in {math.ceil(wait_s)} s"
            raise RefusedError(429, "too many files came from this address", self.limits.a_minute, remedy)
        with self._file_counted():
            content = await uploaded(request, self.limits)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._predicted, content, top)

    @contextmanager
    def _file_counted(self) -> Iterator[None]:
        if self.files >= self.limits.files:
            raise RefusedError(503, "too many files at once", self.limits.files, "try again in 1 s")
        self.files += 1
        try:
            yield
        finally:
            self.files -= 1

    def _predicted(self, content: bytes, top: int) -> Prediction:
        try:
            sound = decode_bytes(content, self.served.rate_hz, self.limits.seconds)
            found = self.served.predict(sound, self.served.rate_hz)
        except LongClipError as error:
            raise refusal_of(error, 413, self.limits.seconds) from error
        except ClipError as error:
            raise refusal_of(error, 422, len(content)) from error
        except CelloError as error:
            raise refusal_of(error, 501) from error
        best = [Label(label=label, probability=probability) for label, probability in found[:top]]
        seconds = len(sound) / self.served.rate_hz
        return Prediction(label=best[0].label, probability=best[0].probability, top=best, seconds=seconds)

    async def stream(self, socket: WebSocket) -> None:
        """Samples in, decisions out; ``docs/serve.md`` tells the messages."""
        await socket.accept()
        try:
            with self._stream_counted():
                await self._streamed(socket)
            await socket.close()
        except RefusedError as refusal:
            await _refused(socket, refusal)
        except WebSocketDisconnect:
            pass
        except Exception:
            await _refused(socket, RefusedError(FAILED, "the server met a bug", None, _BUG))
            raise

    @contextmanager
    def _stream_counted(self) -> Iterator[None]:
        if self.streams >= self.limits.streams:
            raise RefusedError(AGAIN_LATER, "too many streams at once", self.limits.streams, "try again later")
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1

    async def _streamed(self, socket: WebSocket) -> None:
        try:
            _check_origin(socket)
        except RefusedError as refusal:
            raise RefusedError(POLICY, refusal.fact, refusal.value, refusal.remedy) from refusal
        asked = socket.query_params
        form = StreamFormat.asked(asked.get("rate_hz", str(self.served.rate_hz)), asked.get("format", "int16"))
        try:
            stream = self.served.stream()
        except CelloError as error:
            raise refusal_of(error, POLICY) from error
        one = SocketStream(socket, stream, form, self.limits)
        await one.run({"type": "ready", "labels": self.served.labels, "rate_hz": form.rate_hz})


async def _refused(socket: WebSocket, refusal: RefusedError) -> None:
    """Say why, and close; a client that has left, or does not read, is not waited for."""
    try:
        async with asyncio.timeout(1):
            await socket.send_text(json.dumps({"type": "error", "error": refusal.body}))
            await socket.close(refusal.status, refusal.fact[:120].encode()[:120].decode(errors="ignore"))
    except (TimeoutError, WebSocketDisconnect, RuntimeError):
        pass  # it has left


def _check_origin(connection: HTTPConnection) -> None:
    """Refuse a browser's page of another site.

    Raises:
        RefusedError: the page is not of this server.
    """
    origin = connection.headers.get("origin")
    if origin is None or urlsplit(origin).netloc.lower() == connection.headers.get("host", "").lower():
        return
    raise RefusedError(403, "pages of other sites may not use it", origin[:100], "open the page of this server")


def make_app(server: Server) -> FastAPI:
    """The ASGI application of a server."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        server.close()

    app = FastAPI(
        title="Cello", version=cello.__version__, description=DESCRIPTION, docs_url=None, redoc_url=None,
        lifespan=lifespan,
    )  # fmt: skip
    for path, answer in (("/", server.index), ("/docs", server.docs)):
        app.add_api_route(path, answer, response_class=HTMLResponse, include_in_schema=False)
    app.add_api_route("/labels", server.labels, response_model=Labels)
    app.add_api_route("/health", server.health, response_model=Health)
    app.add_api_route(
        "/predict", server.predict, methods=["POST"], response_model=Prediction, responses=ERRORS, openapi_extra=UPLOAD
    )
    app.add_api_websocket_route("/stream", server.stream)
    for kind, handler in ((RefusedError, _refusal), (HTTPException, _http_error), (RequestValidationError, _invalid)):
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(_Headers)
    return app


class _Headers:
    """Adds ``HEADERS`` to every HTTP answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, sent if scope["type"] == "http" else send)


def _answer(refusal: RefusedError, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error as JSON; the rest of an upload that was not read is not waited for."""
    extra = {"Retry-After": "1"} if refusal.status in (429, 503) else {}
    closing = {"Connection": "close"} if refusal.status in (408, 413, 429, 503) else {}
    return JSONResponse({"error": refusal.body}, refusal.status, {**(headers or {}), **extra, **closing})


async def _refusal(_: Request, error: Any) -> JSONResponse:
    return _answer(error)


async def _http_error(_: Request, error: Any) -> JSONResponse:
    remedy = "see /docs for what can be asked"
    return _answer(RefusedError(error.status_code, str(error.detail), None, remedy), dict(error.headers or {}))


async def _invalid(_: Request, error: Any) -> JSONResponse:
    first = error.errors()[0]
    name, value = str(first["loc"][-1]), str(first.get("input"))[:40]
    legal, remedy = _QUERY.get(name, ("as /openapi.json says", "see /openapi.json"))
    return _answer(RefusedError(422, f"{name}={value} is invalid: it must be {legal}", value, remedy))


async def _bug(_: Request, error: Exception) -> JSONResponse:
    return _answer(RefusedError(500, "the server met a bug", type(error).__name__, _BUG))
