"""Take kernels that have given right numbers on the GPU that is here, and other ways to divide the work where not.

A kernel is tried in a thread of its own, in which no mode, transform or stream of the caller holds, and for so long
alone: one that never ends is an error, not a process that hangs.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from typing import NamedTuple

import torch

from cello import __version__
from cello.compiler.triton import made_up, proof, verdicts
from cello.compiler.triton.build import without_slp
from cello.compiler.triton.choice import of_pass, ways
from cello.compiler.triton.cooperative import launch_options
from cello.compiler.triton.launch import launched_on
from cello.compiler.triton.machine_code import release
from cello.compiler.triton.proof import Asked, Given, Pair, Way
from cello.compiler.triton.remembered import key_of
from cello.compiler.triton.rounds import Gpu
from cello.compiler.triton.text import waits
from cello.compiler.triton.verdicts import PASSES, Pass, Verdict
from cello.errors import BackendError
from cello.native.nvidia import loaded_driver

PATIENCE_SECONDS = 180.0
"""How long a kernel of a few frames may run. One whose programs wait for each other in vain ends itself before."""
POLL_SECONDS = 1.0
RULES = (
    proof.BOUNDS,
    proof.OF_JUMPS,
    proof.OF_KINKS,
    proof.BATCHES,
    proof.DIGITS,
    proof.UNSURE,
    proof.LEAST,
    made_up.LENGTHS,
    made_up.FURTHER,
)
"""What a verdict follows from beside what is run."""


class Kind(NamedTuple):
    """What decides beside a kernel whether it is right: the GPU, its driver, Triton's release."""

    gpu: str
    driver: str
    triton: str

    def __str__(self) -> str:
        driver = f"driver {self.driver}, " if self.driver else ""
        return f"{self.gpu} ({driver}Triton {self.triton})"


@lru_cache(maxsize=64)
def kind_of(device: torch.device) -> Kind:
    """That of a GPU that is here."""
    return Kind(torch.cuda.get_device_name(device), _driver(), release())


def _driver() -> str:
    """The version of the NVIDIA driver, or of the CUDA that it knows where the system tells no more."""
    if found := loaded_driver():
        return found
    ask: Callable[[], int] | None = getattr(torch._C, "_cuda_getDriverVersion", None)
    return f"of CUDA {ask() // 1000}.{ask() % 1000 // 10}" if ask is not None else ""


class Here(NamedTuple):
    """Where kernels are proved: the GPU's kind and sizes, and how a back end lays out tensors."""

    kind: Kind
    gpu: Gpu
    given: Given


_LOCK = threading.Lock()
_TAKEN: dict[Asked, Pair | str] = {}
_JUDGED: dict[tuple[Asked, Pair], Verdict] = {}


def taken(asked: Asked, here: Here) -> Pair | str:
    """The first kernels that give right numbers here, or what is wrong with the first if none of those that are tried
    do. A warning tells which did not, and what is taken instead.

    Nothing is tried while a CUDA graph is captured, which would end it. Where others are tried meanwhile, what is known
    need not wait.

    Raises:
        BackendError: a kernel did not end, or ended so that this process can use the GPU no more.
    """
    if (known := _TAKEN.get(asked)) is not None:
        return known
    with _LOCK:
        if asked not in _TAKEN:
            if capturing(asked):
                backward = Way(*next(_ways(asked, "backward", here))) if asked.keep else None
                return Pair(Way(*next(_ways(asked, "forward", here))), backward)
            _TAKEN[asked] = _first_right(asked, here)
        return _TAKEN[asked]


def right(asked: Asked, pair: Pair, here: Here) -> bool:
    """Whether kernels by which many clips are divided give right numbers; if not, a warning says so, once. Of those of
    which nothing is known while a CUDA graph is captured they do not.

    Raises:
        BackendError: as ``taken``.
    """
    if (known := _JUDGED.get((asked, pair))) is not None:
        return known.right
    with _LOCK:
        if (asked, pair) not in _JUDGED:
            if capturing(asked):
                return False
            verdict = judged(asked, pair, here)
            if not verdict.right:
                _warn(asked, [(pair, verdict)], here, "Fewer clips a program are taken instead, which may be slower")
        return _JUDGED[asked, pair].right


