from __future__ import annotations

import librosa
import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cello.errors import FeatureError
from cello.features import frames, mfcc
from cello.features.config import FeatureConfig
from cello.features.mfcc import extract

quick = settings(deadline=None, max_examples=40)
configs = st.builds(
    FeatureConfig,
    kind=st.sampled_from(["mfcc", "log-mel"]),
    window_ms=st.sampled_from([20.0, 40.0, 80.0, 120.0]),
    hop_ms=st.sampled_from([None, 10.0, 25.0]),
    n_mels=st.integers(20, 48),
    n_mfcc=st.integers(1, 20),
    low_hz=st.sampled_from([0.0, 20.0, 125.0]),
    high_hz=st.sampled_from([None, 7600.0, 4000.0]),
    log_floor=st.sampled_from([1e-6, 1e-4, 1e-10]),
    deltas=st.integers(0, 2),
    delta_width=st.sampled_from([3, 5, 9]),
    normalisation=st.just("none"),
).filter(lambda c: c.high_hz != 4000.0 or c.n_mels <= 40)


def sounds(lengths, seed=0):
    """Noise of changing level under a tone: quiet and loud frames, (B, N) with NaN after each end."""
    rng = np.random.default_rng(seed)
    audio = np.full((len(lengths), max(lengths)), np.nan, dtype=np.float32)
    for row, n in enumerate(lengths):
        level = 10 ** rng.uniform(-3, -0.5, 1 + n // 2000).repeat(2000)[:n]
        audio[row, :n] = level * rng.normal(0, 1, n) + 0.02 * np.sin(rng.uniform(0.01, 3) * np.arange(n))
    return torch.from_numpy(audio), torch.tensor(lengths)


def librosa_frames(clip, config):
    """The same frames by librosa in float64, one clip at a time."""
    size, hop = config.window_samples, config.hop_samples
    power = np.abs(librosa.stft(clip.astype(np.float64), n_fft=size, hop_length=hop, center=False)) ** 2
    bands = librosa.feature.melspectrogram(
        S=power, sr=config.rate_hz, n_fft=size, n_mels=config.n_mels, fmin=config.low_hz, fmax=config.high_hz
    )
    static = np.log(np.maximum(bands, config.log_floor))
    if config.kind == "mfcc":
        static = librosa.feature.mfcc(S=static, n_mfcc=config.n_mfcc)
    deltas = [
        librosa.feature.delta(static, width=config.delta_frames, order=order) for order in range(1, config.deltas + 1)
    ]
    return np.concatenate([static, *deltas]).T


@quick
@given(configs, st.lists(st.integers(0, 12_000), min_size=1, max_size=4), st.integers(0, 2**31))
def test_frames_are_librosa_s(config, extra, seed):
    shortest = config.window_samples + 9 * config.hop_samples
    audio, lengths = sounds([shortest + e for e in extra], seed)
    out, counts = extract(audio, lengths, config)
    assert out.shape == (len(extra), int(counts.max()), config.dimensions)
    for row, n in enumerate(lengths.tolist()):
        assert counts[row] == frames.frame_count(n, config.window_samples, config.hop_samples)
        theirs = librosa_frames(audio[row, :n].numpy(), config)
        np.testing.assert_allclose(out[row, : counts[row]], theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("window_ms", [20.0, 40.0, 80.0, 120.0])
def test_the_study_s_windows_are_librosa_s(window_ms):
    config = FeatureConfig(window_ms=window_ms)
    audio, lengths = sounds([16_000, 15_999, 14_000], seed=int(window_ms))
    out, counts = extract(audio, lengths, config)
    assert counts[0] == {20: 99, 40: 49, 80: 24, 120: 15}[window_ms]
    for row, n in enumerate(lengths.tolist()):
        theirs = librosa_frames(audio[row, :n].numpy(), config)
        np.testing.assert_allclose(out[row, : counts[row]], theirs, atol=1e-4, rtol=0)


@settings(deadline=None, max_examples=20)
@given(configs, st.lists(st.integers(0, 9_000), min_size=2, max_size=12), st.sampled_from([0.0, 0.97]))
def test_a_clip_has_the_same_frames_alone_as_in_a_ragged_batch(config, extra, pre_emphasis):
    config = msgspec.structs.replace(config, pre_emphasis=pre_emphasis)
    audio, lengths = sounds([config.window_samples + e for e in extra])
    together, counts = extract(audio, lengths, config)
    for row, n in enumerate(lengths.tolist()):
        alone, count = extract(audio[row : row + 1, :n], lengths[row : row + 1], config)
        assert int(count) == int(counts[row])
        torch.testing.assert_close(together[row, : int(count)], alone[0], atol=2e-5, rtol=1e-6)
        assert (together[row, int(count) :] == 0).all()


def test_a_large_batch_cut_into_pieces_is_one_by_one_to_the_last_digits():
    audio, lengths = sounds([16_000 - 100 * k for k in range(50)])
    config = FeatureConfig(normalisation="none")
    together, counts = extract(audio, lengths, config)
    for row in (0, 17, 49):
        alone, _ = extract(audio[row : row + 1], lengths[row : row + 1], config)
        torch.testing.assert_close(together[row, : counts[row]], alone[0], atol=1e-6, rtol=1e-6)


def test_pre_emphasis_starts_with_the_first_sample_itself():
    audio, lengths = sounds([4000])
    config = FeatureConfig(pre_emphasis=0.9)
    emphasised = audio.clone()
    emphasised[:, 1:] = audio[:, 1:] - 0.9 * audio[:, :-1]
    before = audio.clone()
    with_field, _ = extract(audio, lengths, config)
    by_hand, _ = extract(emphasised, lengths, FeatureConfig())
    torch.testing.assert_close(with_field, by_hand, atol=1e-5, rtol=0)
    assert torch.equal(audio, before)


def test_clip_normalisation_gives_every_clip_mean_zero_and_deviation_one():
    audio, lengths = sounds([16_000, 9_000])
    out, counts = extract(audio, lengths, FeatureConfig(normalisation="clip"))
    for row, count in enumerate(counts.tolist()):
        clip = out[row, :count].double()
        torch.testing.assert_close(clip.mean(0), torch.zeros(39, dtype=torch.float64), atol=1e-5, rtol=0)
        torch.testing.assert_close(clip.std(0, correction=0), torch.ones(39, dtype=torch.float64), atol=1e-4, rtol=0)


def test_silence_is_the_log_of_the_floor_and_stays_finite_when_normalised():
    silence, lengths = torch.zeros(1, 16_000), torch.tensor([16_000])
    out, _ = extract(silence, lengths, FeatureConfig(kind="log-mel", deltas=0))
    torch.testing.assert_close(out, torch.full_like(out, float(np.log(1e-6))))
    clip, _ = extract(silence, lengths, FeatureConfig(normalisation="clip"))
    assert clip.abs().max() < 1


def test_frames_can_be_trained_on():
    audio, lengths = sounds([4000])
    out, _ = extract(audio, lengths, FeatureConfig())
    weight = torch.ones(39, requires_grad=True)
    (out @ weight).sum().backward()
    assert weight.grad is not None


def test_no_clips_give_no_frames():
    out, counts = extract(torch.zeros(0, 16_000), torch.zeros(0, dtype=torch.int64), FeatureConfig())
    assert out.shape == (0, 0, 39)
    assert counts.shape == (0,)


@pytest.mark.parametrize(
    ("audio", "lengths", "message"),
    [
        (
            torch.zeros(1, 16_000),
            [639],
            r"clip 0 of the batch lasts 39.9375 ms, less than one window of 40 ms \(1 of 1",
        ),
        (torch.zeros(2, 16_000), [16_000, 0], r"clip 1 .* \(1 of 2 clips are too short\); use a smaller"),
        (torch.zeros(16_000), [16_000], r"must be \(B, N\) float32 .* not \(16000,\)"),
        (torch.zeros(1, 16_000, dtype=torch.int16), [16_000], r"not \(1, 16000\) torch.int16"),
        (torch.zeros(1, 700), [701], r"lengths holds 701, but the audio has only 700 samples"),
    ],
)
def test_sound_that_has_no_frames_is_refused(audio, lengths, message):
    with pytest.raises(FeatureError, match=message):
        extract(audio, torch.tensor(lengths), FeatureConfig())


@pytest.mark.parametrize("emphasis", [0.0, 0.97])
def test_a_clip_of_minutes_framed_in_parts_gives_the_same_frames(monkeypatch, emphasis):
    audio, lengths = sounds([9000, 30_000])
    config = FeatureConfig(pre_emphasis=emphasis)
    whole, counts = extract(audio, lengths, config)
    monkeypatch.setattr(mfcc, "_LONGEST_AT_ONCE", 7 * config.window_samples)
    parts, same = extract(audio, lengths, config)
    assert torch.equal(counts, same)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)
