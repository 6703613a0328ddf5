"""What hurts: a clip that is changed or framed on a GPU otherwise than on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cello.audio.augment import AugmentConfig, draw, made_noise
from cello.audio.changes import Changes
from cello.audio.corpus import Clip, Corpus, Manifest
from cello.errors import FeatureError
from cello.features import mfcc, resident
from cello.features.config import FeatureConfig
from cello.features.front_end import Augmentation
from cello.features.resident import (
    FixedFrontEnd,
    changed,
    changes_as_tensors,
    features_on,
    frames_in,
    recordings_on,
    samples_for,
    sound_of,
)
from cello.features.statistics import corpus_statistics
from cello.features.warp import draw_warps, extract_warped

CPU = torch.device("cpu")


def corpus_of(lengths: list[int], kind: type[np.generic] = np.int16, arrays: int = 1) -> Corpus:
    """Clips of noise under a tone, in so many arrays, of which only the first is of the kind."""
    rng = np.random.default_rng(0)
    starts = np.cumsum([0, *lengths])
    clips = tuple(
        Clip(name=f"{row}.wav", label="a", split="train", speaker="s", start=int(starts[row]), samples=n)
        for row, n in enumerate(lengths)
    )
    sound = (0.1 * rng.normal(0, 1, starts[-1]) + 0.02 * np.sin(0.3 * np.arange(starts[-1]))).clip(-1, 1)
    manifest = Manifest(corpus="made", rate_hz=16_000, labels=("a",), clips=clips, bad=(), checksum="0", source="")
    cut = int(starts[len(lengths) // 2]) if arrays == 2 else len(sound)
    parts = [sound[:cut], sound[cut:]][:arrays]
    stored = [
        (part * 32767).astype(np.int16) if kind is np.int16 and not n else part.astype(np.float32)
        for n, part in enumerate(parts)
    ]
    return Corpus(manifest, stored[0], (), stored[1:])


def on_device(
    corpus: Corpus, changes: Changes, noise: tuple[NDArray[np.float32], ...], samples: int, *, loops: bool
) -> NDArray[np.float32]:
    sound = sound_of(corpus, CPU)
    given = changes_as_tensors(Augmentation(changes, noise))
    recordings = recordings_on(noise, CPU) if noise else None
    rows = torch.arange(len(corpus.lengths))
    found: NDArray[np.float32] = changed(sound, rows, given, samples, recordings, loops=loops).numpy()
    return found


@pytest.mark.parametrize("kind", [np.int16, np.float32])
@pytest.mark.parametrize("arrays", [1, 2])
def test_sound_is_that_of_the_corpus_whatever_its_arrays(kind: type[np.generic], arrays: int) -> None:
    corpus = corpus_of([5000, 1, 4000, 4500], kind, arrays)
    found = on_device(corpus, Changes(corpus.lengths), (), 5000, loops=False)
    assert np.abs(found - corpus.audio(np.arange(4))[0]).max() == 0


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(speed=0.2),
        AugmentConfig(shift_ms=100),
        AugmentConfig(noise_share=0.6),
        AugmentConfig(speed=0.3, shift_ms=50, noise_share=0.5),
    ],
)
@pytest.mark.parametrize("short_noise", [False, True])
def test_clips_are_changed_as_on_the_cpu(config: AugmentConfig, short_noise: bool) -> None:
    corpus = corpus_of([1, 2, 5000, 4999, 700, 4000, *[4800] * 10])
    noise = made_noise(16_000) if not short_noise else tuple(part[:777] for part in made_noise(16_000))
    noise = (*noise, np.zeros(9000, np.float32))
    audio = corpus.audio(np.arange(16))[0]
    for seed in range(4):
        changes = draw(corpus.lengths, config, noise, np.random.default_rng(seed))
        expected = changes.apply(audio, noise)
        found = on_device(corpus, changes, noise, audio.shape[1], loops=short_noise)
        assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize(
    "config",
    [
        FeatureConfig(window_ms=40),
        FeatureConfig(window_ms=25, hop_ms=10, kind="log-mel", deltas=0, n_mels=30, pre_emphasis=0.97),
        FeatureConfig(window_ms=33, deltas=1, delta_width=5, normalisation="clip"),
    ],
)
def test_frames_are_those_of_the_front_end(config: FeatureConfig) -> None:
    lengths = np.array([5000, 3000, 1500, 800, 640, 4999])
    audio = torch.from_numpy(corpus_of(lengths.tolist()).audio(np.arange(6))[0])
    counts = torch.from_numpy(frames_in(lengths, config))
    expected, expected_counts = mfcc.extract(audio, torch.from_numpy(lengths), config)
    assert counts.tolist() == expected_counts.tolist()
    found = FixedFrontEnd(config, CPU, int(counts.min()))(audio, counts)
    assert (found - expected).abs().max() < 2e-5
    alike = torch.full((6,), 5000)  # the same clips padded, none of which needs narrower deltas
    expected, counts = mfcc.extract(audio, alike, config)
    found = FixedFrontEnd(config, CPU, int(counts.min()))(audio, counts)
    assert (found - expected).abs().max() < 2e-5


def test_warped_frames_are_those_of_the_front_end() -> None:
    config, lengths = FeatureConfig(window_ms=40, n_mels=30), torch.tensor([5000] * 8)
    audio = torch.from_numpy(corpus_of([5000] * 8).audio(np.arange(8))[0])
    drawn = draw_warps(0.1, 8, np.random.default_rng(0))
    expected, counts = extract_warped(audio, lengths, config, 0.1, drawn)
    found = FixedFrontEnd(config, CPU, 9, 0.1)(audio, counts, torch.from_numpy(drawn))
    assert (found - expected).abs().max() < 2e-5


def test_a_clip_shorter_than_a_window_still_fills_one() -> None:
    config = FeatureConfig(window_ms=40)
    assert frames_in(np.array([1, 639, 640, 959, 960]), config).tolist() == [1, 1, 1, 1, 2]
    assert samples_for(1, config) == 959


def test_features_of_a_whole_corpus_are_those_of_the_front_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "SAMPLES_AT_ONCE", 12_000)
    corpus, config = corpus_of([5000, 3000, 1500, 800, 4999]), FeatureConfig(window_ms=40)
    found = features_on(corpus, config, CPU)
    audio, lengths = corpus.audio(np.arange(5))
    expected, counts = mfcc.extract(torch.from_numpy(audio), torch.from_numpy(lengths), config)
    frames, own = found.batch(torch.arange(5))
    assert own.tolist() == counts.tolist()
    assert (frames - expected).abs().max() < 2e-5
    assert [len(part) for part in corpus_statistics(found, np.arange(5))] == [39, 39]
    with pytest.raises(FeatureError, match=r"clip 3\.wav of made lasts 50 ms, less than one window of features"):
        features_on(corpus, msgspec.structs.replace(config, window_ms=80.0), CPU)


def test_sound_stays_for_the_next_run_of_the_same_corpus_and_goes_with_it(tones: Callable[[], Corpus]) -> None:
    corpus = tones()
    assert sound_of(corpus, CPU) is sound_of(corpus, CPU)
    before = len(resident._KEPT)
    del corpus
    assert len(resident._KEPT) < before


def test_products_of_the_front_end_keep_all_digits_whatever_the_runs_precision() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with resident.ieee_products():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_frames_are_computed_once_for_runs_of_one_config(tone_corpus: Corpus) -> None:
    """Five seeds would else hold the frames of a large corpus five times in a GPU's memory."""
    config, cpu = FeatureConfig(window_ms=80), torch.device("cpu")
    first = features_on(tone_corpus, config, cpu)
    assert features_on(tone_corpus, config, cpu) is first
    other = features_on(tone_corpus, FeatureConfig(window_ms=80, n_mels=20), cpu)
    assert other is not first
    assert torch.equal(features_on(tone_corpus, config, cpu).flat, first.flat)
