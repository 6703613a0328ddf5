"""What hurts: a per-word mean that hides a missing word, a loss averaged over batches of unequal size."""

from __future__ import annotations

import torch

from cello.training.metrics import confusion, measure


def test_the_word_mean_weighs_words_alike_and_skips_words_that_do_not_occur() -> None:
    targets = torch.tensor([0, 0, 0, 1])
    scores = torch.nn.functional.one_hot(torch.tensor([0, 0, 0, 0]), 3).float()
    measured = measure(targets, scores)
    assert measured.accuracy == 0.75
    assert measured.word_mean == 0.5


def test_loss_is_the_mean_negative_log_probability() -> None:
    scores = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    assert abs(measure(torch.tensor([0, 1]), scores).loss - 0.6931471805599453) < 1e-12


def test_confusion_has_truth_in_rows() -> None:
    assert confusion(torch.tensor([0, 0, 1]), torch.tensor([1, 1, 0]), 2).tolist() == [[0, 2], [1, 0]]
