"""What hurts: a smaller training set that is no part of the larger one, or has more of one word than of another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cello.audio.augment import AugmentConfig
from cello.audio.corpus import Corpus
from cello.errors import CorpusError
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


def test_a_shift_in_milliseconds_is_one_at_any_sampling_rate(
    tone_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    def listen(audio: Any, lengths: Any, *_: Any, rate_hz: int) -> Any:
        told.append(rate_hz)
        return audio, lengths

    monkeypatch.setattr(data, "augment", listen)
    config = RunConfig(corpus=CorpusRef(name="tones", checksum="0" * 64), augment=AugmentConfig(shift_ms=100))
    RunData(config, tone_corpus, None).augmented(epoch=1)
    assert told == [tone_corpus.manifest.rate_hz]
