"""What hurts: a library that breaks the benchmark when it cannot be imported, or computes something else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cello.audio.augment import AugmentConfig
from cello.bench import front_ends
from cello.bench.front_ends import (
    cello_frames,
    installed,
    librosa_front_end,
    packed,
    plainly_augmented,
    torchaudio_front_end,
)
from cello.bench.settings import FAIR, WINDOWS_MS, front_end
from cello.features.deltas import append_deltas

SOUND = (np.random.default_rng(1).normal(0, 3000, (3, 16_000)).round() / 32768).astype(np.float32)
LENGTHS = np.full(3, 16_000)


@pytest.mark.parametrize("window_ms", WINDOWS_MS)
def test_librosa_computes_the_same_features(window_ms: float) -> None:
    config = front_end(window_ms)
    own, counts = cello_frames(packed(SOUND, LENGTHS, 16_000), config, AugmentConfig())
    its = librosa_front_end(config)(SOUND)
    assert its.shape == own.shape == (3, int(counts[0]), 39)
    assert np.abs(its - own.numpy()).max() < 1e-4


@pytest.mark.parametrize("window_ms", WINDOWS_MS)
def test_torchaudio_computes_the_same_mfcc(window_ms: float) -> None:
    try:
        import torchaudio.functional  # noqa: F401
    except Exception as error:
        pytest.skip(f"torchaudio cannot be imported: {error}")
    config = front_end(window_ms)
    own, _ = cello_frames(packed(SOUND, LENGTHS, 16_000), config, AugmentConfig())
    its = torchaudio_front_end(config)(SOUND)
    assert its.shape == own.shape
    assert np.abs(its - own.numpy())[..., :13].max() < 1e-4


class MadeUpFunctional:
    """torchaudio's functions by name and arguments, by NumPy and torch alone."""

    def spectrogram(self, waveform: torch.Tensor, *given: Any, power: float, **options: bool) -> torch.Tensor:
        pad, window, n_fft, hop_length, win_length = given
        assert (pad, n_fft, power) == (0, win_length, 2.0)
        assert options == {"normalized": False, "center": False}
        return torch.fft.rfft(waveform.unfold(1, n_fft, hop_length) * window).abs().pow(2).transpose(1, 2)

    def melscale_fbanks(
        self, n_freqs: int, f_min: float, f_max: float, n_mels: int, sample_rate: int, norm: str, mel_scale: str
    ) -> torch.Tensor:
        assert (norm, mel_scale) == ("slaney", "slaney")
        librosa = pytest.importorskip("librosa")
        weights = librosa.filters.mel(sr=sample_rate, n_fft=2 * (n_freqs - 1), n_mels=n_mels, fmin=f_min, fmax=f_max)
        return torch.from_numpy(weights.T.copy())

    def create_dct(self, n_mfcc: int, n_mels: int, norm: str) -> torch.Tensor:
        assert norm == "ortho"
        m, k = np.arange(n_mels)[:, None], np.arange(n_mfcc)
        cosines = np.sqrt(2 / n_mels) * np.cos(np.pi * k * (m + 0.5) / n_mels)
        cosines[:, 0] /= np.sqrt(2)
        return torch.from_numpy(cosines.astype(np.float32))

    def compute_deltas(self, specgram: torch.Tensor, win_length: int) -> torch.Tensor:
        frames = specgram.transpose(1, 2)
        counts = torch.full((len(frames),), frames.shape[1])
        return append_deltas(frames, counts, win_length, 1)[..., frames.shape[2] :].transpose(1, 2)


def test_torchaudios_functions_are_called_for_the_same_mfcc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", MadeUpFunctional())  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "torchaudio.functional", MadeUpFunctional())  # type: ignore[arg-type]
    config = front_end(40.0)
    own, _ = cello_frames(packed(SOUND, LENGTHS, 16_000), config, AugmentConfig())
    its = torchaudio_front_end(config)(SOUND)
    assert its.shape == own.shape
    assert np.abs(its - own.numpy())[..., :26].max() < 1e-4


def test_a_library_that_cannot_be_imported_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_library.py").write_text("raise OSError('libcudart.so.13:\\n cannot open ' + 'x' * 500)")
    (tmp_path / "needy_library.py").write_text("import gone_library")
    (tmp_path / "good_library.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("absent_library", "broken_library", "good_library", "needy_library")
    monkeypatch.setattr(front_ends, "LIBRARIES", dict.fromkeys(names))
    usable, unavailable = installed()
    assert usable == ("good_library",)
    assert unavailable["absent_library"] == "It is not installed."
    assert unavailable["needy_library"] == "It needs gone_library."
    reason = unavailable["broken_library"]
    assert reason.startswith("It cannot be imported: OSError: libcudart.so.13: cannot open xxx")
    assert len(reason) < 250


def test_sound_is_changed_alike_each_time_and_a_clip_holds_a_window() -> None:
    config = front_end(40.0)
    first, second = (plainly_augmented(SOUND, LENGTHS, config, FAIR) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert not np.array_equal(first[0], SOUND)
    assert len(set(first[1].tolist())) > 1  # a faster clip is shorter
    short = plainly_augmented(SOUND[:, :640], np.full(3, 640), config, FAIR)
    assert short[1].min() == 640
