"""What hurts: a smaller training set that is no part of the larger one, or has more of one word than of another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cello.audio import corpus as corpora
from cello.audio.augment import AugmentConfig
from cello.audio.corpus import Clip, Corpus, Manifest
from cello.errors import CorpusError
from cello.features.config import FeatureConfig
from cello.features.front_end import ClipFrames
from cello.models.config import ModelConfig
from cello.training import data
from cello.training.config import CorpusRef, DataConfig, RunConfig
from cello.training.data import RunData, some_of_each


def test_more_clips_hold_fewer_and_every_label_has_as_many(tone_corpus: Corpus) -> None:
    train = tone_corpus.indices("train")
    before: set[int] = set()
    for each in range(1, 9):
        found = some_of_each(tone_corpus, train, each)
        assert before < set(found.tolist()) <= set(train.tolist())
        assert np.bincount(tone_corpus.targets[found]).tolist() == [each] * 3
        assert np.all(np.diff(found) > 0)
        before = set(found.tolist())
    assert before == set(train.tolist())


def test_they_are_not_simply_the_first_ones(tone_corpus: Corpus) -> None:
    train = tone_corpus.indices("train")
    first = [clip for clip in train.tolist() if clip % 8 < 4]
    assert some_of_each(tone_corpus, train, 4).tolist() != first


def test_more_than_a_label_has_is_refused(tone_corpus: Corpus) -> None:
    message = r"clips_per_label=9, but label 'high' of corpus 'tones' has 8 training clips; give at most that many, or"
    with pytest.raises(CorpusError, match=message):
        some_of_each(tone_corpus, tone_corpus.indices("train"), 9)


def test_a_run_trains_on_them_whatever_its_seed_and_is_judged_on_all(tone_corpus: Corpus) -> None:
    def indices(seed: int, each: int | None) -> dict[str, list[int]]:
        config = RunConfig(
            corpus=CorpusRef(name="tones", checksum="0" * 64), data=DataConfig(clips_per_label=each), seed=seed
        )
        return {split: found.tolist() for split, found in RunData(config, tone_corpus, None).indices.items()}

    some, same, everything = indices(0, 2), indices(1, 2), indices(0, None)
    assert some == same
    assert (len(some["train"]), len(everything["train"])) == (6, 24)
    assert [some[split] for split in ("validation", "test")] == [everything[split] for split in ("validation", "test")]


def test_a_shift_in_milliseconds_is_one_at_any_sampling_rate() -> None:
    for rate_hz in (8000, 16_000):
        corpus = ragged([rate_hz] * 200, rate_hz)
        features = FeatureConfig(rate_hz=rate_hz)
        config = RunConfig(
            corpus=CorpusRef(name="ragged", checksum="1" * 64), features=features, augment=AugmentConfig(shift_ms=100)
        )
        clips = RunData(config, corpus, None).augmented(epoch=1)
        assert isinstance(clips.features, ClipFrames)
        assert clips.features.augmentation is not None
        moves = clips.features.augmentation.changes.moves
        assert moves is not None
        assert 0.09 * rate_hz < np.abs(moves).max() <= 0.1 * rate_hz


def ragged(lengths: list[int], rate_hz: int = 16_000) -> Corpus:
    """A corpus of noise clips, all for training but the last two."""
    starts = np.cumsum([0, *lengths]).tolist()
    splits = ["train"] * (len(lengths) - 2) + ["validation", "test"]
    clips = tuple(
        Clip(name=f"a/{i}.wav", label="ab"[i % 2], split=splits[i], speaker=str(i), start=starts[i], samples=n)
        for i, n in enumerate(lengths)
    )
    manifest = Manifest(
        corpus="ragged", rate_hz=rate_hz, labels=("a", "b"), clips=clips, bad=(), checksum="1" * 64, source=""
    )
    sound = np.random.default_rng(0).integers(-9999, 9999, sum(lengths)).astype(np.int16)
    return Corpus(manifest, sound)


def test_one_long_clip_among_short_ones_does_not_pad_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = ragged([8000] * 40 + [800_000] + [8000] * 9)
    monkeypatch.setattr(corpora, "SAMPLES_AT_ONCE", 800_000)
    chunks = list(corpus.chunks(np.arange(50)))
    assert np.concatenate(chunks).tolist() == list(range(50))
    assert max(corpus.audio(chunk)[0].size for chunk in chunks) <= 800_000
    config = RunConfig(corpus=CorpusRef(name="ragged", checksum="1" * 64), augment=AugmentConfig(shift_ms=10))
    frames = RunData(config, corpus, None).augmented(epoch=0)
    batch, counts, _ = frames.batch(torch.arange(8))
    assert batch.shape[1] == int(counts.max()) == 24


def test_a_batch_too_large_for_memory_goes_through_in_parts_of_alike_lengths() -> None:
    corpus = ragged([8000, 40_000, 8000, 8000, 40_000, 8000, 8000, 8000])
    config = RunConfig(corpus=CorpusRef(name="ragged", checksum="1" * 64))
    clips = RunData(config, corpus, None).clean("train")
    everything = torch.arange(6)
    assert [part.tolist() for part in clips.parts(everything, data.FRAMES_AT_ONCE)] == [[0, 1, 2, 3, 4, 5]]
    parts = [part.tolist() for part in clips.parts(everything, 130)]
    assert parts == [[0, 2, 3, 5], [1], [4]]


def test_a_model_whose_states_are_matrices_takes_fewer_frames_at_once() -> None:
    def at_once(cell: str, **more: Any) -> int:
        return data.frames_at_once(
            RunConfig(corpus=CorpusRef(name="", checksum=""), model=ModelConfig(cell=cell, **more))
        )

    assert at_once("lstm", hidden=512) == at_once("retention", hidden=16) == data.FRAMES_AT_ONCE
    assert at_once("retention", hidden=64) == (1 << 26) // (64 * 16)
    assert at_once("retention", hidden=256, layers=2, bidirectional=True) == (1 << 26) // (4 * 256 * 64)
    assert at_once("retention", hidden=65_536) == 1  # one clip alone, whatever it takes


def test_the_frames_of_a_clip_are_the_same_in_any_batch(tone_corpus: Corpus) -> None:
    config = RunConfig(corpus=CorpusRef(name="tones", checksum="0" * 64), augment=AugmentConfig(speed=0.2))
    clips = RunData(config, tone_corpus, None).augmented(epoch=0)
    whole, counts, _ = clips.batch(torch.arange(len(clips)))
    assert len(set(counts.tolist())) > 1
    for row in range(len(clips)):
        alone, count, target = clips.batch(torch.tensor([row]))
        assert torch.equal(alone[0], whole[row, : int(count)])
        assert not whole[row, int(count) :].any()
        assert int(target) == tone_corpus.targets[clips_of(tone_corpus)[row]]


def clips_of(corpus: Corpus) -> list[int]:
    return corpus.indices("train").tolist()
