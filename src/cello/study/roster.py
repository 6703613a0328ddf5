"""The workers of a sitting: who is there, who is fit, who is free; and bringing them what they lack."""

from __future__ import annotations

import pickle
import queue
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import distributed
from distributed import Client, Future

from cello.audio.carry import pieces, receive, settle
from cello.audio.corpus import Corpus
from cello.errors import StudyError
from cello.machine import source, versions
from cello.study.worker import Facts, News, Setup, forget, welcome

FETCH_SECONDS = 300.0
RESTART_SECONDS = 5.0
FORGET_SECONDS = 30.0
STILLBORN_ALLOWED = 9


class Joined(NamedTuple):
    """A worker is there."""

    address: str


class Left(NamedTuple):
    """A worker is gone: it died, was ended, or does not answer the scheduler any more."""

    address: str


class Answer(NamedTuple):
    """What came of something a worker was asked for; an exception where it went wrong."""

    key: str
    value: Any


class Sent(NamedTuple):
    """The corpus is in a worker's cache, or ``error`` says why not."""

    address: str
    error: str


class LostError(Exception):
    """The answer will not come: dask lost it, or its worker."""


Message = Joined | Left | Answer | Sent | News | None
Inbox = queue.SimpleQueue[Message]


class _Call(NamedTuple):
    """Pickles to a call: whoever unpickles it gets what the function returns.

    So dask is only asked to unpickle bytes: its scheduler, which looks into all else, needs no Cello, and a worker
    without Cello says that it has none.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def ask(client: Client, address: str, key: str, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Let one worker, and no other, call a function; the caller keeps the future as long as it wants the answer."""
    return client.submit(pickle.loads, pickle.dumps(_Call(function, arguments)), key=key, workers=[address], pure=False)


def answer(future: Future[Any], key: str, inbox: Inbox) -> None:
    """Put what comes of a future into the inbox."""
    future.add_done_callback(lambda done: inbox.put(Answer(key, _value(done))))  # type: ignore[no-untyped-call]


def _value(future: Future[Any]) -> Any:
    if future.status not in ("finished", "error"):
        return LostError(f"the scheduler lost it ({future.status})")
    try:
        return future.result(timeout=FETCH_SECONDS)
    except (distributed.TimeoutError, distributed.CancelledError, distributed.KilledWorker, OSError) as error:
        return LostError(f"{type(error).__name__}: {error}")
    except Exception as error:
        return error


