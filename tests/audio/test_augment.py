"""Augmentation: nothing but what is asked for, at the level asked for, the same for the same generator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cello.audio.augment import AugmentConfig, add_noise, augment, change_speed, made_noise
from cello.audio.changes import move
from cello.errors import ConfigError

N = 400
Audio = NDArray[np.float32]


@st.composite
def batches(draw: st.DrawFn) -> tuple[Audio, NDArray[np.int64]]:
    """Clips of random lengths, 0 and full ones among them, zero after their ends as a corpus gives them."""
    lengths = np.array(draw(st.lists(st.sampled_from([0, 1, 2, 63, 399, 400]), min_size=1, max_size=6)), dtype=np.int64)
    audio = np.random.default_rng(draw(st.integers(0, 99))).normal(0, 0.3, (len(lengths), N)).astype(np.float32)
    audio[np.arange(N) >= lengths[:, None]] = 0
    return audio, lengths


def shift(audio: Audio, lengths: NDArray[np.int64], most: int, rng: np.random.Generator) -> Audio:
    return augment(audio, lengths, AugmentConfig(shift_ms=most), (), rng, rate_hz=1000)[0]


def generator() -> np.random.Generator:
    return np.random.default_rng(5)


@given(batches(), st.sampled_from([0, 1, 3, 70]))
def test_shift_moves_whole_clips_and_keeps_their_length(batch: tuple[Audio, NDArray[np.int64]], most: int) -> None:
    audio, lengths = batch
    before = audio.copy()
    out = shift(audio, lengths, most, generator())
    assert np.array_equal(audio, before)
    for row, length in enumerate(lengths):
        clip = audio[row, :length]
        moved = [np.roll(np.pad(clip, most), k)[most : most + length] for k in range(-most, most + 1)]
        assert any(np.array_equal(out[row, :length], m) for m in moved)
        assert not out[row, length:].any()


def test_a_move_is_later_where_positive_and_loses_what_leaves_the_clip() -> None:
    clips = np.tile(np.arange(1, 6, dtype=np.float32), (4, 1))
    out = move(clips, np.array([5, 5, 4, 5]), np.array([2, -1, 1, 9]))
    assert out.tolist() == [[0, 0, 1, 2, 3], [2, 3, 4, 5, 0], [0, 1, 2, 3, 0], [0, 0, 0, 0, 0]]


def test_shift_goes_both_ways_and_as_far_as_asked() -> None:
    audio = np.zeros((2000, 11), dtype=np.float32)
    audio[:, 5] = 1
    where = shift(audio, np.full(2000, 11), 3, generator()).argmax(axis=1) - 5
    assert np.array_equal(np.unique(where), np.arange(-3, 4))
    assert np.bincount(where + 3).min() > 200


@given(batches(), st.integers(1, 900), st.floats(-10, 40))
def test_noise_has_the_ratio_asked_for(batch: tuple[Audio, NDArray[np.int64]], long: int, snr_db: float) -> None:
    audio, lengths = batch
    before = audio.copy()
    recordings = [np.random.default_rng(1).normal(0, 0.1, long).astype(np.float32)]
    config = AugmentConfig(noise_share=1.0, snr_low_db=snr_db, snr_high_db=snr_db)
    out = add_noise(audio, lengths, recordings, config, generator())
    assert np.array_equal(audio, before)
    assert out.dtype == np.float32
    for row, length in enumerate(lengths):
        assert not out[row, length:].any()
        if length:
            clean = audio[row, :length].astype(np.float64)
            added = out[row, :length] - clean
            measured = 10 * np.log10(np.square(clean).sum() / np.square(added).sum())
            assert measured == pytest.approx(snr_db, abs=0.1)


def test_ratios_fill_the_range_and_the_share_is_kept() -> None:
    audio = np.random.default_rng(0).normal(0, 0.3, (3000, 64)).astype(np.float32)
    config = AugmentConfig(noise_share=0.3, snr_low_db=5, snr_high_db=15)
    added = add_noise(audio, np.full(3000, 64), [], config, generator()) - audio
    noisy = added.any(axis=1)
    assert noisy.mean() == pytest.approx(0.3, abs=0.03)
    snr_db = 10 * np.log10(np.square(audio[noisy]).sum(axis=1) / np.square(added[noisy]).sum(axis=1))
    assert snr_db.min() == pytest.approx(5, abs=0.2)
    assert snr_db.max() == pytest.approx(15, abs=0.2)


def test_excerpts_come_from_everywhere_in_every_recording() -> None:
    ramp = np.arange(1, 101, dtype=np.float32)
    audio = np.ones((4000, 10), dtype=np.float32)
    config = AugmentConfig(noise_share=1.0, snr_low_db=0, snr_high_db=0)
    added = add_noise(audio, np.full(4000, 10), [ramp, -ramp], config, generator()) - audio
    step = np.diff(added, axis=1).mean(axis=1)
    first = np.round(added[:, 0] / step).astype(int)
    assert 0.4 < (step < 0).mean() < 0.6
    assert (first.min(), first.max()) == (1, 91)


def test_a_short_recording_is_looped() -> None:
    loop = np.array([1, 2, 4], dtype=np.float32)
    config = AugmentConfig(noise_share=1.0, snr_low_db=0, snr_high_db=0)
    audio = np.ones((50, 9), dtype=np.float32)
    added = add_noise(audio, np.full(50, 9), [loop], config, generator()) - audio
    assert np.allclose(added[:, :6], added[:, 3:], rtol=1e-4)
    assert len(np.unique(np.round(added[:, 0], 3))) == 3


def test_silence_in_clip_or_recording_stays_silent() -> None:
    audio = np.zeros((2, N), dtype=np.float32)
    audio[1] = 0.5
    config = AugmentConfig(noise_share=1.0)
    assert np.array_equal(add_noise(audio[:1], np.array([N]), [], config, generator()), audio[:1])
    silent = [np.zeros(50, dtype=np.float32)]
    assert np.array_equal(add_noise(audio, np.array([N, N]), silent, config, generator()), audio)


def test_made_noise_has_its_colours() -> None:
    white, pink, brown = made_noise(16_000)
    power = {}
    for name, noise in (("white", white), ("pink", pink), ("brown", brown)):
        spectrum = np.square(np.abs(np.fft.rfft(noise)))
        hz = np.fft.rfftfreq(len(noise), 1 / 16_000)
        power[name] = spectrum[(hz > 100) & (hz < 200)].mean() / spectrum[(hz > 3200) & (hz < 6400)].mean()
    assert power["white"] == pytest.approx(1, rel=0.1)
    assert power["pink"] == pytest.approx(32, rel=0.1)
    assert power["brown"] == pytest.approx(1024, rel=0.2)


@settings(max_examples=20)
@given(batches())
def test_the_generator_alone_decides(batch: tuple[Audio, NDArray[np.int64]]) -> None:
    audio, lengths = batch
    config = AugmentConfig(speed=0.1, shift_ms=2.0, noise_share=0.8)
    first, again = (augment(audio, lengths, config, [], generator()) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


def test_speed_moves_a_tones_pitch_and_keeps_what_fits_in_the_middle() -> None:
    n = 16_000
    tone = np.sin(2 * np.pi * 1000 * np.arange(n) / 16_000).astype(np.float32)
    audio, lengths = np.tile(tone, (20, 1)), np.full(20, n)
    out, kept = change_speed(audio, lengths, 0.1, generator())
    rates = generator().uniform(0.9, 1.1, size=20)
    for clip, length, rate in zip(out, kept, rates, strict=True):
        spectrum = np.abs(np.fft.rfft(clip[:length] * np.hanning(length)))
        assert abs(spectrum.argmax() * 16_000 / length - 1000 * rate) < 2
        assert length == min(n, int((n - 1) / rate) + 1)
        assert not clip[length:].any()


@given(batches(), st.floats(0.01, 0.5))
def test_speed_stays_within_the_clip(batch: tuple[Audio, NDArray[np.int64]], most: float) -> None:
    audio, lengths = batch
    out, kept = change_speed(audio, lengths, most, generator())
    assert (kept <= lengths).all()
    assert (kept[lengths > 0] > 0).all()
    for row, (n, length) in enumerate(zip(kept, lengths, strict=True)):
        assert not out[row, n:].any()
        if n:
            clip = audio[row, :length]
            slack = 1e-5 * (np.abs(clip).max() + 1)
            assert clip.min() - slack <= out[row, :n].min() <= out[row, :n].max() <= clip.max() + slack


def test_zeros_change_nothing_and_draw_nothing() -> None:
    audio = np.ones((3, N), dtype=np.float32)
    rng = generator()
    assert augment(audio, np.full(3, N), AugmentConfig(), [], rng)[0] is audio
    assert rng.random() == generator().random()


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("shift_ms", -1.0, r"augment.shift_ms=-1.0 is invalid: it must be finite and ≥ 0 \(0 is off\)"),
        ("mixup", float("nan"), "augment.mixup=nan"),
        ("speed", 1.0, "augment.speed=1.0 is invalid: it must be below 1"),
        ("warp", 0.4, "augment.warp=0.4 is invalid: it must be at most 0.3, for example 0.1"),
        ("noise_share", 1.5, "augment.noise_share=1.5 is invalid: it must be from 0 to 1"),
        ("snr_low_db", 31.0, "snr_low_db=31.0 is invalid: it must be finite and at most augment.snr_high_db=30.0"),
    ],
)
def test_impossible_settings_are_refused(field: str, value: float, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        AugmentConfig(**{field: value})
