"""The compiled pass: what it computes is what numpy and torch do, whatever the clips, and nobody else's memory."""

from __future__ import annotations

import ctypes
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cello.audio.augment import AugmentConfig, draw
from cello.audio.changes import Changes
from cello.audio.corpus import Clip, Corpus, Manifest
from cello.errors import BackendError, FeatureError
from cello.features import front_end, mfcc
from cello.features.c import launch, library
from cello.features.c.plan import Plan
from cello.features.clip import by_numpy
from cello.features.config import FeatureConfig
from cello.features.front_end import Augmentation, ClipFrames, compiled, extract
from cello.features.warp import draw_warps

pytestmark = pytest.mark.wants("cc")
quick = settings(deadline=None, max_examples=40)
RATES_HZ = (8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000)

configs = st.builds(
    FeatureConfig,
    kind=st.sampled_from(["mfcc", "log-mel"]),
    rate_hz=st.sampled_from(RATES_HZ),
    window_ms=st.sampled_from([20.0, 25.0, 33.0, 40.0, 80.0, 120.0]),
    hop_ms=st.sampled_from([None, 10.0, 45.0]),
    n_mels=st.sampled_from([7, 20]),
    n_mfcc=st.integers(1, 7),
    pre_emphasis=st.sampled_from([0.0, 0.97]),
    log_floor=st.sampled_from([1e-6, 1e-10]),
    deltas=st.integers(0, 2),
    delta_width=st.sampled_from([3, 9]),
)


def corpus_of(lengths: list[int], kind: type[np.generic] = np.int16, rate_hz: int = 16_000, seed: int = 0) -> Corpus:
    """Clips of noise of changing level under a tone, with wrong samples before the first and after the last."""
    rng = np.random.default_rng(seed)
    starts = (7 + np.cumsum([0, *lengths])).tolist()
    clips = tuple(
        Clip(name=f"{row}.wav", label="a", split="train", speaker="s", start=starts[row], samples=n)
        for row, n in enumerate(lengths)
    )
    total = starts[-1] + 5
    level = 10 ** rng.uniform(-3, -0.7, 1 + total // 999).repeat(999)[:total]
    sound = level * rng.normal(0, 1, total) + 0.02 * np.sin(0.3 * np.arange(total))
    sound = np.clip(sound, -1, 1)
    stored = (sound * 32767).astype(np.int16) if kind is np.int16 else sound.astype(np.float32)
    manifest = Manifest(corpus="made", rate_hz=rate_hz, labels=("a",), clips=clips, bad=(), checksum="0", source="")
    return Corpus(manifest, stored)


def both(corpus: Corpus, config: FeatureConfig, augmentation: Augmentation | None) -> tuple[torch.Tensor, torch.Tensor]:
    """All clips by the compiled pass and by torch."""
    rows = torch.arange(len(corpus.lengths))
    indices = np.arange(len(rows))
    ours, counts = ClipFrames(corpus, indices, config, augmentation).batch(rows)
    plain, again = ClipFrames(corpus, indices, config, augmentation, backend="plain").batch(rows)
    assert torch.equal(counts, again)
    for row, count in enumerate(counts.tolist()):
        assert not ours[row, count:].any()
    return ours, plain


@quick
@given(configs, st.lists(st.integers(0, 9000), min_size=1, max_size=5), st.sampled_from([np.int16, np.float32]))
def test_frames_are_those_of_torch_at_every_rate_window_and_option(
    config: FeatureConfig, more: list[int], kind: type[np.generic]
) -> None:
    corpus = corpus_of([config.window_samples + n for n in more], kind, config.rate_hz)
    torch.testing.assert_close(*both(corpus, config, None), atol=1e-5, rtol=1e-6)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(9000, 30_000), min_size=1, max_size=5), st.integers(0, 2))
def test_a_clip_s_own_normalisation_is_that_of_torch(lengths: list[int], deltas: int) -> None:
    config = FeatureConfig(normalisation="clip", deltas=deltas)
    torch.testing.assert_close(*both(corpus_of(lengths), config, None), atol=1e-5, rtol=1e-6)