class Roster:
    """Each worker is made ready once, and then given one run at a time; one that does not fit is named and left alone.

    A run is given to a worker by name, not to dask: so none waits behind another's run while a worker is free, the
    plan's order is kept, and a worker's death counts against the one run that it was training.
    """

    def __init__(self, client: Client, setup: Setup, corpus: Corpus, inbox: Inbox) -> None:
        self.client, self.setup, self.corpus, self.inbox = client, setup, corpus, inbox
        self.greeting: dict[str, tuple[str, Future[Any]]] = {}
        self.facts: dict[str, Facts] = {}
        self.free: list[str] = []
        self.unfit: dict[str, str] = {}
        self.fetching: dict[tuple[str, str], list[str]] = {}
        self.forgotten: dict[str, Future[Any]] = {}
        self.processors: set[str] = set()
        self.stillborn = 0  # how many in a row died before they could train

    def hopeless(self, patience_over: bool) -> bool:
        """Whether no run will ever be done."""
        return self.stillborn > STILLBORN_ALLOWED or (not self.size and (bool(self.unfit) or patience_over))

    @property
    def address(self) -> str:
        """The scheduler's."""
        return str(getattr(self.client.scheduler, "address", "its scheduler"))

    @property
    def size(self) -> int:
        """How many workers are there and may come to train."""
        waiting = sum(map(len, self.fetching.values()))
        return len(self.greeting) + len(self.facts) + waiting

    def look(self) -> None:
        """Compare with who is there now.

        Raises:
            OSError: the scheduler does not answer.
        """
        there = set(self.client.nthreads())  # type: ignore[no-untyped-call]
        known = {*self.greeting, *self.facts, *self.unfit, *(a for group in self.fetching.values() for a in group)}
        for address in known - there:
            self.inbox.put(Left(address))
        for address in sorted(there - known):
            self.joined(address)

    def joined(self, address: str) -> None:
        """Make a worker ready, unless that is done."""
        if address in self.greeting or address in self.facts:
            return
        key = f"cello-welcome-{uuid4().hex}"
        future = ask(self.client, address, key, welcome, self.setup)
        self.greeting[address] = key, future
        answer(future, key, self.inbox)

    def left(self, address: str) -> None:
        """Count on a worker no more."""
        self.stillborn += address in self.greeting
        for known in (self.greeting, self.facts, self.unfit, self.forgotten):
            known.pop(address, None)
        if address in self.free:
            self.free.remove(address)
        for place, group in list(self.fetching.items()):
            if address in group:
                del self.fetching[place]
                for each in group:
                    if each != address:
                        self.joined(each)

    def answered(self, key: str, value: Any) -> None:
        """Take what a worker said of itself."""
        address = next((address for address, (asked, _) in self.greeting.items() if asked == key), None)
        if address is None or isinstance(value, LostError):
            return
        del self.greeting[address]
        self.stillborn = 0
        reason = _misfit(self.address, value)
        if reason:
            self._refuse(address, reason)
        elif not value.corpus:
            self._bring(address, value)
        else:
            self._mind_processor(value.processor)
            self.facts[address] = value
            self.free.append(address)

    def sent(self, address: str, error: str) -> None:
        """The corpus has come to a worker's machine: all that wait there look again."""
        for place, group in list(self.fetching.items()):
            if address in group:
                del self.fetching[place]
                if error:
                    self._refuse(address, error)
                    group.remove(address)
                for each in group:
                    self.joined(each)

    def take(self) -> str:
        """A worker that is free, and from now on is not."""
        return self.free.pop(0)

    def back(self, address: str) -> None:
        """A worker is free again."""
        if address in self.facts and address not in self.free:
            self.free.append(address)

    def again(self, address: str) -> None:
        """Use a worker of which nothing is sure once it answers."""
        if self.facts.pop(address, None) is not None:
            self.joined(address)

    def doubt(self, address: str) -> None:
        """Have a worker that hangs begun anew, if a nanny watches it."""
        self.again(address)
        threading.Thread(target=self._restart, args=(address,), daemon=True).start()

    def _restart(self, address: str) -> None:
        with suppress(Exception):  # without a nanny nothing can be done but wait
            self.client.restart_workers([address], timeout=RESTART_SECONDS, raise_for_error=False)

    def forget(self, address: str, name: str) -> None:
        """Let a worker's machine drop a run that has arrived."""
        if address in self.facts:
            self.forgotten[address] = ask(self.client, address, f"cello-forget-{uuid4().hex}", forget, name)

    def close(self) -> None:
        """Wait a moment for what was asked last."""
        until = time.monotonic() + FORGET_SECONDS
        for future in self.forgotten.values():
            with suppress(Exception):  # what is left there does no harm
                future.result(timeout=max(0.0, until - time.monotonic()))

    def _refuse(self, address: str, reason: str) -> None:
        self.unfit[address] = reason
        if self.size:
            warnings.warn(f"worker {address} is not used: {reason}", stacklevel=2)

    def _mind_processor(self, processor: str) -> None:
        new = processor not in self.processors
        self.processors.add(processor)
        if new and len(self.processors) > 1:
            warnings.warn(
                f"workers have different processors ({', '.join(sorted(self.processors))}): a run's last digits and "
                f"its times depend on where it is trained; each result names its processor",
                stacklevel=2,
            )

    def _bring(self, address: str, facts: Facts) -> None:
        place = facts.host, facts.cache
        self.fetching.setdefault(place, []).append(address)
        if len(self.fetching[place]) == 1:
            threading.Thread(target=self._send, args=(address, facts), daemon=True).start()

    def _send(self, address: str, facts: Facts) -> None:
        transfer = uuid4().hex[:8]
        where = Path(facts.cache), self.setup.corpus.checksum, transfer
        try:
            for number, piece in enumerate(pieces(self.corpus)):
                self._deliver(address, f"cello-{transfer}-{number}", receive, *where, piece)
            self._deliver(address, f"cello-{transfer}-end", settle, *where)
        except Exception as error:
            self.inbox.put(Sent(address, f"the corpus could not be sent to it: {error or type(error).__name__}"))
        else:
            self.inbox.put(Sent(address, ""))

    def _deliver(self, address: str, key: str, function: Callable[..., None], *arguments: Any) -> None:
        ask(self.client, address, key, function, *arguments).result(timeout=FETCH_SECONDS)


def _misfit(scheduler: str, facts: Facts | Exception) -> str:
    """Why a worker cannot take part; empty if it can."""
    own = versions()
    if isinstance(facts, ImportError):
        return f"it cannot import Cello ({facts}); install cello-rnn=={own['cello']} there"
    if isinstance(facts, Exception):
        return f"it cannot be made ready: {type(facts).__name__}: {facts}"
    other = [name for name in own if facts.versions.get(name) != own[name]]
    if other:
        theirs, ours = (" and ".join(f"{name} {of.get(name)}" for name in other) for of in (facts.versions, own))
        return f"it has {theirs}, and this side {ours}; a run's numbers depend on that, so give it the same environment"
    if facts.source and facts.source != source():
        return (
            f"its Cello {own['cello']} is of other source files ({facts.source}) than this side's ({source()}); a "
            f"run's numbers may depend on that, so install the same one on both"
        )
    if facts.threads > 1:
        return (
            f"it has {facts.threads} threads, and a run is one process on one thread; start it as "
            f"dask worker {scheduler} --nthreads 1 --nworkers {facts.threads}"
        )
    return ""


def nobody(roster: Roster, cluster: str | None, seconds: float) -> StudyError:
    """The error where no worker is left that may train."""
    if roster.stillborn > STILLBORN_ALLOWED:
        return StudyError(
            f"{roster.stillborn} workers in a row died before they could train; look at the free memory of their "
            f"machine, and whether python -c 'import torch' ends well there"
        )
    if cluster is None:
        return StudyError(
            "all worker processes died and none could be started again; look at free memory and processes, then give "
            "the same command again with fewer --workers"
        )
    address = roster.address
    if roster.unfit:
        listed = "\n".join(f"  {worker}: {reason}" for worker, reason in roster.unfit.items())
        return StudyError(f"the cluster at {address} has no worker that can be used:\n{listed}")
    return StudyError(
        f"the cluster at {address} has had no worker for {seconds:.0f} s; start some with dask worker {address} "
        f"--nthreads 1 --nworkers N, or wait until your queue has started them, and give the same command again: "
        f"finished runs are kept"
    )
