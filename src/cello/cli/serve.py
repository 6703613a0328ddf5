"""Serve a model over HTTP and WebSocket: `cello serve`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from tyro.conf import Positional, arg

from cello.errors import CelloError, DeployError
from cello.terminal import say

if TYPE_CHECKING:
    from cello.deploy.serve import Served, Server
    from cello.trained.model import Model

EXTRA = {"fastapi", "uvicorn", "websockets", "python_multipart", "starlette", "pydantic", "h11"}
"""What the extra ``serve`` installs."""


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve a model: files by POST /predict, endless sound by the WebSocket /stream, its page at /.

    It listens on this machine alone. With --host 0.0.0.0 everyone who can reach this machine can use it, without
    encryption or password: put a proxy with TLS and a login before it.
    """

    folder: Annotated[
        Positional[Path], arg(help="a folder that cello export wrote, or a run, or a study", metavar="DIR")
    ]
    host: Annotated[str, arg(help="address to listen on; 0.0.0.0 lets other machines in")] = "127.0.0.1"
    port: Annotated[int, arg(help="port to listen on; 0 chooses a free one")] = 8000
    most_streams: Annotated[int, arg(help="streams at once")] = 64
    most_files: Annotated[int, arg(help="uploads at once")] = 8
    most_seconds: Annotated[float, arg(help="sound of an upload in s")] = 60.0
    most_bytes: Annotated[int, arg(help="bytes of an upload")] = 8 << 20
    most_a_minute: Annotated[int, arg(help="uploads a minute from one address")] = 600
    idle_seconds: Annotated[float, arg(help="time in s after which a client that sends nothing is dropped")] = 30.0

    def run(self, console: Console) -> None:
        listener, server = self._server()
        with listener.listen(self.host, self.port) as listening:
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            say(console, f"{self.folder} is served at http://{shown}:{port}/ until Ctrl-C")
            if threshold := _threshold(server.served):
                say(console, f"streams decide at threshold {threshold}")
            if not listener.is_local(listening):
                say(console, "every machine that can reach this one can use it, without encryption or password")
            try:
                listener.run(server, listening)
            except KeyboardInterrupt:
                raise KeyboardInterrupt("the server has stopped") from None

    def _server(self) -> tuple[Any, Server]:
        """The module that listens, and what it serves."""
        try:
            from cello.deploy import listener
            from cello.deploy.limits import Limits
            from cello.deploy.serve import Server
        except ImportError as error:
            raise _missing(error) from error
        limits = Limits(
            streams=self.most_streams,
            files=self.most_files,
            bytes=self.most_bytes,
            seconds=self.most_seconds,
            a_minute=self.most_a_minute,
            idle_s=self.idle_seconds,
        )
        served, page = served_of(self.folder)
        return listener, Server(served, limits, page)


def _missing(error: ImportError) -> Exception:
    name = (error.name or "").split(".")[0]
    if name not in EXTRA:
        return error
    return DeployError(f"cello serve needs {name}, which is not installed; give: pip install 'cello-rnn[serve]'")


def _threshold(served: Served) -> str:
    """The threshold of streams, and where it comes from; empty of a model that has none."""
    from cello.cli.live import threshold_of

    with suppress(CelloError):
        stream: Any = served.stream()
        return threshold_of(stream)
    return ""


def served_of(folder: Path) -> tuple[Served, str | None]:
    """The model of a folder, and its page where it has one."""
    from cello.deploy.manifest import MANIFEST
    from cello.deploy.package import checked_files, load

    if not (folder / MANIFEST).exists():
        from cello.trained.model import load_model

        return ServedRun(load_model(folder)), None
    package = load(folder)
    page = checked_files(folder, package.manifest, keep=(PAGE,)).get(PAGE)
    return package, None if page is None else page.decode()


PAGE = "index.html"


class ServedRun:
    """A run, served as an exported folder is."""

    def __init__(self, model: Model) -> None:
        self.model, self.labels, self.rate_hz = model, model.labels, model.features.rate_hz

    def predict(self, samples: Any, rate_hz: int | None = None) -> list[tuple[str, float]]:
        """All labels of a clip with their probabilities, the most probable first."""
        return self.model.predict(samples, rate_hz or self.rate_hz).top(len(self.labels))

    def stream(self) -> Any:
        """A new stream."""
        return self.model.stream()
