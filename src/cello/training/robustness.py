"""Evaluate test clips under added noise, time shifts and lost frames: the same for every model and seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from cello.audio.augment import AugmentConfig, draw, made_noise
from cello.audio.changes import Changes
from cello.audio.corpus import Corpus
from cello.features.front_end import Augmentation, ClipFrames
from cello.training.config import RunConfig
from cello.training.data import Frames
from cello.training.result import ConditionKind

NOISE_SEED = 1
"""Not 0, whose noise training uses where a corpus has no recordings: training and test share no excerpt."""

Draw = Callable[[NDArray[np.int64]], Changes]


def evaluation_conditions(config: RunConfig) -> list[tuple[ConditionKind, float]]:
    """Signal-to-noise ratios in dB, time shifts in ms, shares of lost frames, each in the order of the config."""
    data = config.data
    found: list[tuple[ConditionKind, float]] = [("snr_db", value) for value in data.test_snr_db]
    found += [("shift_ms", value) for value in data.test_shift_ms]
    return found + [("lost_frames", value) for value in data.test_lost_frames]


def frames_under(
    config: RunConfig, corpus: Corpus, indices: NDArray[np.int64], kind: ConditionKind, value: float
) -> Frames:
    """The clips as frames under a condition of their sound.

    Noise is white, pink or brown, drawn for each clip with its excerpt; another ratio makes the same excerpt louder.
    """
    rate_hz = corpus.manifest.rate_hz
    recordings = made_noise(rate_hz, NOISE_SEED) if kind == "snr_db" else ()
    draw_for = _noise(value, recordings) if kind == "snr_db" else _shift(value, rate_hz)
    changes = Changes.joined([draw_for(corpus.lengths[some]) for some in corpus.chunks(indices)])
    clips = ClipFrames(corpus, indices, config.features, Augmentation(changes, recordings))
    return Frames.of_clips(clips, torch.from_numpy(corpus.targets[indices]))


def _noise(snr_db: float, recordings: tuple[NDArray[np.float32], ...]) -> Draw:
    rng = np.random.default_rng(NOISE_SEED)
    config = AugmentConfig(noise_share=1.0, snr_low_db=snr_db, snr_high_db=snr_db)
    return lambda lengths: draw(lengths, config, recordings, rng)


def _shift(shift_ms: float, rate_hz: int) -> Draw:
    samples = round(shift_ms * rate_hz / 1000)
    return lambda lengths: Changes(lengths, moves=np.full(len(lengths), samples))
