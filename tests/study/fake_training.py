"""Stands in for training: quick, resumable, its numbers derived from the config alone, made to misbehave by width."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cello.audio.corpus import Clip, Corpus, Manifest, Split
from cello.cells.load import known
from cello.errors import DivergenceError, TrainingError
from cello.training.config import RunConfig
from cello.training.execution import ExecutionConfig
from cello.training.result import Epoch, RunResult, SplitMetrics

WORDS = ("nein", "да", "はい")


def manifest(checksum: str = "a" * 64) -> Manifest:
    """A corpus of nine silent clips."""
    splits: tuple[Split, ...] = ("train", "validation", "test")
    clips = tuple(
        Clip(name=f"{word}/{split}.wav", label=word, split=split, speaker=split, start=0, samples=16_000)
        for split in splits
        for word in WORDS
    )
    return Manifest(corpus="fake", rate_hz=16_000, labels=WORDS, clips=clips, bad=(), checksum=checksum, source="fake")


def open_fake(spec: str, *, cache: Path | None = None, checksum: str = "a" * 64) -> Corpus:
    return Corpus(manifest(checksum), np.zeros(1, np.float32))


def open_stated(spec: str, *, cache: Path | None = None) -> Corpus:
    """The corpus whose checksum a file states."""
    return open_fake(spec, checksum=Path(spec).read_text())


def open_changing(spec: str, *, cache: Path | None = None, main: int = 0) -> Corpus:
    """Another corpus in every process but one."""
    return open_fake(spec, checksum="a" * 64 if os.getpid() == main else "b" * 64)


def epoch_of(config: RunConfig, number: int, before: float) -> Epoch:
    """The next epoch's record; depends on the one before, so a lost or doubled epoch changes all that follow."""
    accuracy = (before * 7919 + int(config.id[:6], 16) / 2**24 + number) % 1.0
    return Epoch(
        epoch=number,
        learning_rate=config.optimiser.learning_rate,
        train_loss=1 - accuracy,
        train_accuracy=accuracy,
        validation_loss=1.0,
        validation_accuracy=accuracy,
        train_seconds=time.perf_counter() % 1,
        train_cpu_seconds=0.01,
        data_seconds=0.0,
        validation_seconds=0.0,
    )


def result_of(config: RunConfig, history: list[Epoch]) -> RunResult:
    accuracy = bowl(config) if config.model.hidden >= 100 else history[-1].train_accuracy
    metrics = SplitMetrics(clips=3, loss=1.0, accuracy=accuracy, word_mean=0.5)
    return RunResult(
        run=config.id,
        config=config,
        labels=WORDS,
        parameters=10,
        backend="fake",
        chosen_epoch=len(history),
        train=metrics,
        validation=metrics,
        test=metrics,
        confusion=((1, 0, 0), (0, 1, 0), (0, 0, 1)),
        seconds_per_epoch=0.01,
        wall_seconds_per_epoch=0.01,
        clips_per_second=100.0,
        total_seconds=0.1,
        hardware={},
        versions={},
        history=tuple(history),
    )


def bowl(config: RunConfig) -> float:
    """Best at a learning rate of 0.003 without dropout."""
    return 0.9 - 0.1 * math.log10(config.optimiser.learning_rate / 3e-3) ** 2 - 0.1 * config.model.dropout**2


def write(path: Path, content: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)


def train(
    config: RunConfig,
    corpus: Corpus,
    folder: Path,
    *,
    cache: Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    execution: ExecutionConfig | None = None,
) -> RunResult:
    """Epochs of ``learning_rate`` seconds; hidden 12, 13, 16 raise, 14 dies once, 15 dies always, 17 hangs once, 18
    needs its cell, 19 dies at each epoch but the last.

    From hidden 100 on the accuracy is a ``bowl``; 113 diverges at learning rates above 0.003.
    """
    if config.model.hidden == 15:
        os._exit(9)
    checkpoint = folder / "checkpoint.json"
    history = msgspec.json.decode(checkpoint.read_bytes(), type=list[Epoch]) if checkpoint.exists() else []
    while len(history) < config.optimiser.epochs:
        time.sleep(config.optimiser.learning_rate)
        history.append(epoch_of(config, len(history) + 1, history[-1].train_accuracy if history else 0.0))
        write(checkpoint, msgspec.json.encode(history))
        if on_epoch is not None:
            on_epoch(history[-1])
        if config.model.hidden == 17:
            hang_once(folder.parent / f"hung-{config.id}")
        die_as_asked(config, len(history), folder)
        misbehave(config, len(history))
    result = result_of(config, history)
    np.savez(folder / "predictions.npz", target=np.arange(3))
    write(folder / "result.json", msgspec.json.encode(result))
    checkpoint.unlink()
    return result


def misbehave(config: RunConfig, epoch: int) -> None:
    if config.model.hidden == 12 and epoch == 1:
        raise ValueError("a bug of ours")
    if config.model.hidden == 13 and epoch == 1:
        raise TrainingError("the loss is not finite; lower the learning rate")
    if config.model.hidden == 113 and config.optimiser.learning_rate > 3e-3:
        raise DivergenceError("the loss became nan")
    if config.model.hidden == 14 and epoch == 1:
        os._exit(9)
    if config.model.hidden == 19 and epoch < config.optimiser.epochs:
        time.sleep(0.1)  # so that the epoch is heard of
        os._exit(9)
    if config.model.hidden == 16:
        raise MemoryError("no room for 9 GB")
    if config.model.hidden == 18:
        assert known(config.model.cell, config.model.equations) is not None


def hang_once(marker: Path) -> None:
    if not marker.exists():
        marker.touch()
        time.sleep(3600)


def die_as_asked(config: RunConfig, epoch: int, folder: Path) -> None:
    """FAKE_DEATH="HIDDEN EPOCH WHO": when that run reaches that epoch for the first time, kill or interrupt."""
    hidden, moment, who = os.environ.get("FAKE_DEATH", "0 0 nobody").split()
    marker = (folder.parent if config.model.hidden >= 100 else folder) / f"died-{who}"
    if (config.model.hidden, epoch) != (int(hidden), int(moment)) or marker.exists():
        return
    marker.touch()
    if who == "main":
        os.kill(os.getpgrp(), signal.SIGKILL)  # the command leads its process group
    elif who == "worker":
        os.kill(os.getpid(), signal.SIGKILL)
    elif who == "ctrl-c":
        os.killpg(os.getpgrp(), signal.SIGINT)


def timeless(result: RunResult) -> Any:
    """The result without what no two runs of it share."""
    plain = msgspec.to_builtins(result)
    plain["history"] = [{k: v for k, v in e.items() if not k.endswith("seconds")} for e in plain["history"]]
    return {k: v for k, v in plain.items() if not k.startswith("epoch_")}  # which follow from the history's times
