"""What hurts: compiled steps that draw other random numbers, or train to other weights, than torch's operations."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from cello.audio.augment import AugmentConfig
from cello.audio.corpus import Corpus
from cello.features.config import FeatureConfig
from cello.models.config import ModelConfig
from cello.training.config import CorpusRef, OptimiserConfig, RunConfig
from cello.training.execution import ExecutionConfig
from cello.training.single import threads
from cello.training.trainer import Trainer

AUGMENTS = {
    "masks": AugmentConfig(time_masks=2, band_masks=1),
    "mixup": AugmentConfig(mixup=0.3),
    "both": AugmentConfig(time_masks=1, band_masks=2, mixup=0.3),
    "none": AugmentConfig(),
}


def config(**changes: object) -> RunConfig:
    base = RunConfig(
        corpus=CorpusRef(name="tones", checksum="0" * 64),
        features=FeatureConfig(window_ms=80),
        model=ModelConfig(cell="lstm", hidden=8, dropout=0.2, pooling="attention"),
        optimiser=OptimiserConfig(epochs=2, batch=8, ema=0.9, learning_rate=5e-3, clip_norm=1.0, label_smoothing=0.1),
    )
    return msgspec.structs.replace(base, **changes)


@pytest.mark.wants("cc")
@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("augment", AUGMENTS)
def test_compiled_steps_train_as_torchs_operations(
    tone_corpus: Corpus, tmp_path: Path, augment: str, both_ways: bool
) -> None:
    run = config(augment=AUGMENTS[augment])
    run = msgspec.structs.replace(run, model=msgspec.structs.replace(run.model, bidirectional=both_ways))
    trained, histories = [], []
    for backend in ("plain", "auto"):
        with threads(1):
            trainer = Trainer(run, tone_corpus, tmp_path, tmp_path, execution=ExecutionConfig(backend=backend))
            histories.append([trainer.train_epoch() for _ in range(2)])
        trained.append(trainer)
    for name, weight in trained[0].average.weights.items():
        other = trained[1].average.weights[name]
        if name != "pooling.score.bias":  # which no score depends on
            torch.testing.assert_close(
                other, weight, atol=1e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
            )
    for plain, compiled in zip(*histories, strict=True):
        assert compiled.train_loss == pytest.approx(plain.train_loss, rel=1e-4)
        assert compiled.validation_loss == pytest.approx(plain.validation_loss, rel=1e-3)
        assert compiled.train_accuracy == pytest.approx(plain.train_accuracy, abs=0.03)
