from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from fake_training import epoch_of, result_of
from hypothesis import given
from hypothesis import strategies as st

from cello.audio.corpus import Clip, Manifest
from cello.errors import StoreError
from cello.files import unseal_json
from cello.study.config import StudyConfig
from cello.study.correctness import accuracy, calibration_error, outcomes, speakers_of, word_mean
from cello.study.plan import PlannedRun
from cello.study.store import CorpusSource, Store
from cello.training.metrics import measure, predictions

LABELS = ("nein", "да", "はい")
TARGETS = np.array([0, 1, 2, 2])


def manifest(checksum: str = "a" * 64) -> Manifest:
    """One training clip a label; four test clips by two speakers, not in a row."""
    train = tuple(Clip(name=f"{w}/t", label=w, split="train", speaker="t", start=0, samples=9) for w in LABELS)
    test = tuple(
        Clip(name=f"{LABELS[t]}/{i}", label=LABELS[t], split="test", speaker=who, start=0, samples=9)
        for i, (t, who) in enumerate(zip(TARGETS, "zaza", strict=True))
    )
    return Manifest(
        corpus="fake", rate_hz=16_000, labels=LABELS, clips=train + test, bad=(), checksum=checksum, source="tests"
    )


def scores(seed: int) -> torch.Tensor:
    return torch.randn(len(TARGETS), len(LABELS), generator=torch.Generator().manual_seed(seed))


def finish(store: Store, run: PlannedRun) -> None:
    folder = store.run_folder(run)
    folder.mkdir(parents=True)
    result = result_of(run.config, [epoch_of(run.config, 1, 0.0)])
    (folder / "result.json").write_bytes(msgspec.json.encode(result))
    (folder / "predictions.npz").write_bytes(predictions(torch.from_numpy(TARGETS), scores(run.seed)))


@pytest.fixture
def store(tmp_path: Path, small: StudyConfig, source: CorpusSource) -> Store:
    """Row A with both seeds finished, row B with one, row C with none."""
    made = Store.create_or_open(tmp_path, small, manifest(), source)
    for run in made.runs:
        if run.row == "A" or (run.row == "B" and run.seed == 1):
            finish(made, run)
    return made


def test_outcomes_are_what_training_measured(store: Store) -> None:
    found = outcomes(store)
    assert list(found) == ["A", "B"]
    assert (found["A"].seeds, found["B"].seeds) == ((0, 1), (1,))
    for row, seed in enumerate(found["A"].seeds):
        measured = measure(torch.from_numpy(TARGETS), scores(seed))
        assert accuracy(found["A"].correct)[row] == pytest.approx(measured.accuracy)
        assert word_mean(found["A"].correct, found["A"].targets)[row] == pytest.approx(measured.word_mean)
        assert found["A"].confidence[row] == pytest.approx(scores(seed).softmax(1).amax(1).numpy(), abs=1e-3)


def test_runs_stand_in_the_order_of_their_seeds_whatever_the_plans(
    tmp_path: Path, small: StudyConfig, source: CorpusSource
) -> None:
    turned = Store.create_or_open(tmp_path, msgspec.structs.replace(small, seeds=(1, 0)), manifest(), source)
    for run in turned.runs:
        if run.row == "A":
            finish(turned, run)
    found = outcomes(turned)["A"]
    assert found.seeds == (0, 1)
    assert found.confidence[1] == pytest.approx(scores(1).softmax(1).amax(1).numpy(), abs=1e-3)


def test_runs_tested_on_other_clips_are_not_compared(store: Store) -> None:
    run = store.results()[-1]
    other = predictions(torch.from_numpy(TARGETS[::-1].copy()), scores(0))
    (store.run_folder(run) / "predictions.npz").write_bytes(other)
    with pytest.raises(StoreError, match=r"predictions\.npz: other test clips than those .* run again"):
        outcomes(store)


def test_the_store_knows_who_said_each_test_clip(store: Store) -> None:
    assert speakers_of(store).tolist() == [0, 1, 0, 1]


def forgetful(store: Store) -> Store:
    """The store as an earlier version made it."""
    known = msgspec.json.decode(unseal_json((store.folder / "corpus.json").read_bytes()))
    for name in ("test_speakers", "test_names", "speaker_names"):
        known.pop(name, None)
    (store.folder / "corpus.json").write_bytes(msgspec.json.encode(known))
    return Store.open(store.folder)


def test_an_old_store_takes_the_speakers_from_the_corpus_it_was_made_of(store: Store) -> None:
    old = forgetful(store)
    with pytest.raises(StoreError, match=r"run its study once more with the corpus fake there .*or give the corpus"):
        speakers_of(old)
    assert speakers_of(old, manifest()).tolist() == [0, 1, 0, 1]
    with pytest.raises(StoreError, match=r"made of fake with checksum a{12}, not of fake with b{12}"):
        speakers_of(old, manifest("b" * 64))


def test_an_old_store_learns_the_speakers_when_its_study_runs_again(
    store: Store, small: StudyConfig, source: CorpusSource
) -> None:
    before = forgetful(store).corpus
    renamed = msgspec.structs.replace(manifest(), corpus="moved", source="elsewhere")
    again = Store.create_or_open(store.folder, small, renamed, source)
    assert speakers_of(again).tolist() == [0, 1, 0, 1]
    assert again.corpus.test_names == tuple(clip.name for clip in manifest().clips if clip.split == "test")
    assert msgspec.structs.replace(again.corpus, test_speakers=(), test_names=(), speaker_names=()) == before
    assert len(again.results()) == 3


def test_calibration_error_of_hand_made_bins() -> None:
    # bins of a third: 0.2 and 0.3 with one right, 0.9 four times with three right
    confidence = [[0.2, 0.3, 0.9, 0.9, 0.9, 0.9]]
    correct = [[True, False, True, True, True, False]]
    assert calibration_error(confidence, correct, bins=3) == pytest.approx((2 * 0.25 + 4 * 0.15) / 6)


def test_full_confidence_belongs_to_the_last_bin_of_its_own_run() -> None:
    found = calibration_error([[1.0, 1.0], [0.01, 0.01]], [[False, False], [False, False]])
    assert found == pytest.approx([1, 0.01])


def test_calibrated_answers_have_little_error_and_overconfident_ones_theirs() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.2, 0.8, (2, 50_000))
    right = rng.random(confidence.shape) < confidence
    assert (calibration_error(confidence, right) < 0.01).all()
    assert calibration_error(confidence + 0.2, right) == pytest.approx([0.2, 0.2], abs=0.01)


@given(st.integers(0, 2**32 - 1))
def test_the_error_is_between_the_mean_gap_and_one_and_blind_to_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    confidence, correct = rng.random((3, 40)), rng.random((3, 40)) < 0.7
    found = calibration_error(confidence, correct)
    assert (np.abs(confidence.mean(1) - correct.mean(1)) <= found + 1e-12).all()
    assert (found <= 1).all()
    order = rng.permutation(40)
    assert calibration_error(confidence[:, order], correct[:, order]) == pytest.approx(found)
    assert calibration_error(confidence, correct, bins=1) == pytest.approx(np.abs(confidence.mean(1) - correct.mean(1)))


def test_scores_are_not_taken_for_probabilities() -> None:
    with pytest.raises(ValueError, match="give softmax outputs, not scores"):
        calibration_error([[3.2, float("nan")]], [[True, False]])
    with pytest.raises(ValueError, match=r"give \(R, K\) twice and a bin"):
        calibration_error([[0.5]], [[True, False]])
