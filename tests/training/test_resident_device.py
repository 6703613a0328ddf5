"""What hurts: what a GPU or a CUDA graph refuses, found out only where a GPU is.

That is a tensor of a step that was left on the CPU, one that is made there at every step, a value that is read back.

Another device than the CPU stands for the GPU: torch's "meta", which has shapes and no data, so it refuses to be mixed
with the CPU and to be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from as_device import as_device
from captured import Captured
from cello.audio.augment import AugmentConfig
from cello.audio.corpus import Corpus
from cello.features.config import FeatureConfig
from cello.models.config import ModelConfig
from cello.training.config import CorpusRef, DataConfig, OptimiserConfig, RunConfig
from cello.training.execution import ExecutionConfig
from cello.training.resident import ChangedClips, ResidentEpochs
from cello.training.stacked import Stacked
from cello.training.trainer import Together, Trainer

META = torch.device("meta")
BASE = RunConfig(
    corpus=CorpusRef(name="tones", checksum="0" * 64),
    features=FeatureConfig(window_ms=80, hop_ms=240, n_mels=20),  # few frames: each is as many operations
    augment=AugmentConfig(speed=0.1, shift_ms=20, noise_share=0.5, time_masks=1, band_masks=1, mixup=0.2, warp=0.1),
    model=ModelConfig(cell="lstm", hidden=4, dropout=0.2),
    optimiser=OptimiserConfig(epochs=1, batch=8, ema=0.9, clip_norm=1.0, label_smoothing=0.1, weight_decay=0.1),
)
NOISY = ModelConfig(
    cell="gru",
    hidden=4,
    bidirectional=True,
    layers=2,
    zoneout=0.1,
    recurrent_dropout=0.1,
    frame_stacking=2,
    pooling="last",
)
CASES = {
    "changed": BASE,
    "as they are": msgspec.structs.replace(BASE, augment=AugmentConfig()),
    "noisy cells": msgspec.structs.replace(BASE, model=NOISY),
    "lost": msgspec.structs.replace(
        BASE,
        features=FeatureConfig(kind="log-mel", window_ms=80, hop_ms=240, n_mels=20, normalisation="clip"),
        data=DataConfig(lost_frames=0.2),
        model=ModelConfig(cell="gru-d", hidden=4, pooling="attention"),
    ),
    "by torch": msgspec.structs.replace(BASE, model=ModelConfig(cell="torch:lstm", hidden=4, pooling="mean")),
    "sgd": msgspec.structs.replace(BASE, optimiser=OptimiserConfig(name="sgd", batch=8, weight_decay=0.1)),
    "rmsprop": msgspec.structs.replace(BASE, optimiser=OptimiserConfig(name="rmsprop", batch=8, weight_decay=0.1)),
}


def moved(value: Any) -> Any:
    """The same on the other device."""
    if isinstance(value, dict):
        return {key: moved(part) for key, part in value.items()}
    return value.to(META) if isinstance(value, Tensor) else value


def move(holder: Any, *names: str) -> None:
    for name in names:
        object.__setattr__(holder, name, moved(getattr(holder, name)))


def move_all(trainer: Trainer, epochs: ResidentEpochs) -> None:
    """Everything that lies on a device in a run."""
    for module in trainer.model.modules():
        for name, weight in module._parameters.items():
            module._parameters[name] = None if weight is None else nn.Parameter(moved(weight.data))
        for name, buffer in module._buffers.items():
            module._buffers[name] = moved(buffer)
    stacked: Stacked = epochs.stacked
    move(stacked, "weights", "rate", "_state", "_means")
    stacked._leaves = stacked._as_leaves()
    move(epochs, "number", "losses", "right", "firsts", "targets", "of_steps", "of_clips")
    epochs.device = META
    clips = epochs.clips
    if isinstance(clips, ChangedClips):
        for sound in (clips.sound, clips.noise):
            move(sound, "flat", "starts", "lengths")
        move(clips, "clips")
        move(clips.front_end, "_tensors", "_weights")
    else:
        move(clips, "flat", "_starts", "_own")


def same_device(weights: Any, gradients: Any, first: Any, second: Any, _: Any, steps: Any, **settings: Any) -> None:
    """Stands for torch's kernel, which meta does not have."""
    given = [*weights, *gradients, *first, *second, *steps, settings["lr"]]
    assert {tensor.device for tensor in given} == {META}


@pytest.mark.parametrize(("whole", "runs"), [(True, 1), (False, 1), (False, 2)])
@pytest.mark.parametrize("asked", CASES.values(), ids=CASES.keys())
def test_all_of_a_step_is_on_its_device_and_a_graph_can_hold_it(
    tone_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: RunConfig, whole: bool, runs: int
) -> None:
    if runs > 1 and asked.model.cell.startswith("torch:"):
        pytest.skip("torch's layers are trained alone")
    as_device(monkeypatch)
    monkeypatch.setattr(torch, "_fused_adamw_", same_device)
    seeds = [msgspec.structs.replace(asked, seed=seed) for seed in range(runs)]
    plain = ExecutionConfig(backend="plain")
    trainers = [Trainer(one, tone_corpus, tmp_path, None, execution=plain) for one in seeds]
    trainer, epochs = trainers[0], Together(trainers).resident
    kinds = epochs.prepare(0)
    move_all(trainer, epochs)
    trainer.model.train()
    for kind in (kinds[0], kinds[-1]):
        with Captured(META) as watched:
            epochs._step(kind._replace(whole=whole))
        assert watched.seen > 100
