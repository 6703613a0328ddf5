"""Compute the same features through Cello and through other libraries, those of them that are installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cello.audio.augment import AugmentConfig, augment, draw, recordings_for
from cello.audio.corpus import Clip, Corpus, Manifest
from cello.features.config import FeatureConfig
from cello.features.front_end import Augmentation, ClipFrames

SEED = 0
Sound = NDArray[np.float32]
Lengths = NDArray[np.int64]
FrontEnd = Callable[[Sound], NDArray[np.float32]]
"""(B, N) sound → (B, T, D) frames."""
LONGEST_REASON = 160


def packed(sound: Sound, lengths: Lengths, rate_hz: int) -> Corpus:
    """(B, N) sound, (B,) lengths → the clips as a corpus keeps them, in 16 bits, to which the sound is rounded."""
    starts = np.cumsum(lengths) - lengths
    clips = tuple(
        Clip(name=f"{row}.wav", label="sound", split="train", speaker=str(row), start=start, samples=samples)
        for row, (start, samples) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True))
    )
    flat = np.concatenate([clip[:samples] for clip, samples in zip(sound, lengths.tolist(), strict=True)])
    stored = np.clip(np.rint(flat * 32768), -32768, 32767).astype(np.int16)
    about = Manifest(corpus="sound", rate_hz=rate_hz, labels=("sound",), clips=clips, bad=(), checksum="", source="")
    return Corpus(about, stored)


def cello_frames(
    corpus: Corpus, config: FeatureConfig, changes: AugmentConfig, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """All clips of a corpus → (B, T, D) frames and (B,) counts, as training makes them of these clips."""
    augmentation = None
    if changes != AugmentConfig():
        recordings = tuple(recordings_for(changes, corpus.noise, config.rate_hz))
        drawn = draw(corpus.lengths, changes, recordings, np.random.default_rng(SEED), config.rate_hz)
        augmentation = Augmentation(drawn, recordings)
    clips = ClipFrames(corpus, np.arange(len(corpus.lengths)), config, augmentation, backend=backend)
    return clips.batch(torch.arange(len(clips)))


def plainly_augmented(
    sound: Sound, lengths: Lengths, config: FeatureConfig, changes: AugmentConfig
) -> tuple[Sound, Lengths]:
    """The sound changed in NumPy, the same each time, for libraries that have no such augmentation themselves."""
    changed, left = augment(sound, lengths, changes, (), np.random.default_rng(SEED), rate_hz=config.rate_hz)
    return changed, np.maximum(left, config.window_samples)


def librosa_front_end(config: FeatureConfig) -> FrontEnd:
    """librosa; its mel weights are kept between calls and applied as it applies them."""
    librosa: Any = import_module("librosa")
    rate, window = config.rate_hz, config.window_samples
    weights = librosa.filters.mel(sr=rate, n_fft=window, n_mels=config.n_mels, fmin=config.low_hz, fmax=config.high_hz)

    def frames(sound: Sound) -> NDArray[np.float32]:
        stft = librosa.stft(sound, n_fft=window, hop_length=config.hop_samples, center=False)
        bands = np.einsum("...ft,mf->...mt", np.abs(stft) ** 2, weights, optimize=True)
        static = librosa.feature.mfcc(S=np.log(np.maximum(bands, config.log_floor)), n_mfcc=config.n_mfcc)
        deltas = [librosa.feature.delta(static, width=config.delta_frames, order=order) for order in (1, 2)]
        return np.concatenate([static, *deltas], axis=-2).swapaxes(-1, -2)

    return frames


def torchaudio_front_end(config: FeatureConfig) -> FrontEnd:
    """torchaudio's functions; its deltas repeat the first and last frame, where Cello and librosa fit a line."""
    functional: Any = import_module("torchaudio.functional")
    rate, window, hop = config.rate_hz, config.window_samples, config.hop_samples
    high = rate / 2 if config.high_hz is None else config.high_hz
    slaney = {"norm": "slaney", "mel_scale": "slaney"}
    weights = functional.melscale_fbanks(window // 2 + 1, config.low_hz, high, config.n_mels, rate, **slaney)
    cosines = functional.create_dct(config.n_mfcc, config.n_mels, "ortho")
    hann = torch.hann_window(window)

    @torch.no_grad()
    def frames(sound: Sound) -> NDArray[np.float32]:
        power = functional.spectrogram(
            torch.from_numpy(sound), 0, hann, window, hop, window, power=2.0, normalized=False, center=False
        )
        bands = (power.transpose(-1, -2) @ weights).clamp_(min=config.log_floor).log_()
        parts = [(bands @ cosines).transpose(-1, -2)]
        for _ in range(2):
            parts.append(functional.compute_deltas(parts[-1], config.delta_frames))
        stacked: Tensor = torch.cat(parts, -2).transpose(-1, -2)
        return stacked.numpy()

    return frames


LIBRARIES: dict[str, Callable[[FeatureConfig], FrontEnd]] = {
    "librosa": librosa_front_end,
    "torchaudio": torchaudio_front_end,
}
STATIC = ("torchaudio",)
"""Libraries whose deltas are computed otherwise, so that only what is before them compares."""


def installed() -> tuple[tuple[str, ...], dict[str, str]]:
    """The libraries that can be imported here, and why the others cannot."""
    usable, unavailable = [], {}
    for name in LIBRARIES:
        try:
            import_module(name)
            usable.append(name)
        except ModuleNotFoundError as error:
            missing = error.name or name
            unavailable[name] = "It is not installed." if missing == name else f"It needs {missing}."
        except Exception as error:
            reason = " ".join(str(error).split())[:LONGEST_REASON]
            unavailable[name] = f"It cannot be imported: {type(error).__name__}: {reason}"
    return tuple(usable), unavailable
