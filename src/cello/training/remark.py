"""Remark on a run whose accuracy on its own training clips stays low."""

from __future__ import annotations

from collections import Counter

from cello.audio.corpus import Manifest
from cello.training.result import RunResult

LEARNED = 0.5
"""Of the clips that always answering the most frequent label gets wrong, a model that learned gets this share right."""
FEW_EPOCHS = 3
"""Of a shorter run nobody expects more."""
LONG_SECONDS = 1.5
"""Clips of this length, on average, have an end that says little of their beginning."""


def learned(accuracy: float, majority: float) -> float:
    """How much better than always the most frequent label: 0 is no better, 1 is every clip right.

    >>> learned(0.75, 0.5), learned(0.95, 0.95)
    (0.5, 0.0)
    """
    return (accuracy - majority) / (1 - majority) if majority < 1 else 1.0


def remark(result: RunResult, manifest: Manifest) -> str:
    """A sentence on a training accuracy that stayed low, with what may help; empty where it did not.

    The accuracy is that after training, without augmentation, so that a low one means that the model did not even learn
    the clips it was shown.
    """
    if result.config.optimiser.epochs < FEW_EPOCHS:
        return ""
    clips = [clip for clip in manifest.clips if clip.split == "train"]
    majority = max(Counter(clip.label for clip in clips).values()) / len(clips)
    if learned(result.train.accuracy, majority) >= LEARNED:
        return ""
    seconds = sum(clip.samples for clip in clips) / len(clips) / manifest.rate_hz
    return (
        f"accuracy on the training clips themselves is only {result.train.accuracy:.1%}, and always answering the most "
        f"frequent label gives {majority:.1%}. Try {_remedies(result, seconds)}."
    )


def _remedies(result: RunResult, seconds: float) -> str:
    model, optimiser = result.config.model, result.config.optimiser
    remedies = []
    if model.pooling == "last":
        long = f", for clips of {seconds:.1f} s on average" if seconds >= LONG_SECONDS else ""
        remedies.append(f"mean or attention pooling (model.pooling{long})")
    remedies.append(f"more epochs than optimiser.epochs={optimiser.epochs}")
    remedies.append(f"another learning rate than optimiser.learning_rate={optimiser.learning_rate:g}")
    return f"{', '.join(remedies[:-1])} or {remedies[-1]}"
