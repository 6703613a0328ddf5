"""Make the artificial store that store_scale.py measures.

python benchmarks/store_scale_made.py FOLDER SEEDS
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.audio.corpus import Clip, Manifest
from cello.study.plan import PlannedRun
from cello.study.store import CorpusSource, Store
from cello.study.study_file import load_study
from cello.training.result import Epoch, RunResult, SplitMetrics

WORDS = ("bed", "cat", "down", "eight", "five", "go", "happy", "left", "one", "right", "up", "zero")
CLIPS = {"train": 6060, "validation": 647, "test": 2678}
SPEAKERS = {"train": 1132, "validation": 120, "test": 268}
EPOCHS = 30
CELLS = ("rnn", "gru", "lstm", "lstm-peephole", "lstm-coupled")
HARDWARE = {"system": "Linux x86_64", "processor": "AMD EPYC", "cores": "2", "threads": "1"}
VERSIONS = {"cello": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7"}


def study_text(seeds: int) -> str:
    """Ten models × ten windows."""
    head = f'name = "scale"\ntitle = "Scale"\nseeds = {list(range(seeds))}\n[base.optimiser]\nepochs = {EPOCHS}\n'
    columns = "".join(f'[[columns]]\nname = "{ms} ms"\nfeatures.window_ms = {ms}\n' for ms in range(20, 120, 10))
    rows = "".join(
        f'[[rows]]\nname = "{cell}, H {hidden}"\nmodel.cell = "{cell}"\nmodel.hidden = {hidden}\n'
        for cell in CELLS
        for hidden in (32, 64)
    )
    return head + columns + rows


def manifest() -> Manifest:
    """As many clips and speakers as the 12 words of Speech Commands have, without sound."""
    clips = tuple(
        Clip(
            name=f"{split}/{number}.wav",
            label=WORDS[number % len(WORDS)],
            split=split,  # type: ignore[arg-type]
            speaker=f"{split} {number * SPEAKERS[split] // count}",
            start=0,
            samples=16_000,
        )
        for split, count in CLIPS.items()
        for number in range(count)
    )
    return Manifest(
        corpus="scale", rate_hz=16_000, labels=WORDS, clips=clips, bad=(), checksum="5c" * 32, source="made up"
    )


def history(rng: np.random.Generator, top: float, seconds: float) -> tuple[Epoch, ...]:
    """Curves that rise to about ``top``."""
    rise = 1 - np.exp(-np.arange(1, EPOCHS + 1) / 4)
    train, validation = np.clip(rng.normal(rise, 0.004, (2, EPOCHS)) * [[top + 0.02], [top]], 0, 1).tolist()
    each = rng.uniform(0.98, 1.02, (4, EPOCHS)).tolist()
    return tuple(
        Epoch(
            epoch=k + 1,
            learning_rate=2e-3 * (1 - k / EPOCHS),
            train_loss=2.4 * (1.01 - train[k]),
            train_accuracy=train[k],
            validation_loss=2.5 * (1.02 - validation[k]),
            validation_accuracy=validation[k],
            train_seconds=1.1 * seconds * each[0][k],
            train_cpu_seconds=seconds * each[1][k],
            data_seconds=0.2 * each[2][k],
            validation_seconds=0.02 * each[3][k],
        )
        for k in range(EPOCHS)
    )


def answers(
    rng: np.random.Generator, targets: NDArray[np.int64], ease: NDArray[np.float64], skill: float
) -> NDArray[np.int64]:
    """(K,) answers: right with probability 1 / (1 + exp(−skill − ease)), else another word."""
    right = rng.random(len(targets)) < 1 / (1 + np.exp(-skill - ease))
    other = (targets + rng.integers(1, len(WORDS), len(targets))) % len(WORDS)
    return np.where(right, targets, other)


def result(run: PlannedRun, said: tuple[NDArray[np.int64], NDArray[np.int64]], rng: np.random.Generator) -> RunResult:
    """The record of a run with these (targets, answers)."""
    targets, answered = said
    accuracy = float((targets == answered).mean())
    counts = np.bincount(targets * len(WORDS) + answered, minlength=len(WORDS) ** 2).reshape(len(WORDS), -1)
    seconds = 30 / run.config.features.window_ms * run.config.model.hidden / 32 * float(rng.uniform(0.97, 1.03))

    def split(name: str, value: float) -> SplitMetrics:
        return SplitMetrics(clips=CLIPS[name], loss=4 * (1.01 - value), accuracy=value, word_mean=value - 0.004)

    return RunResult(
        run=run.id,
        config=run.config,
        labels=WORDS,
        parameters=300 * run.config.model.hidden,
        backend="c",
        chosen_epoch=EPOCHS,
        train=split("train", min(accuracy + 0.05, 1.0)),
        validation=split("validation", min(accuracy + 0.03 + float(rng.normal(0, 0.004)), 1.0)),
        test=split("test", accuracy),
        confusion=tuple(tuple(row) for row in counts.tolist()),
        seconds_per_epoch=seconds,
        wall_seconds_per_epoch=1.1 * seconds,
        clips_per_second=CLIPS["train"] / seconds,
        total_seconds=EPOCHS * seconds * 1.2,
        hardware=HARDWARE,
        versions=VERSIONS,
        history=history(rng, accuracy + 0.03, seconds),
    )


def make(folder: Path, seeds: int) -> None:
    """``study.toml`` and the store with every run finished; ``whole`` is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(study_text(seeds))
    study = load_study(folder / "study.toml")
    options = {"speaker_pattern": None, "allow_bad": 0.01, "rate_hz": 16_000}
    source = CorpusSource(spec="store-scale", options=options)
    store = Store.create_or_open(folder / "store", study, manifest(), source)
    targets = np.arange(CLIPS["test"]) % len(WORDS)
    ease = np.random.default_rng(0).normal(0, 1.5, len(targets))
    rows, columns = ([item.name for item in items] for items in (study.rows, study.columns))
    for number, run in enumerate(store.runs):
        rng = np.random.default_rng(number)
        skill = 2.5 + 0.15 * rows.index(run.row) - 0.1 * columns.index(run.column) + float(rng.normal(0, 0.1))
        said = targets, answers(rng, targets, ease, skill)
        place = store.run_folder(run)
        place.mkdir(parents=True, exist_ok=True)
        sure = rng.uniform(0.3, 1.0, len(targets)).astype(np.float16)
        target, prediction = (part.astype(np.uint16) for part in said)
        np.savez_compressed(
            place / "predictions.npz",
            target=target,
            prediction=prediction,
            target_probability=sure,
            prediction_probability=sure,
        )
        (place / "result.json").write_bytes(msgspec.json.encode(result(run, said, rng)))
    with (folder / "store" / "journal.jsonl").open("wb") as journal:
        for event in ("started", "finished"):
            for run in store.runs:
                line = {"event": event, "run": run.id, "time": 1.8e9, "pid": 1, "host": "made-up"}
                journal.write(msgspec.json.encode(line) + b"\n")
    (folder / "whole").touch()


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]))
