"""Compute loss, accuracies and the confusion matrix of a split from targets and scores."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cello.training.result import SplitMetrics


def confusion(targets: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """(C, C) counts, rows truth, columns prediction.

    >>> confusion(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    return torch.bincount(targets * classes + predictions, minlength=classes * classes).view(classes, classes)


def measure(targets: Tensor, scores: Tensor) -> SplitMetrics:
    """Mean cross-entropy (nats), accuracy, and the mean over the words that occur of each word's accuracy.

    >>> measure(torch.tensor([0, 1]), torch.tensor([[2.0, 0.0], [1.0, 0.0]])).accuracy
    0.5
    """
    counts = confusion(targets, scores.argmax(1), scores.shape[1]).double()
    per_word = counts.diag() / counts.sum(1)
    return SplitMetrics(
        clips=len(targets),
        loss=float(functional.cross_entropy(scores.double(), targets)),
        accuracy=float(counts.diag().sum() / counts.sum()),
        word_mean=float(per_word[counts.sum(1) > 0].mean()),
    )


def predictions(targets: Tensor, scores: Tensor) -> bytes:
    """The test clips in the corpus's order: target, prediction, and the probability given to each of the two."""
    probabilities = scores.softmax(1)
    predicted = probabilities.argmax(1)
    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        target=targets.numpy().astype(np.uint16),
        prediction=predicted.numpy().astype(np.uint16),
        target_probability=probabilities.gather(1, targets.unsqueeze(1)).squeeze(1).numpy().astype(np.float16),
        prediction_probability=probabilities.gather(1, predicted.unsqueeze(1)).squeeze(1).numpy().astype(np.float16),
    )
    return buffer.getvalue()
