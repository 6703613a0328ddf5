"""What hurts: a run on a GPU that is another run than on the CPU, waits for the CPU in every step, or cannot go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from as_device import as_device
from cello.audio.augment import AugmentConfig
from cello.audio.corpus import Corpus
from cello.cells.definition import cell
from cello.cells.functions import tanh
from cello.errors import DivergenceError, TrainingError
from cello.features.config import FeatureConfig
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.training import single, trainer
from cello.training.config import CorpusRef, DataConfig, OptimiserConfig, RunConfig
from cello.training.device import Device
from cello.training.execution import ExecutionConfig
from cello.training.resident import Kind, ResidentEpochs
from cello.training.result import Epoch, RunResult
from cello.training.run import train

Patch = pytest.MonkeyPatch


def config(**changes: object) -> RunConfig:
    base = RunConfig(
        corpus=CorpusRef(name="tones", checksum="0" * 64),
        features=FeatureConfig(window_ms=80),
        model=ModelConfig(cell="gru", hidden=8, pooling="attention"),  # no dropout, which a device draws otherwise
        optimiser=OptimiserConfig(epochs=3, batch=7, ema=0.9, learning_rate=5e-3, clip_norm=1.0, label_smoothing=0.1),
    )
    return msgspec.structs.replace(base, **changes)


def on_device(patch: Patch, asked: RunConfig, corpus: Corpus, folder: Path, **settings: Any) -> RunResult:
    """A run whose whole epochs run on a device, which the CPU stands for."""
    with patch.context() as within:
        as_device(within)
        return train(asked, corpus, folder, **settings)


def figures(result: RunResult) -> list[float]:
    splits = (result.train, result.validation, result.test)
    curves = [(e.train_loss, e.validation_loss, e.learning_rate) for e in result.history]
    return [figure for each in curves for figure in each] + [split.loss for split in splits]


CASES = {
    "as they are": config(),
    "changed": config(augment=AugmentConfig(speed=0.1, shift_ms=20, noise_share=0.5)),
    "masked": config(augment=AugmentConfig(time_masks=2, band_masks=1)),
    "mixed": config(augment=AugmentConfig(mixup=0.3, warp=0.1, time_masks=1), features=FeatureConfig(n_mels=20)),
    "two ways": config(
        model=ModelConfig(
            cell="lstm", hidden=6, bidirectional=True, layers=2, pooling="last", frame_stacking=2, dropout=0.0
        ),
        data=DataConfig(test_snr_db=(10.0,)),
    ),
    "by torch": config(model=ModelConfig(cell="torch:lstm", hidden=6, bidirectional=True, pooling="mean")),
    "sgd": config(
        optimiser=OptimiserConfig(name="sgd", epochs=3, batch=7, learning_rate=0.05, weight_decay=0.01, clip_norm=0.1)
    ),
    "rmsprop": config(optimiser=OptimiserConfig(name="rmsprop", epochs=3, batch=24, weight_decay=0.01)),
    "adam": config(optimiser=OptimiserConfig(name="adam", epochs=3, batch=1, weight_decay=0.01, schedule="constant")),
}


@pytest.mark.parametrize("asked", CASES.values(), ids=CASES.keys())
def test_a_seed_means_the_same_on_a_device(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch, asked: RunConfig
) -> None:
    here = train(asked, tone_corpus, tmp_path / "cpu", cache=tmp_path)
    there = on_device(monkeypatch, asked, tone_corpus, tmp_path / "device")
    assert figures(there) == pytest.approx(figures(here), abs=2e-3)
    assert [e.train_accuracy for e in there.history] == pytest.approx([e.train_accuracy for e in here.history], abs=0.1)
    assert (there.run, there.hardware["gpu"], there.device_reason) == (here.run, "Example GPU", "a test")
    assert there.seconds_per_epoch > 0


def test_clips_that_all_have_as_many_frames_need_no_lengths(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch
) -> None:
    """Lengths cost a GPU time, and what has none can be captured whatever computes the cell."""
    long = tone_corpus.lengths.max()
    clips = tuple(c for c in tone_corpus.manifest.clips if c.samples == long)
    corpus = Corpus(msgspec.structs.replace(tone_corpus.manifest, clips=clips), tone_corpus.sound)
    for model in (
        ModelConfig(hidden=4, frame_stacking=3),
        ModelConfig(cell="torch:gru", hidden=4, bidirectional=True),
    ):
        asked = config(model=model, augment=AugmentConfig(shift_ms=10))
        seen: list[Any] = []
        forward = Classifier.forward
        with monkeypatch.context() as patch:
            patch.setattr(
                Classifier,
                "forward",
                lambda self, x, lengths=None, lost=None, *, keep=seen, own=forward: (
                    keep.append((self.training, lengths)) or own(self, x, lengths)
                ),
            )
            there = on_device(patch, asked, corpus, tmp_path / f"{model.cell[:3]}-device")
        assert {lengths for training, lengths in seen if training} == {None}
        here = train(asked, corpus, tmp_path / f"{model.cell[:3]}-cpu", cache=tmp_path)
        assert figures(there) == pytest.approx(figures(here), abs=2e-3)


class StopError(Exception):
    """A kill at the end of an epoch."""


def test_a_run_on_a_device_goes_on_after_a_kill_there_or_on_the_cpu(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(trainer, "KEPT_EVERY_SECONDS", 0.0)
    asked = config(augment=AugmentConfig(shift_ms=20))

    def stop(epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise StopError

    whole = on_device(monkeypatch, asked, tone_corpus, tmp_path / "whole")
    for name in ("there", "here"):
        with pytest.raises(StopError):
            on_device(monkeypatch, asked, tone_corpus, tmp_path / name, on_epoch=stop)
    there = on_device(monkeypatch, asked, tone_corpus, tmp_path / "there")
    assert figures(there) == figures(whole)
    here = train(asked, tone_corpus, tmp_path / "here", cache=tmp_path)
    assert figures(here) == pytest.approx(figures(whole), abs=2e-3)


def test_checkpoints_of_short_epochs_are_not_written_after_each(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch
) -> None:
    written: list[Path] = []
    monkeypatch.setattr(trainer, "save_checkpoint", lambda path, *rest: written.append(path))
    on_device(monkeypatch, config(), tone_corpus, tmp_path / "run")
    assert written == []
    train(config(), tone_corpus, tmp_path / "cpu", cache=tmp_path)
    assert len(written) == 3


def test_a_loss_that_diverges_on_a_device_is_told_as_on_the_cpu(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch
) -> None:
    wild = config(optimiser=OptimiserConfig(name="sgd", epochs=3, batch=8, learning_rate=1e38, warmup=0.0))
    with pytest.raises(
        DivergenceError, match=r"the training loss became \S+ in epoch 1 at learning rate 1e\+38; lower"
    ):
        on_device(monkeypatch, wild, tone_corpus, tmp_path / "run")


@cell
def deaf(x, h, W, U):  # type: ignore[no-untyped-def]
    """A cell whose output does not depend on its weights."""
    return tanh(0.0 * (W.h @ x + U.h @ h))


def test_a_cell_that_cannot_learn_is_told_on_a_device_too(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch
) -> None:
    with pytest.raises(TrainingError, match=r"no weight of cell 'own:deaf' got a gradient in the first epoch"):
        on_device(monkeypatch, config(model=ModelConfig(cell=deaf, hidden=4)), tone_corpus, tmp_path / "run")


def test_a_gpu_without_memory_is_told_with_what_to_do(tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch) -> None:
    def full(self: ResidentEpochs, *kinds: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(ResidentEpochs, "run", full)
    monkeypatch.setattr(single, "computing", lambda device, precision: torch.random.fork_rng(devices=[]))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (10**9, 80 * 10**9))

    def asked(config: RunConfig, device: Device) -> Any:
        return original(config, Device(torch.device("cuda:0"), ""))

    original = single.memory_errors
    monkeypatch.setattr(single, "memory_errors", asked)
    with pytest.raises(TrainingError, match=r"does not fit into the memory of cuda:0 \(the GPU, 1\.0 of 80\.0 GB free"):
        on_device(monkeypatch, config(), tone_corpus, tmp_path / "run")


class NoReading(TorchDispatchMode):
    """Refuses what would make the CPU wait for a GPU: values that decide what comes next."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function).removeprefix("aten.").partition(".")[0]
        waits = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "is_nonzero")
        assert name not in waits, f"a step reads values back: {function}"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "rmsprop", "sgd"])
def test_a_step_never_reads_a_value_back(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch, optimiser: Any
) -> None:
    """Every such read costs more than the step's kernels, and no CUDA graph can hold it."""
    asked = config(
        features=FeatureConfig(window_ms=80, n_mels=20, normalisation="clip"),
        augment=AugmentConfig(shift_ms=20, noise_share=0.5, time_masks=1, band_masks=1, mixup=0.2, warp=0.1),
        model=ModelConfig(cell="gru", hidden=8, dropout=0.2, zoneout=0.1, recurrent_dropout=0.1),
        optimiser=OptimiserConfig(name=optimiser, epochs=1, batch=8, ema=0.9, weight_decay=0.1, clip_norm=1.0),
    )
    step = ResidentEpochs._step

    def watched(self: ResidentEpochs, kind: Kind) -> None:
        with NoReading():
            step(self, kind._replace(whole=True))

    monkeypatch.setattr(ResidentEpochs, "_step", watched)
    plain = ExecutionConfig(backend="plain")
    assert on_device(monkeypatch, asked, tone_corpus, tmp_path / "run", execution=plain).history
    as_device(monkeypatch)
    assert len(train(asked, tone_corpus, tmp_path / "runs", seeds=[0, 1], execution=plain)) == 2
