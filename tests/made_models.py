"""Small made models, their parts, and the scores that torch gives."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from cello.features.config import FeatureConfig
from cello.features.mfcc import extract
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.models.parts import ModelParts, parts_of

LABELS = ("high", "low", "rough", "silence")


def made(config: ModelConfig, features: FeatureConfig) -> tuple[Classifier, ModelParts]:
    """A model with weights that differ everywhere, its normalisation too, and its parts."""
    size = features.dimensions
    model = Classifier(config, size, len(LABELS), seed=4, backend="plain").eval()  # nothing to compile
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
        if features.normalisation == "corpus":
            model.mean.copy_(torch.linspace(-1, 1, size))
            model.deviation.copy_(torch.linspace(2, 4, size))
    return model, parts_of(config, {name: value.numpy() for name, value in model.state_dict().items()})


def torch_scores(model: Classifier, features: FeatureConfig, clips: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """What torch gives for a batch of clips."""
    lengths = torch.tensor([len(clip) for clip in clips])
    audio = torch.zeros(len(clips), int(lengths.max()))
    for row, clip in zip(audio, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    with torch.no_grad():
        frames, counts = extract(audio, lengths, features)
        scores: NDArray[np.float32] = model(model.standardise(frames, counts), counts).numpy()
    return scores


def noise(samples: int, seed: int = 0) -> NDArray[np.float32]:
    """A clip (N,) of noise with a level that changes."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 0.2, samples) * np.sin(np.arange(samples) / 500) ** 2).astype(np.float32)