@quick
@given(
    st.lists(st.sampled_from([640, 641, 1000, 5000, 16_000]), min_size=1, max_size=6),
    st.builds(
        AugmentConfig,
        speed=st.sampled_from([0.0, 0.1, 0.99]),
        shift_ms=st.sampled_from([0.0, 100.0, 2000.0]),
        noise_share=st.sampled_from([0.0, 0.5, 1.0]),
        snr_low_db=st.just(-5.0),
    ),
    st.sampled_from([np.int16, np.float32]),
    st.integers(1, 40_000),
    st.integers(0, 999),
)
def test_a_changed_clip_is_that_of_numpy(
    lengths: list[int], augment: AugmentConfig, kind: type[np.generic], noise: int, seed: int
) -> None:
    corpus = corpus_of(lengths, kind, seed=seed)
    rng = np.random.default_rng(seed)
    recordings = tuple(rng.normal(0, 0.1, n).astype(np.float32) for n in (noise, 20_000))
    changes = draw(corpus.lengths, augment, recordings, rng)
    audio = changes.apply(corpus.audio(np.arange(len(lengths)))[0], recordings)
    ours = samples_heard(corpus, changes, recordings)
    np.testing.assert_allclose(ours, audio, atol=1e-6, rtol=1e-6)


def samples_heard(corpus: Corpus, changes: Changes, recordings: tuple[NDArray[np.float32], ...]) -> Any:
    """What the compiled pass makes of clips before it takes their frames."""
    clips = launch.clips_of(corpus, np.arange(len(changes)), changes, recordings)
    assert clips is not None
    return launch.changed(clips, int(corpus.lengths.max()))


@quick
@given(st.lists(st.sampled_from([640, 1000, 16_000]), min_size=1, max_size=6), st.integers(0, 999))
def test_all_of_it_at_once_is_what_its_parts_are(lengths: list[int], seed: int) -> None:
    corpus, config = corpus_of(lengths, seed=seed), FeatureConfig()
    rng = np.random.default_rng(seed)
    augment = AugmentConfig(speed=0.1, shift_ms=100, noise_share=0.5)
    recordings = (rng.normal(0, 0.1, 30_000).astype(np.float32),)
    changes = draw(corpus.lengths, augment, recordings, rng)
    augmentation = Augmentation(changes, recordings, draw_warps(0.1, len(lengths), rng), 0.1)
    torch.testing.assert_close(*both(corpus, config, augmentation), atol=1e-3, rtol=1e-4)


def test_a_clip_has_the_same_bits_in_any_batch_place_and_number_of_threads() -> None:
    corpus = corpus_of([16_000, 9000, 640, 12_345, 16_000, 700, 15_999])
    indices = np.arange(7)
    changes = draw(corpus.lengths, AugmentConfig(speed=0.2, shift_ms=50), (), np.random.default_rng(1))
    augmentation = Augmentation(changes)
    clips = ClipFrames(corpus, indices, FeatureConfig(), augmentation)
    flat = clips.flat(torch.arange(7))
    ends = clips.counts.cumsum(0).tolist()
    for threads in (2, 3, 99):
        again = ClipFrames(corpus, indices, FeatureConfig(), augmentation, threads=threads)
        assert torch.equal(again.flat(torch.arange(7)), flat)
        mixed, counts = again.batch(torch.tensor([5, 0, 3]))
        for row, clip in enumerate((5, 0, 3)):
            own = flat[ends[clip] - int(counts[row]) : ends[clip]]
            assert torch.equal(mixed[row, : int(counts[row])], own)


def test_clips_lie_in_several_arrays_of_several_kinds() -> None:
    one, two = corpus_of([2000, 3000]), corpus_of([4000], np.float32, seed=3)
    clips = (*one.manifest.clips, msgspec.structs.replace(two.manifest.clips[0], start=len(one.sound) + 7))
    corpus = Corpus(msgspec.structs.replace(one.manifest, clips=clips), one.sound, more=[two.sound])
    torch.testing.assert_close(*both(corpus, FeatureConfig(), None), atol=1e-5, rtol=1e-6)
    swapped = Corpus(corpus.manifest, one.sound.astype(">i2"), more=[two.sound])
    torch.testing.assert_close(*both(swapped, FeatureConfig(), None), atol=0, rtol=0)


def test_ten_minutes_are_one_clip() -> None:
    corpus = corpus_of([9_600_000, 700])
    changes = draw(corpus.lengths, AugmentConfig(speed=0.1), (), np.random.default_rng(4))
    ours, plain = both(corpus, FeatureConfig(window_ms=100, deltas=1), Augmentation(changes))
    torch.testing.assert_close(ours, plain, atol=1e-3, rtol=1e-4)