def capturing(asked: Asked) -> bool:
    """Whether a CUDA graph is being captured."""
    return asked.device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _ways(asked: Asked, way: str, here: Here) -> Iterator[Way]:
    gpu = here.gpu
    found = ways(asked.cell, way, asked.sizes, asked.precision, gpu.capability, gpu.memory, gpu.multiprocessors)
    return (Way(*each) for each in found)


def _first_right(asked: Asked, here: Here) -> Pair | str:
    wrong = list[tuple[Pair, Verdict]]()
    for forward in _ways(asked, "forward", here):
        for backward in _ways(asked, "backward", here) if asked.keep else (None,):
            pair = Pair(forward, backward)
            verdict = judged(asked, pair, here)
            if verdict.right:
                instead = " and ".join(f"{_divided(one)} {way}" for one, way in zip(pair, PASSES, strict=True) if one)
                _warn(asked, wrong, here, f"It is computed by {instead} instead, which may be slower")
                return pair
            wrong.append((pair, verdict))
            if verdict.found == "forward":
                break
    _warn(asked, wrong, here, 'No way to divide its work is left, so backend="auto" takes "plain", which is slower')
    return told(asked, *wrong[0], here)


def _warn(asked: Asked, wrong: list[tuple[Pair, Verdict]], here: Here, instead: str) -> None:
    """Tell the first that was wrong; others are wrong for the same reason."""
    if wrong:
        pair, verdict = wrong[0]
        warnings.warn(f"{told(asked, pair, verdict, here)}. {instead}; please report this", stacklevel=6)


def told(asked: Asked, pair: Pair, verdict: Verdict, here: Here) -> str:
    """A sentence of a kernel that is not right."""
    one = pair.forward if verdict.found == "forward" else pair.backward or pair.forward
    which = f"the {verdict.found} kernel of cell {asked.cell.name!r} for H={asked.sizes.hidden} in {asked.precision}"
    return f"{which}, by {_divided(one)}, {verdict.seen} on {here.kind}" + (f": {verdict.why}" if verdict.why else "")


def _divided(one: Way) -> str:
    """How a pass is divided, in words."""
    tiling = one.tiling
    if tiling.split == 1:
        return f"programs of {tiling.rows} clips"
    return f"{'clusters' if tiling.cluster else 'groups'} of {tiling.split} programs for {tiling.rows} clips"


def judged(asked: Asked, pair: Pair, here: Here) -> Verdict:
    """Whether these kernels are right, as is known of this process or of others, or as a trial shows."""
    if (asked, pair) in _JUDGED:
        return _JUDGED[asked, pair]
    key = key_for(asked, pair, here.kind)
    verdict = verdicts.remembered(key)
    if verdict is None and (way := verdicts.ended(key)):
        again = f"remove {verdicts.folder()} to have all tried again"
        verdict = Verdict(way, "was being tried when a process ended", again)
        verdicts.remember(key, verdict)
    if verdict is None:
        verdict = _tried(asked, pair, here, key)
    _JUDGED[asked, pair] = verdict
    return verdict


def key_for(asked: Asked, pair: Pair, kind: Kind) -> str:
    """A hash of all that a verdict follows from."""
    cell, sizes, precision = asked.cell, asked.sizes, asked.precision
    passes = [(way, one.tiling) for way, one in zip(("forward", "backward"), pair, strict=True) if one]
    given = [of_pass(cell, way, tiling, sizes, precision) for way, tiling in passes]
    given[0]["KEEP"] = asked.keep
    how = [
        launch_options(tiling.split, waits=waits(cell, way, tiling.reread), cluster=tiling.cluster)
        for way, tiling in passes
    ]
    program = __version__, torch.__version__, without_slp(precision), RULES
    return key_of(cell, [each for _, each in passes], given, precision, kind, asked.dtype, how, program)


