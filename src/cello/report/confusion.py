"""Sum confusion matrices and bin those of many labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def pooled(matrices: Iterable[Sequence[Sequence[int]]], most: int) -> tuple[NDArray[np.float64], int]:
    """The (C, C) counts of runs added up, rows as shares of 1; above ``most`` labels neighbours share a square.

    Returns the shares, at most ``most`` squares wide, and how many labels one square stands for. A row without a clip
    is zero.

    >>> pooled([[[3, 1], [0, 0]]], 2)
    (array([[0.75, 0.25],
           [0.  , 0.  ]]), 1)
    >>> pooled([[[3, 1, 0], [0, 0, 4], [0, 0, 8]]], 2)
    (array([[0.5, 0.5],
           [0. , 1. ]]), 2)
    """
    counts = np.zeros((1, 1))
    for matrix in matrices:
        counts = counts + np.asarray(matrix, dtype=np.float64)
    each = max(1, math.ceil(len(counts) / most))
    if each > 1:
        edges = np.arange(0, len(counts), each)
        counts = np.add.reduceat(np.add.reduceat(counts, edges, axis=0), edges, axis=1)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), each


def squares(labels: int, each: int) -> str:
    """What a square of a large matrix stands for, in words.

    >>> squares(120, 1), squares(1000, 4)
    ('120 labels in their order', '1,000 labels in their order, a square for each 4')
    """
    return f"{labels:,} labels in their order" + (f", a square for each {each}" if each > 1 else "")