def test_windows_of_few_samples_and_one_of_a_large_prime() -> None:
    for samples in (3, 4, 5):
        short = FeatureConfig(rate_hz=100, window_ms=10 * samples, n_mels=1, n_mfcc=1, low_hz=0)
        assert short.window_samples == samples
        torch.testing.assert_close(*both(corpus_of([5, 6, 17], rate_hz=100), short, None), atol=1e-5, rtol=1e-6)
    prime = FeatureConfig(window_ms=251 * 2 / 16, n_mels=20)
    assert compiled(prime)
    torch.testing.assert_close(*both(corpus_of([700, 2000]), prime, None), atol=1e-5, rtol=1e-6)
    larger = FeatureConfig(window_ms=257 * 2 / 16, n_mels=20)
    assert not compiled(larger)
    assert "the prime factor 257, and it takes up to 251" in str(launch.unsupported(larger))
    torch.testing.assert_close(*both(corpus_of([700, 2000]), larger, None), atol=0, rtol=0)


def test_nan_in_a_clip_reaches_its_frames_and_no_other_clip_s() -> None:
    corpus = corpus_of([2000, 2000], np.float32)
    corpus.sound[7 + 900] = np.nan  # type: ignore[index]
    found, counts = ClipFrames(corpus, np.arange(2), FeatureConfig()).batch(torch.arange(2))
    assert found[0].isnan().any()
    assert found[1, : counts[1]].isfinite().all()


def test_sound_in_a_tensor_gives_the_frames_of_the_plain_path() -> None:
    audio = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (5, 9000)).astype(np.float32))
    lengths = torch.tensor([9000, 640, 5000, 8999, 700])
    audio[torch.arange(9000) >= lengths[:, None]] = torch.nan
    for given_ in (audio, audio.repeat(1, 2)[:, ::2].contiguous().T.contiguous().T, audio.clone().requires_grad_()):
        ours, counts = extract(given_, lengths, FeatureConfig(normalisation="clip"))
        expected, _ = mfcc.extract(given_, lengths, FeatureConfig(normalisation="clip"))
        assert counts.tolist() == [27, 1, 14, 27, 1]
        if given_ is audio:
            torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-6)


def test_a_clip_shorter_than_a_window_is_refused_unless_it_was_made_so() -> None:
    corpus = corpus_of([1000, 300])
    with pytest.raises(FeatureError, match=r"clip 1 of the batch lasts 18\.75 ms, less than one window of 40 ms"):
        ClipFrames(corpus, np.arange(2), FeatureConfig())
    changes = Changes(np.array([1000, 300]), moves=np.zeros(2, dtype=np.int64))
    ours, _ = ClipFrames(corpus, np.arange(2), FeatureConfig(), Augmentation(changes)).batch(torch.arange(2))
    assert ours.shape == (2, 2, 39)
    with pytest.raises(FeatureError, match="less than one window"):
        extract(torch.zeros(1, 300), torch.tensor([300]), FeatureConfig())


def test_no_compiler_is_said_once_and_torch_computes_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "unavailable", lambda: "no C compiler is on PATH.")
    front_end._warn_once.cache_clear()
    sound = torch.zeros(1, 1000), torch.tensor([1000]), FeatureConfig()
    with pytest.warns(UserWarning, match="features are computed by torch, a few times slower: no C compiler") as said:
        ours, _ = [extract(*sound) for _ in range(3)][-1]
    assert len(said) == 1
    assert ours.isfinite().all()
    front_end._warn_once.cache_clear()


def test_no_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def clips_to_frames(self, *_: Any) -> int:
            return 1

    monkeypatch.setattr(library, "library", lambda double: Full())
    with pytest.raises(MemoryError, match="no memory for the samples of 1 clips, the longest of which has 1000"):
        ClipFrames(corpus_of([1000]), np.arange(1), FeatureConfig()).batch(torch.arange(1))


@pytest.mark.parametrize("backend", ["auto", "plain"])
def test_bands_far_below_the_loudest_keep_their_digits(backend: str) -> None:
    time = np.arange(16_000) / 16_000
    hiss = np.random.default_rng(0).standard_normal(len(time))
    sound = (0.9 * np.sin(2 * np.pi * 150 * time) + 3e-5 * hiss).astype(np.float32)
    config = FeatureConfig(kind="log-mel", deltas=0)
    frames, _ = extract(torch.from_numpy(sound)[None], torch.tensor([len(sound)]), config, backend=backend)
    expected = by_numpy(sound, config)
    assert np.ptp(expected) > np.log(10) * 7
    np.testing.assert_allclose(frames[0].numpy(), expected, rtol=2e-7)


@pytest.mark.parametrize("double", [True, False])
def test_sizes_in_c_are_those_in_python(double: bool) -> None:
    code = launch.library(double)
    assert (code.plan_size(), code.clip_size()) == (ctypes.sizeof(Plan), launch.CLIP.itemsize)


def test_the_back_end_error_names_what_to_do() -> None:
    with pytest.raises(BackendError, match=r"or set --execution\.backend plain"):
        library.load("this is no C", "front-end")
