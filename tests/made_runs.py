"""Finished runs made in a moment: random weights, no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import save

from cello.audio.corpus import Manifest
from cello.features.config import FeatureConfig
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.study.corpus_file import CorpusSummary, write_corpus
from cello.training.config import CorpusRef, OptimiserConfig, RunConfig
from cello.training.result import Epoch, RunResult, SplitMetrics


def metrics(clips: int) -> SplitMetrics:
    return SplitMetrics(clips=clips, loss=1.0, accuracy=0.5, word_mean=0.5)


def perturbed(model: Classifier) -> Classifier:
    """The model with biases and standardisation that are not zero, as after training."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
        model.mean.copy_(torch.linspace(-1, 1, len(model.mean)))
        model.deviation.copy_(torch.linspace(2, 4, len(model.mean)))
    return model.eval()


def make_run(folder: Path, manifest: Manifest, features: FeatureConfig = FeatureConfig(), **model: Any) -> Path:  # noqa: B008
    """The folder of a finished run on this corpus with these settings of model and features."""
    config = RunConfig(
        corpus=CorpusRef(name="tones", checksum=manifest.checksum),
        features=features,
        model=ModelConfig(**{"hidden": 6, **model}),
        optimiser=OptimiserConfig(epochs=1),
    )
    labels = manifest.labels
    weights = perturbed(Classifier(config.model, features.dimensions, len(labels), seed=1)).state_dict()
    epoch = Epoch(**{field: 1 if field == "epoch" else 0.5 for field in Epoch.__struct_fields__})
    confusion = tuple(tuple(3 * (k == own) for k in range(len(labels))) for own in range(len(labels)))
    result = RunResult(
        run=config.id, config=config, labels=labels, parameters=1, backend="c", chosen_epoch=1, train=metrics(24),
        validation=metrics(9), test=metrics(9), confusion=confusion, seconds_per_epoch=1.0,
        wall_seconds_per_epoch=1.0, clips_per_second=1.0, total_seconds=1.0, hardware={}, versions={},
        history=(epoch,),
    )  # fmt: skip
    folder.mkdir()
    (folder / "config.json").write_bytes(msgspec.json.encode(config))
    (folder / "model.safetensors").write_bytes(save(weights))
    (folder / "result.json").write_bytes(msgspec.json.encode(result))
    write_corpus(folder, CorpusSummary.of(manifest))
    return folder
