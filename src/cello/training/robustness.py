"""Evaluate test clips under added noise and time shifts: the same audio for every model and seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from cello.audio.augment import AugmentConfig, add_noise, made_noise, move
from cello.audio.corpus import Corpus
from cello.features.mfcc import extract
from cello.training.config import RunConfig
from cello.training.data import Frames
from cello.training.result import ConditionKind

NOISE_SEED = 1
"""Not 0, whose noise training uses where a corpus has no recordings: training and test share no excerpt."""

Change = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]]


def evaluation_conditions(config: RunConfig) -> list[tuple[ConditionKind, float]]:
    """Signal-to-noise ratios in dB, then time shifts in ms, each in the order of the config."""
    data = config.data
    return [("snr_db", value) for value in data.test_snr_db] + [("shift_ms", value) for value in data.test_shift_ms]


def frames_under(
    config: RunConfig, corpus: Corpus, indices: NDArray[np.int64], kind: ConditionKind, value: float
) -> Frames:
    """The clips as frames under one condition.

    Noise is white, pink or brown, drawn for each clip with its excerpt; another ratio makes the same excerpt louder.
    """
    change = _noise(value, corpus.manifest.rate_hz) if kind == "snr_db" else _shift(value, corpus.manifest.rate_hz)
    chunks = []
    for some in corpus.chunks(indices):
        audio, lengths = corpus.audio(some)
        changed = torch.from_numpy(change(audio, lengths))
        chunks.append(extract(changed, torch.from_numpy(lengths), config.features))
    return Frames.joined(chunks, torch.from_numpy(corpus.targets[indices]))


def _noise(snr_db: float, rate_hz: int) -> Change:
    rng, noise = np.random.default_rng(NOISE_SEED), made_noise(rate_hz, NOISE_SEED)
    config = AugmentConfig(noise_share=1.0, snr_low_db=snr_db, snr_high_db=snr_db)
    return lambda audio, lengths: add_noise(audio, lengths, noise, config, rng, rate_hz)


def _shift(shift_ms: float, rate_hz: int) -> Change:
    samples = round(shift_ms * rate_hz / 1000)
    return lambda audio, lengths: move(audio, lengths, np.full(len(audio), samples))
