"""Connect to a Dask cluster, check its workers, and send them the corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from distributed import Client

from cello.audio.corpus import Corpus
from cello.audio.transfer import chunks, finalise, receive
from cello.errors import StudyError
from cello.execution.forkserver import SAFE_PATH, environment, interrupts_blocked
from cello.execution.local import quiet
from cello.execution.task import Setup, WorkerInfo
from cello.execution.worker import handshake
from cello.machine import source, versions

CONNECT_SECONDS = 20.0


def address_of(client: Client) -> str:
    """The scheduler's address."""
    return str(getattr(client.scheduler, "address", "its scheduler"))


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Connect to a cluster that is there, and leave it as it was.

    Raises:
        StudyError: no scheduler answers at the address.
    """
    with quiet(), environment(SAFE_PATH), ExitStack() as stack:
        try:
            with interrupts_blocked():
                client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
                stack.enter_context(client)
        except (OSError, ValueError) as error:
            raise StudyError(
                f"no Dask scheduler answers at {address}: {error}; check the address, and that dask scheduler runs "
                f"there and can be reached from this machine"
            ) from error
        yield client


def call(client: Client, worker: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in one worker, beside its tasks; raises what it raises."""
    return client.run(function, *arguments, workers=[worker])[worker]


def worker_info(client: Client, worker: str, setup: Setup) -> WorkerInfo | str:
    """What a worker tells of itself; the reason if it cannot be used.

    Raises:
        OSError: it does not answer, or has just died.
    """
    try:
        info = msgspec.convert(call(client, worker, handshake, setup), WorkerInfo)
    except OSError:
        raise
    except Exception as error:
        if "No module named 'cello" in str(error):  # some errors arrive as their text
            return f"it cannot import Cello ({error}); install cello-rnn=={versions()['cello']} there"
        return f"it cannot be made ready: {type(error).__name__}: {error}"
    return incompatibility(info, address_of(client)) or info


def incompatibility(worker: WorkerInfo, scheduler: str) -> str:
    """Why a worker cannot take part; empty if it can."""
    own = versions()
    other = [name for name in own if worker.versions.get(name) != own[name]]
    if other:
        theirs, ours = (" and ".join(f"{name} {of.get(name)}" for name in other) for of in (worker.versions, own))
        return f"it has {theirs}, and this side {ours}; results depend on the versions, so give it the same environment"
    if worker.source != source():
        return (
            f"its Cello {own['cello']} is of other source files ({worker.source}) than this side's ({source()}); a "
            f"run's numbers may depend on that, so install the same one on both"
        )
    if worker.threads > 1:
        return (
            f"it has {worker.threads} threads, and a run is one process on one thread; start it as "
            f"dask worker {scheduler} --nthreads 1 --nworkers {worker.threads}"
        )
    return ""


def send_corpus(client: Client, worker: str, cache: str, corpus: Corpus) -> None:
    """Send the decoded corpus to a worker's cache, a chunk at a time.

    Raises:
        CorpusError: the cache cannot be written, or what arrived is not what was sent.
    """
    where = Path(cache), corpus.manifest.checksum, uuid4().hex[:8]
    for chunk in chunks(corpus):
        call(client, worker, receive, *where, chunk)
    call(client, worker, finalise, *where)
