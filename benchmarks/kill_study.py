"""Kill a small study at random moments, resume it, and compare it with an undisturbed one.

    python benchmarks/kill_study.py [--kills 10] [--seed 0] [--corpus SPEC]

In turn the main process is killed (−9), one worker is killed (−9), and the whole process group gets Ctrl-C, as from a
terminal. After each, the same command is given again; then every run must be there once, with the same result (times
left aside), the same weights and the same predictions, byte for byte. Without ``--corpus`` the clips are tones.
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
import wave
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cello.execution.run import run_study
from cello.study.overrides import override
from cello.study.store import CorpusSource, Store
from cello.study.study_file import parse_study

STUDY = """
name = "kill"
seeds = [0, 1]
[base.augment]
shift_ms = 50
[base.model]
hidden = 24
dropout = 0.1
[base.optimiser]
epochs = 5
batch = 8
ema = 0.9
[[rows]]
name = "LSTM"
[rows.model]
cell = "torch:lstm"
[[rows]]
name = "GRU"
[rows.model]
cell = "torch:gru"
bidirectional = true
[[rows]]
name = "RNN"
[rows.model]
cell = "torch:rnn"
"""
KINDS = ("kill main", "kill worker", "Ctrl-C")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def tones(folder: Path) -> None:
    """Three words as tones of 30 speakers each, written as WAV in class folders."""
    rng = np.random.default_rng(0)
    for word, hz in (("high", 2000.0), ("middle", 900.0), ("low", 300.0)):
        (folder / word).mkdir(parents=True)
        for speaker in range(30):
            t = np.arange(16_000) / 16_000
            sound = np.sin(2 * np.pi * hz * rng.uniform(0.9, 1.1) * t) + rng.normal(0, 0.5, t.shape)
            with wave.open(str(folder / word / f"{speaker:08x}_nohash_0.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(16_000)
                file.writeframes((sound * 8_000).astype("<i2").tobytes())


def start(options: argparse.Namespace, out: Path) -> subprocess.Popen[bytes]:
    """The study as a command of its own, leader of a process group."""
    own = [sys.executable, __file__, "--corpus", options.corpus, "--epochs", str(options.epochs), "--one", str(out)]
    return subprocess.Popen(own, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def run_to_end(options: argparse.Namespace, out: Path) -> float:
    """Seconds that the study took; it must succeed."""
    began = time.monotonic()
    process = start(options, out)
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"the study failed:\n{errors.decode()}")
    return time.monotonic() - began


def stop(process: subprocess.Popen[bytes], kind: str, out: Path) -> str:
    """Do what ``kind`` says, wait until every process of the study is gone, and return what was seen."""
    if kind == "kill main":
        process.kill()
    elif kind == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        events = [event for event in Store.open(out).events() if event.event == "started"]
        if not events:
            process.kill()
        else:
            try:
                os.kill(events[-1].pid, signal.SIGKILL)
            except ProcessLookupError:
                process.kill()
    process.communicate()
    return f"exit {process.returncode}"


def content(out: Path) -> dict[str, Any]:
    """All that must be equal, by run."""
    found: dict[str, Any] = {}
    store = Store.open(out)
    for stored in store.results():
        plain = msgspec.to_builtins(stored.result)
        plain = {key: value for key, value in plain.items() if "second" not in key}
        plain["history"] = [{k: v for k, v in e.items() if not k.endswith("seconds")} for e in plain["history"]]
        folder = store.run_folder(stored)
        weights = (folder / "model.safetensors").read_bytes()
        predictions = {name: array.tobytes() for name, array in store.predictions(stored).items()}
        found[stored.id] = plain, weights, predictions
    finished = Counter(event.run for event in store.events() if event.event == "finished")
    if finished != dict.fromkeys(found, 1) or store.pending():
        sys.exit(f"{out}: the journal counts {finished}, the folder holds {len(found)} of {len(store.runs)} runs")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--corpus", default="")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        study = override(parse_study(STUDY, "kill_study.py"), settings={"optimiser.epochs": options.epochs})
        cache = options.one.parent / "cache"
        run_study(study, CorpusSource(spec=options.corpus), options.one, workers=2, cache=cache)
        return
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if not options.corpus:
            tones(root / "tones")
            options.corpus = f"folder:{root / 'tones'}"
        say(f"unbroken: {run_to_end(options, root / 'first'):.1f} s, with an empty cache")
        length = run_to_end(options, root / "unbroken")
        say(f"unbroken: {length:.1f} s")
        expected = content(root / "unbroken")
        if expected != content(root / "first"):
            sys.exit("two unbroken studies differ")
        number, attempt = 0, 0
        while number < options.kills:
            attempt += 1
            out = root / f"stopped{attempt}"
            kind, moment = KINDS[number % len(KINDS)], rng.uniform(0.1, 0.95) * length
            process = start(options, out)
            time.sleep(moment)
            if process.poll() is not None:
                process.communicate()
                say(f"{kind} after {moment:.2f} s: too late, the study had ended; another moment is drawn")
                length *= 0.8
                continue
            number += 1
            seen = stop(process, kind, out) if (out / "study.json").exists() else stop(process, "kill main", out)
            before = len(Store.open(out).results()) if (out / "study.json").exists() else 0
            run_to_end(options, out)
            if content(out) != expected:
                sys.exit(f"{kind} after {moment:.2f} s: the resumed study differs from the unbroken one")
            say(
                f"{kind} after {moment:.2f} s ({seen}, {before} of {len(expected)} runs finished): equal after resuming"
            )


if __name__ == "__main__":
    main()
