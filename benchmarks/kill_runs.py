"""Kill workers at random during a study of many tiny runs, and compare it with an undisturbed one.

    python benchmarks/kill_runs.py [--runs 200] [--workers 2] [--every 8] [--seed 0] [--cluster] [--out FILE.json]

Runs are real training of a second or two on tones. The same study is done twice: first undisturbed, by processes of
this machine, then with a worker killed (−9) at random moments, one in ``--every`` seconds on average. Every run must
then be there once and equal: result (times left aside), weights and predictions, byte for byte. Ideal is the sum of the
undisturbed runs' times over the workers; the wall time is the whole command's, start-up included.

With ``--cluster`` the disturbed study runs on a Dask cluster of ``dask worker`` processes on loopback, each watched by
its nanny. Every third kill takes a whole ``dask worker`` with its nanny, and another is started, as a queueing system
would. Workers keep caches of their own.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from kill_study import content, say, tones

from cello.execution.run import run_study
from cello.execution.workers import Workers
from cello.machine import hardware
from cello.study.config import StudyConfig
from cello.study.overrides import override
from cello.study.store import CorpusSource, Store
from cello.study.study_file import parse_study

STUDY = """
name = "kill-runs"
[base.augment]
shift_ms = 50
[base.model]
hidden = 24
dropout = 0.1
[base.optimiser]
batch = 8
ema = 0.9
[[rows]]
name = "LSTM"
model.cell = "lstm"
[[rows]]
name = "GRU"
model.cell = "gru"
model.bidirectional = true
"""


def study(options: argparse.Namespace) -> StudyConfig:
    """Two rows with half of the runs each."""
    plain = parse_study(STUDY, "kill_runs.py")
    return override(plain, seeds=range(options.runs // 2), settings={"optimiser.epochs": options.epochs})


def one(options: argparse.Namespace) -> None:
    """The study in this process, which the benchmark has started."""
    workers = Workers(count=None if options.address else options.workers, cluster=options.address or None)
    source = CorpusSource(spec=f"folder:{options.one.parent / 'tones'}")
    run_study(study(options), source, options.one, workers=workers)


class Cluster:
    """A scheduler and so many ``dask worker`` processes on loopback, their nannies with them."""

    def __init__(self, root: Path, workers: int) -> None:
        self.root, self.file = root, root / "scheduler.json"
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        while not self.file.exists():
            time.sleep(0.1)
        self.workers = [self._worker() for _ in range(workers)]

    def _start(self, what: str, *options: str) -> subprocess.Popen[bytes]:
        own = {"XDG_CACHE_HOME": str(self.root / "workers-cache"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "dask", what, "--scheduler-file", str(self.file), *options]
        quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, env={**os.environ, **own}, cwd=self.root, **quiet)

    def _worker(self) -> subprocess.Popen[bytes]:
        local = str(self.root / "local")
        return self._start("worker", "--nthreads", "1", "--nworkers", "1", "--no-dashboard", "--local-directory", local)

    def replace_one(self, rng: random.Random) -> int:
        """Kill a whole ``dask worker`` and start another; its process id."""
        place = rng.randrange(len(self.workers))
        gone, self.workers[place] = self.workers[place], self._worker()
        gone.kill()
        gone.wait()
        return gone.pid

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
        for process in (*self.workers, self.scheduler):
            process.wait()


def run(
    options: argparse.Namespace, out: Path, cluster: Cluster | None = None, kill: bool = False
) -> tuple[float, int]:
    """Seconds that the study took, and how many workers were killed meanwhile; it must succeed."""
    own = [sys.executable, __file__, "--one", str(out), "--runs", str(options.runs), "--epochs", str(options.epochs)]
    own += ["--workers", str(options.workers), *(["--address", str(cluster.file)] if cluster else [])]
    environment = {**os.environ, "XDG_CACHE_HOME": str(out.parent / "cache")}
    began, rng, kills = time.monotonic(), random.Random(options.seed), 0
    with (out.parent / f"{out.name}.log").open("wb") as log:
        process = subprocess.Popen(own, stdout=log, stderr=log, env=environment)
        while process.poll() is None:
            try:
                process.wait(timeout=rng.expovariate(1 / options.every) if kill else None)
            except subprocess.TimeoutExpired:
                kills += kill_one(out, rng, cluster if kills % 3 == 2 else None)
    seconds = time.monotonic() - began
    if process.returncode:
        sys.exit(f"the study failed:\n{(out.parent / f'{out.name}.log').read_text()}")
    return seconds, kills


def kill_one(out: Path, rng: random.Random, cluster: Cluster | None) -> int:
    """Kill one of the processes that train, or a whole ``dask worker``; how many were."""
    if cluster:
        cluster.replace_one(rng)
        return 1
    if not (out / "study.json").exists():
        return 0
    last = {event.run: event for event in Store.open(out).events()}
    training = sorted({event.pid for event in last.values() if event.event == "started"})
    if not training:
        return 0
    with suppress(ProcessLookupError):
        os.kill(rng.choice(training), signal.SIGKILL)
        return 1
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=float, default=8.0, help="seconds between two kills, on average")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cluster", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--address", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tones(root / "tones")
        plain, _ = run(options, root / "undisturbed")
        expected = content(root / "undisturbed")
        each = [stored.result.total_seconds for stored in Store.open(root / "undisturbed").results()]
        ideal = sum(each) / options.workers
        say(f"undisturbed: {len(each)} runs of {sum(each) / len(each):.2f} s in {plain:.1f} s, ideal {ideal:.1f} s")
        cluster = Cluster(root, options.workers) if options.cluster else None
        try:
            seconds, kills = run(options, root / "disturbed", cluster, kill=True)
        finally:
            if cluster:
                cluster.close()
        if content(root / "disturbed") != expected:
            sys.exit("the disturbed study differs from the undisturbed one")
        events = Counter(event.event for event in Store.open(root / "disturbed").events())
        say(
            f"disturbed: {kills} kills, which took {events['lost']} runs; {events['finished']} finished, each once and "
            f"equal; {seconds:.1f} s = {seconds / ideal:.2f} × ideal (undisturbed {plain / ideal:.2f} ×)"
        )
        if options.out:
            record = {
                "about": __doc__,
                "hardware": hardware(),
                "options": {
                    name: value for name, value in vars(options).items() if name not in ("out", "one", "address")
                },
                "run_seconds": each,
                "ideal_seconds": ideal,
                "undisturbed_seconds": plain,
                "disturbed_seconds": seconds,
                "kills": kills,
                "events": dict(events),
            }
            options.out.write_bytes(msgspec.json.format(msgspec.json.encode(record)))


if __name__ == "__main__":
    main()