class _Trial:
    """What the thread of a trial does now, and what it found."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.way: Pass | None = None
        self.begun = 0.0
        self.verdict: Verdict | None = None
        self.error: BaseException | None = None

    @contextmanager
    def trying(self, way: Pass) -> Iterator[None]:
        self.begun, self.way = time.monotonic(), way
        with verdicts.being_tried(self.key, way):
            yield
        self.way = None

    def run(self, prove: Callable[[_Trial], Verdict]) -> None:
        try:
            self.verdict = prove(self)
        except BaseException as error:
            self.error = error

    @property
    def late(self) -> Pass | None:
        """The pass that runs for too long."""
        way = self.way
        return way if time.monotonic() - self.begun > PATIENCE_SECONDS else None


def _tried(asked: Asked, pair: Pair, here: Here, key: str) -> Verdict:
    """Try kernels in a thread, on the stream of this one: what it was given before is over then.

    Raises:
        BackendError: the process can use the GPU no more.
    """
    trial, stream = _Trial(key), torch.cuda.current_stream(asked.device) if asked.device.type == "cuda" else None
    thread = threading.Thread(target=trial.run, args=(partial(_prove, asked, pair, here, stream),), daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_SECONDS)
        if thread.is_alive() and (way := trial.late):
            raise _lost(asked, pair, here, key, Verdict(way, f"did not end within {PATIENCE_SECONDS:g} seconds"))
    way = trial.way
    if trial.error is None:
        assert trial.verdict is not None
        verdicts.remember(key, trial.verdict)
        return trial.verdict
    if isinstance(trial.error, proof.NoTruthError):
        return Verdict("right", why="unknown")  # a user's run is not ended by what Cello cannot make up
    if way is None or not isinstance(trial.error, Exception) or _of_others(trial.error):
        raise trial.error
    reason = (str(trial.error).splitlines() or [type(trial.error).__name__])[0].rstrip(".")
    if not _usable(asked.device):
        raise _lost(asked, pair, here, key, Verdict(way, "ended its launch", reason)) from trial.error
    return Verdict(way, "cannot be launched", reason)  # which another process may


def _prove(asked: Asked, pair: Pair, here: Here, stream: torch.cuda.Stream | None, trial: _Trial) -> Verdict:
    # a new thread is on GPU 0: torch, going back to a stream there, would take memory of it for this process
    with launched_on(asked.device), torch.cuda.stream(stream) if stream else nullcontext(), _may_wait(asked.device):
        return proof.proved(asked, pair, here.gpu, here.given, trial.trying)


def _lost(asked: Asked, pair: Pair, here: Here, key: str, verdict: Verdict) -> BackendError:
    """Remember that kernels take the process with them, and tell what to do."""
    verdicts.remember(key, verdict)
    return BackendError(
        f"{told(asked, pair, verdict, here)}, and this process can use the GPU no more. Start it again: it then takes "
        "another kernel; please report this"
    )


def _usable(device: torch.device) -> bool:
    """Whether the process can still use a GPU."""
    try:
        with _may_wait(device):
            torch.zeros(1, device=device).cpu()
    except RuntimeError:
        return False
    return True


def _of_others(error: Exception) -> bool:
    """Whether other work on the GPU is the reason: its memory is full, or another thread captures a CUDA graph."""
    others = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return others or any(said in str(error) for said in ("out of memory", "stream is capturing"))


@contextmanager
def _may_wait(device: torch.device) -> Iterator[None]:
    """Let torch wait for a GPU within, where it was told to refuse that."""
    before = torch.cuda.get_sync_debug_mode() if device.type == "cuda" else 0
    if not before:
        yield
        return
    torch.cuda.set_sync_debug_mode("default")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
