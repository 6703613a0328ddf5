"""Compute MFCC and log-mel features with deltas."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cello.errors import FeatureError
from cello.features import frames, mel
from cello.features.config import FeatureConfig
from cello.features.deltas import append_deltas
from cello.features.normalise import blank_padding, standardise_clips
from cello.features.transforms import dct, hann

#: Windowed samples worked on at once, 1 MiB of float64: they and their spectrum stay in a core's second-level cache.
_SAMPLES_AT_ONCE = 1 << 17
#: Windowed samples of one clip worked on at once; only clips of minutes have more.
_LONGEST_AT_ONCE = 1 << 24
#: Bands of one matrix product: a mel band touches few bins, so a few narrow products beat one dense product.
_BANDS_AT_ONCE = 14


class _Bands(NamedTuple):
    """A run of mel bands: weights over interleaved (re², im²) of the bins they touch, (bands, 2 · bins)."""

    bins: slice
    bands: slice
    weights: Tensor


class _Plan(NamedTuple):
    window: Tensor
    groups: tuple[_Bands, ...]
    cosines: Tensor | None


@torch.no_grad()
def extract(audio: Tensor, lengths: Tensor, config: FeatureConfig, warp: float = 1.0) -> tuple[Tensor, Tensor]:
    """The frames of a batch of clips: (B, N) float32 sound and (B,) lengths in samples → (B, T, D) and (B,) counts.

    Frame t sees samples [t·hop, t·hop + window) under a periodic Hann window w; nothing is padded:

        P[k] = |Σ_n w[n] y[n] exp(−2πi kn / window)|²,   M = ln max(Slaney mel filters · P, log_floor),

    then, for MFCC, the first ``n_mfcc`` of the orthonormal DCT-II of M (Davis & Mermelstein 1980), then Δ and ΔΔ (see
    ``append_deltas``) and, with ``normalisation="clip"``, the clip's own standardisation. Pre-emphasis is
    y[n] = x[n] − a·x[n−1] with y[0] = x[0] (librosa extrapolates a sample before the first instead).
    All is computed in double precision, for bands may be 70 dB below the loudest, where a float32 spectrum leaves three
    digits; only emphasised samples, and the frames before the clip's standardisation, are rounded to float32.
    All is zero after each clip's end, and what ``audio`` holds there never matters. With a ``warp`` the filters are
    those of ``mel.warped_hz``, as in training with ``augment.warp``.

    Raises:
        FeatureError: sound of another shape or type, lengths beyond it, or a clip shorter than one window.

    >>> frames, counts = extract(torch.zeros(2, 16_000), torch.tensor([16_000, 8_000]), FeatureConfig())
    >>> tuple(frames.shape), counts.tolist()
    ((2, 49, 39), [49, 24])
    """
    check(audio, lengths, config)
    window, hop = config.window_samples, config.hop_samples
    counts = 1 + (lengths - window) // hop
    if not len(lengths):
        return audio.new_zeros(0, 0, config.dimensions), counts
    samples = int(lengths.max())
    time = frames.frame_count(samples, window, hop)
    plan = _plan(config, warp, audio.device)
    static = audio.new_empty(len(audio), time, config.static_dimensions, dtype=torch.float64)
    step = max(1, _SAMPLES_AT_ONCE // (time * window)) if audio.device.type == "cpu" else len(audio)
    for start in range(0, len(audio), step):
        part = slice(start, start + step)
        static[part] = _static(audio[part, :samples], plan, config)
    out = append_deltas(static, counts, config.delta_frames, config.deltas).float()
    out = blank_padding(out, counts)
    return (standardise_clips(out.double(), counts).float() if config.normalisation == "clip" else out), counts


def check(audio: Tensor, lengths: Tensor, config: FeatureConfig) -> None:
    """Refuse what are no clips.

    Raises:
        FeatureError: sound of another shape or type, lengths beyond it, or a clip shorter than one window.
    """
    if audio.ndim != 2 or audio.dtype != torch.float32 or lengths.shape != audio.shape[:1]:
        raise FeatureError(
            f"audio must be (B, N) float32 with (B,) lengths, not {tuple(audio.shape)} {audio.dtype} "
            f"with {tuple(lengths.shape)}; add a batch axis or convert it"
        )
    if not len(lengths):
        return
    if int(lengths.max()) > audio.shape[1]:
        raise FeatureError(
            f"lengths holds {int(lengths.max())}, but the audio has only {audio.shape[1]} samples; "
            f"lengths count samples, not frames"
        )
    check_lengths(lengths, config)


def check_lengths(lengths: Tensor, config: FeatureConfig) -> None:
    """Refuse clips shorter than one window.

    Raises:
        FeatureError: one is.
    """
    short = torch.nonzero(lengths < config.window_samples).flatten()
    if len(short):
        first = int(short[0])
        raise FeatureError(
            f"clip {first} of the batch lasts {1000 * int(lengths[first]) / config.rate_hz:g} ms, less than one window "
            f"of {config.window_ms:g} ms ({len(short)} of {len(lengths)} clips are too short); "
            f"use a smaller features.window_ms or leave those clips out"
        )


def _static(audio: Tensor, plan: _Plan, config: FeatureConfig) -> Tensor:
    """(B, N) sound → (B, T, S) log-mel or MFCC frames."""
    if config.pre_emphasis:
        emphasised = audio.double()
        emphasised[:, 1:] -= config.pre_emphasis * audio[:, :-1].double()
        audio = emphasised.float()
    views = audio.unfold(1, config.window_samples, config.hop_samples)
    parts = torch.split(views, max(1, _LONGEST_AT_ONCE // config.window_samples), dim=1)
    return torch.cat(
        [_windows(part * plan.window, plan, config).view(len(part), part.shape[1], -1) for part in parts], 1
    )


def _windows(windowed: Tensor, plan: _Plan, config: FeatureConfig) -> Tensor:
    """(B, T, window) windowed samples → (B·T, S) log-mel or MFCC frames."""
    spectrum = torch.view_as_real(torch.fft.rfft(windowed.flatten(0, 1)))
    power = spectrum.mul_(spectrum).flatten(1)
    # Bands are rows here: with so few of them, this product is twice as fast as its transpose.
    energy = power.new_empty(config.n_mels, len(power))
    for group in plan.groups:
        torch.mm(group.weights, power[:, group.bins].T, out=energy[group.bands])
    log_mel = energy.clamp_(min=config.log_floor).log_().T
    return log_mel if plan.cosines is None else log_mel @ plan.cosines


@lru_cache(maxsize=64)
def _plan(config: FeatureConfig, warp: float, device: torch.device) -> _Plan:
    """The window, the mel weights in narrow groups and the cosines, in float64."""
    size = config.window_samples
    window = hann(size)
    weights = mel.filterbank(config.warped_edges_hz(warp), config.rate_hz, size)
    groups = []
    for first in range(0, config.n_mels, _BANDS_AT_ONCE):
        bands = slice(first, min(first + _BANDS_AT_ONCE, config.n_mels))
        touched = np.flatnonzero(weights[:, bands].any(axis=1))
        low, high = int(touched[0]), int(touched[-1]) + 1
        twice = np.repeat(weights[low:high, bands].T, 2, axis=1)
        groups.append(_Bands(slice(2 * low, 2 * high), bands, _tensor(twice, device)))
    cosines = _tensor(dct(config.n_mels, config.n_mfcc), device) if config.kind == "mfcc" else None
    return _Plan(_tensor(window, device), tuple(groups), cosines)


def _tensor(values: NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device=device, dtype=torch.float64)
