"""What hurts: a seed that gives other figures beside others than alone, or falls with one of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import ref

import msgspec
import pytest
import torch

from as_device import as_device
from cello.audio.augment import AugmentConfig
from cello.audio.corpus import Corpus
from cello.compiler.triton import launch, scan
from cello.errors import ConfigError, DivergenceError, TrainingError
from cello.features.config import FeatureConfig
from cello.models.config import ModelConfig
from cello.training import replicates, trainer
from cello.training.config import CorpusRef, DataConfig, OptimiserConfig, RunConfig
from cello.training.execution import ExecutionConfig
from cello.training.resident import ResidentEpochs
from cello.training.result import Epoch, RunResult
from cello.training.run import train
from cello.training.trainer import Together, Trainer

Patch = pytest.MonkeyPatch
SEEDS = [3, 0, 8]
BASE = RunConfig(
    corpus=CorpusRef(name="tones", checksum="0" * 64),
    features=FeatureConfig(window_ms=80, hop_ms=120, n_mels=20),
    model=ModelConfig(cell="gru", hidden=6, dropout=0.2),
    optimiser=OptimiserConfig(epochs=3, batch=7, ema=0.9, learning_rate=5e-3, clip_norm=1.0, label_smoothing=0.1),
)


def config(**changes: object) -> RunConfig:
    return msgspec.structs.replace(BASE, **changes)


NOISY = ModelConfig(
    cell="lstm", hidden=5, bidirectional=True, layers=2, dropout=0.3, zoneout=0.2, recurrent_dropout=0.2,
    frame_stacking=2, pooling="last",
)  # fmt: skip
CASES = {
    "as they are": config(),
    "changed": config(augment=AugmentConfig(speed=0.1, shift_ms=20, noise_share=0.5)),
    "mixed": config(augment=AugmentConfig(mixup=0.3, warp=0.1, time_masks=1, band_masks=1)),
    "noisy cells": config(model=NOISY, optimiser=OptimiserConfig(epochs=2, batch=24)),
    "declared": config(
        model=ModelConfig(cell="rwkv", hidden=4, pooling="attention"), optimiser=OptimiserConfig(epochs=2, batch=24)
    ),
    "sgd": config(optimiser=OptimiserConfig(name="sgd", epochs=3, batch=7, learning_rate=0.05, choose="best")),
    "rmsprop": config(optimiser=OptimiserConfig(name="rmsprop", epochs=3, batch=24, weight_decay=0.01)),
}


def figures(result: RunResult) -> list[float]:
    splits = (result.train, result.validation, result.test)
    curves = [(e.train_loss, e.validation_loss, e.learning_rate, e.train_accuracy) for e in result.history]
    return [figure for each in curves for figure in each] + [split.loss for split in splits]


def alone(asked: RunConfig, corpus: Corpus, folder: Path, **settings: Any) -> list[RunResult]:
    runs = [msgspec.structs.replace(asked, seed=seed) for seed in SEEDS]
    return [train(one, corpus, folder / "alone" / one.id, cache=folder, **settings) for one in runs]


def written(folder: Path) -> dict[str, list[str]]:
    return {one.name: sorted(file.name for file in one.iterdir()) for one in folder.iterdir()}


@pytest.mark.parametrize("asked", CASES.values(), ids=CASES.keys())
def test_seeds_together_are_what_each_is_alone(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch, asked: RunConfig
) -> None:
    as_device(monkeypatch)
    plain = ExecutionConfig(backend="plain")
    together = train(asked, tone_corpus, tmp_path / "together", seeds=SEEDS, cache=tmp_path, execution=plain)
    expected = alone(asked, tone_corpus, tmp_path, execution=plain)
    for one, other in zip(together, expected, strict=True):
        assert figures(one) == pytest.approx(figures(other), abs=1e-5)
        assert (one.run, one.config, one.chosen_epoch) == (other.run, other.config, other.chosen_epoch)
    assert len({figures(one)[0] for one in together}) == len(SEEDS)
    assert written(tmp_path / "together") == written(tmp_path / "alone")


def test_kernels_for_a_gpu_train_seeds_in_one_launch(tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    as_device(monkeypatch)
    launches: list[int] = []
    kept = launch.run_forward

    def run_forward(call: launch.Call, *rest: Any, **how: Any) -> Any:
        launches.append(len(call.layout.place))
        return kept(call, *rest, **how)

    monkeypatch.setattr(scan, "run_forward", run_forward)
    asked = config(
        features=FeatureConfig(window_ms=100, hop_ms=50, n_mels=13),
        model=ModelConfig(cell="gru", hidden=4, dropout=0.2, zoneout=0.1),
        optimiser=OptimiserConfig(name="sgd", epochs=1, batch=4, learning_rate=0.1, warmup=0.0),
        data=DataConfig(clips_per_label=2),
    )

    def stepped(backend: str) -> torch.Tensor:
        how, seeds = ExecutionConfig(backend=backend), [msgspec.structs.replace(asked, seed=seed) for seed in (0, 1)]
        resident = Together([Trainer(one, tone_corpus, tmp_path, None, execution=how) for one in seeds]).resident
        kind = resident.prepare(0)[0]
        assert not kind.whole
        resident._step(kind)
        return resident.stacked.weights

    torch.testing.assert_close(stepped("triton"), stepped("plain"), rtol=1e-4, atol=1e-5)
    assert launches == [2]


def test_on_the_cpu_they_have_the_same_bits(tone_corpus: Corpus, tmp_path: Path) -> None:
    asked, told = config(augment=AugmentConfig(shift_ms=20)), list[tuple[int, int]]()
    here = train(
        asked, tone_corpus, tmp_path / "together", seeds=SEEDS, cache=tmp_path,
        on_epoch=lambda seed, epoch: told.append((seed, epoch.epoch)),
    )  # fmt: skip
    assert [figures(one) for one in here] == [figures(one) for one in alone(asked, tone_corpus, tmp_path)]
    assert told == [(seed, epoch) for seed in SEEDS for epoch in (1, 2, 3)]
    for one in here:
        folders = (tmp_path / way / one.run / "model.safetensors" for way in ("together", "alone"))
        assert len({folder.read_bytes() for folder in folders}) == 1


def test_one_step_is_made_for_all(tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch) -> None:
    as_device(monkeypatch)
    sizes: list[int] = []
    kept = ResidentEpochs._step
    monkeypatch.setattr(
        ResidentEpochs, "_step", lambda self, kind: sizes.append(len(self.replicates)) or kept(self, kind)
    )
    steps = -(-len(tone_corpus.indices("train")) // 7)
    train(config(), tone_corpus, tmp_path / "all", seeds=SEEDS, cache=tmp_path)
    assert sizes == [3] * 3 * steps
    sizes.clear()
    two = ExecutionConfig(replicates=2)
    train(config(), tone_corpus, tmp_path / "two", seeds=SEEDS, cache=tmp_path, execution=two)
    assert sizes == [2] * 3 * steps + [1] * 3 * steps


class StopError(Exception):
    """A kill at the end of an epoch."""


def test_seeds_that_were_stopped_at_different_epochs_go_on_and_catch_up(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch
) -> None:
    as_device(monkeypatch)
    monkeypatch.setattr(trainer, "KEPT_EVERY_SECONDS", 0.0)
    whole = train(config(), tone_corpus, tmp_path / "whole", seeds=SEEDS, cache=tmp_path)

    def stop(seed: int, epoch: Epoch) -> None:
        if (seed, epoch.epoch) == (0, 2):  # the first of the seeds has kept epoch 2, the last has not
            raise StopError

    with pytest.raises(StopError):
        train(config(), tone_corpus, tmp_path / "stopped", seeds=SEEDS, cache=tmp_path, on_epoch=stop)
    done = msgspec.structs.replace(BASE, seed=8)
    train(done, tone_corpus, tmp_path / "stopped" / done.id, cache=tmp_path)
    told: list[tuple[int, int]] = []
    found = train(
        config(), tone_corpus, tmp_path / "stopped", seeds=SEEDS, cache=tmp_path,
        on_epoch=lambda seed, epoch: told.append((seed, epoch.epoch)),
    )  # fmt: skip
    assert told == [(3, 3), (0, 3)]
    for one, other in zip(found, whole, strict=True):
        assert figures(one) == pytest.approx(figures(other), abs=1e-5)


def test_those_that_are_behind_are_trained_first(tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch) -> None:
    as_device(monkeypatch)
    monkeypatch.setattr(trainer, "KEPT_EVERY_SECONDS", 0.0)

    def stop(epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise StopError

    ahead = msgspec.structs.replace(BASE, seed=0)
    with pytest.raises(StopError):
        train(ahead, tone_corpus, tmp_path / "runs" / ahead.id, cache=tmp_path, on_epoch=stop)
    told: list[tuple[int, int]] = []
    found = train(
        config(), tone_corpus, tmp_path / "runs", seeds=SEEDS, cache=tmp_path,
        on_epoch=lambda seed, epoch: told.append((seed, epoch.epoch)),
    )  # fmt: skip
    assert told == [(3, 1), (8, 1), (3, 2), (8, 2), (3, 3), (0, 3), (8, 3)]
    for one, other in zip(found, alone(BASE, tone_corpus, tmp_path), strict=True):
        assert figures(one) == pytest.approx(figures(other), abs=1e-5)


def test_the_device_memory_of_a_former_group_is_free_for_the_next(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch
) -> None:
    as_device(monkeypatch)
    spoil(monkeypatch, seed=0, epoch=1)
    former: list[ref[ResidentEpochs]] = []
    begin = Together.__init__

    def watched(self: Together, trainers: Sequence[Trainer]) -> None:
        assert [one for each in former if (one := each()) is not None] == []
        begin(self, trainers)
        former.append(ref(self.resident))

    monkeypatch.setattr(Together, "__init__", watched)
    with pytest.raises(TrainingError, match="1 of 3 seeds failed"):
        train(config(), tone_corpus, tmp_path / "runs", seeds=SEEDS, cache=tmp_path)
    assert len(former) == 2


def spoil(patch: Patch, seed: int, epoch: int) -> None:
    """Make the weights of a seed infinite before an epoch."""
    kept = Together.train_epoch

    def train_epoch(self: Together) -> Any:
        for one in self.trainers:
            if one.config.seed == seed and one.epoch == epoch:
                one.optimiser.parameters[0].data.fill_(float("nan"))
        return kept(self)

    patch.setattr(Together, "train_epoch", train_epoch)


def test_a_seed_that_diverges_leaves_the_others_as_they_are(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch
) -> None:
    as_device(monkeypatch)
    expected = alone(BASE, tone_corpus, tmp_path)
    spoil(monkeypatch, seed=0, epoch=1)
    with pytest.raises(
        TrainingError, match=r"^1 of 3 seeds failed; the other 2 are finished in '.*': run \w+ \(seed 0"
    ):
        train(config(), tone_corpus, tmp_path / "runs", seeds=SEEDS, cache=tmp_path)
    runs = [(one.config, tmp_path / "again" / one.run) for one in expected]
    found = replicates.train_together(runs, tone_corpus, cache=tmp_path)
    assert isinstance(found[1], DivergenceError)
    for row in (0, 2):
        one = found[row]
        assert isinstance(one, RunResult)
        assert figures(one) == pytest.approx(figures(expected[row]), abs=1e-5)
        folder = tmp_path / "runs" / one.run
        assert (folder / "result.json").exists()


def test_seeds_that_do_not_fit_into_memory_together_are_trained_fewer_at_a_time(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch
) -> None:
    as_device(monkeypatch)
    kept, steps = ResidentEpochs._step, [0]

    def step(self: ResidentEpochs, kind: Any) -> None:
        steps[0] += 1
        if len(self.replicates) > 1 and steps[0] > 2:  # weights have changed by then
            raise torch.OutOfMemoryError("CUDA out of memory.")
        kept(self, kind)

    expected = alone(BASE, tone_corpus, tmp_path)
    monkeypatch.setattr(ResidentEpochs, "_step", step)
    with pytest.warns(UserWarning, match=r"seeds of gru do not fit into the memory of cpu together, so") as said:
        found = train(config(), tone_corpus, tmp_path / "runs", seeds=SEEDS, cache=tmp_path)
    assert [str(one.message).split()[0] for one in said] == ["3", "2"]
    assert "2 at a time are trained; execution.replicates=2 asks for that" in str(said[0].message)
    for one, other in zip(found, expected, strict=True):
        assert figures(one) == pytest.approx(figures(other), abs=1e-5)


def test_torchs_own_layers_are_trained_alone(tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch) -> None:
    as_device(monkeypatch)
    asked = config(model=ModelConfig(cell="torch:gru", hidden=4))
    found = train(asked, tone_corpus, tmp_path / "runs", seeds=SEEDS, cache=tmp_path)
    assert [one.config.seed for one in found] == SEEDS


def test_times_of_runs_trained_together_are_their_shares(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch
) -> None:
    """Else a store would say that five runs took five times as long as they did."""
    as_device(monkeypatch)
    began = time.perf_counter()
    found = train(config(), tone_corpus, tmp_path / "runs", seeds=SEEDS, cache=tmp_path)
    whole = time.perf_counter() - began
    assert 0 < sum(epoch.epoch_seconds for one in found for epoch in one.history) < whole
    assert 0 < sum(one.total_seconds for one in found) < 1.5 * whole


@pytest.mark.parametrize("seeds", [[], [1, 1]])
def test_seeds_that_make_no_sense_are_refused(tone_corpus: Corpus, tmp_path: Path, seeds: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"seeds=\[.*\] is invalid: give at least one, and each once"):
        train(config(), tone_corpus, tmp_path, seeds=seeds)


@pytest.mark.parametrize("count", [0, 257])
def test_a_number_of_replicates_that_makes_no_sense_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=rf"execution.replicates={count} is invalid: it must be auto, or 1 to 256"):
        ExecutionConfig(replicates=count)
