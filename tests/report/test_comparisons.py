"""What hurts: a report that claims more than the clips tell, or that fails where a store cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cello.files import unseal_json
from cello.report import comparisons
from cello.report.comparisons import NO_SPEAKERS, ONE_SPEAKER, TOO_FEW, compare_models
from cello.report.results import Run, StudyResults, load_results
from cello.study.store import Store

Fill = Callable[[Path, StudyResults], Store]
Without = Callable[[StudyResults, Callable[[Run], bool]], StudyResults]
SPEAKERS = np.arange(2000) // 8


def right(seeds: int, accuracy: float) -> np.ndarray:
    return np.random.default_rng(int(1000 * accuracy)).random((seeds, 2000)) < accuracy


def test_a_store_is_compared_as_its_predictions_say(stored: Path, small: StudyResults) -> None:
    assert load_results(stored).comparisons == small.comparisons
    assert [model.row for model in small.comparisons[0].standings] == ["gru", "rnn"]


def test_standings_hold_the_mean_of_the_tables_and_descend(gates: StudyResults) -> None:
    (column,) = gates.comparisons
    assert [model.row for model in column.standings[:2]] == ["lstm-coupled", "lstm-peephole-full"]
    values = [model.accuracy.value for model in column.standings]
    assert values == sorted(values, reverse=True)
    for model in column.standings:
        tests = [run.test.accuracy for run in gates.cell(model.row, column.column)]
        assert model.accuracy.value == pytest.approx(np.mean(tests))
        assert model.accuracy.low < model.accuracy.value < model.accuracy.high


def test_models_share_a_letter_only_if_no_pair_tells_them_apart(gates: StudyResults) -> None:
    (column,) = gates.comparisons
    letters = {model.row: set(model.letters) for model in column.standings}
    assert any(pair.differs for pair in column.comparisons)
    assert not all(pair.differs for pair in column.comparisons)
    for pair in column.comparisons:
        assert bool(letters[pair.first] & letters[pair.second]) != pair.differs


def test_four_seeds_are_indicative_and_five_are_not() -> None:
    found = compare_models("", {"GRU": right(5, 0.95), "RNN": right(4, 0.85)}, SPEAKERS)
    assert [(model.row, model.indicative) for model in found.standings] == [("GRU", False), ("RNN", True)]
    assert found.comparisons[0].indicative


def test_a_model_with_one_seed_is_left_out_by_name() -> None:
    found = compare_models("", {"LSTM": right(1, 0.99), "GRU": right(2, 0.95), "RNN": right(2, 0.85)}, SPEAKERS)
    assert [model.row for model in found.standings] == ["GRU", "RNN"]
    assert "LSTM" in found.note


@pytest.mark.parametrize(
    ("correct", "speakers", "note"),
    [
        ({"GRU": right(5, 0.9)}, SPEAKERS, TOO_FEW),
        ({"GRU": right(5, 0.9), "RNN": right(1, 0.8)}, SPEAKERS, TOO_FEW),
        ({"GRU": right(5, 0.9), "RNN": right(5, 0.8)}, np.zeros(2000), ONE_SPEAKER),
    ],
)
def test_what_cannot_be_compared_says_why(correct: dict[str, np.ndarray], speakers: np.ndarray, note: str) -> None:
    found = compare_models("40 ms", correct, speakers)
    assert (found.note, found.standings, found.comparisons) == (note, (), ())


def test_a_store_without_speakers_says_how_to_get_them(tmp_path: Path, small: StudyResults, fill: Fill) -> None:
    store = fill(tmp_path / "s", small)
    summary = msgspec.structs.replace(store.corpus, test_speakers=())
    (store.folder / "corpus.json").write_bytes(msgspec.json.encode(summary))
    results = load_results(store.folder)
    assert {column.note for column in results.comparisons} == {NO_SPEAKERS}
    assert len(results.runs) == len(small.runs)


def test_lost_predictions_spoil_their_column_only_and_name_no_machine(
    tmp_path: Path, small: StudyResults, fill: Fill
) -> None:
    store = fill(tmp_path / "s", small)
    lost = next(run for run in store.runs if run.column == "40 ms")
    (store.run_folder(lost) / "predictions.npz").unlink()
    first, second = load_results(store.folder).comparisons
    assert first.comparisons
    assert not second.comparisons
    assert f"runs/{lost.id}/predictions.npz" in second.note
    assert f"delete runs/{lost.id} and run again." in second.note
    assert str(tmp_path) not in second.note


def test_speakers_of_other_clips_are_not_taken_for_these(tmp_path: Path, small: StudyResults, fill: Fill) -> None:
    store = fill(tmp_path / "s", small)
    summary = json.loads(unseal_json((store.folder / "corpus.json").read_bytes()))
    (store.folder / "corpus.json").write_text(json.dumps({**summary, "test_speakers": [0, 1, 2]}))
    note = load_results(store.folder).comparisons[0].note
    assert "predictions are of 2676 test clips" in note
    assert "speakers of 3" in note


def test_predictions_of_one_column_at_a_time_are_in_memory(
    tmp_path: Path, small: StudyResults, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fill(tmp_path / "s", small)
    read: list[set[str]] = []
    real = comparisons.answers

    def spy(store: Store, column: str, runs: list[object], tally: object) -> object:
        read.append({run.column for run in runs})  # type: ignore[attr-defined]
        return real(store, column, runs, tally)  # type: ignore[arg-type]

    monkeypatch.setattr(comparisons, "answers", spy)
    load_results(store.folder)
    assert read == [{"20 ms"}, {"40 ms"}]


def test_a_column_without_a_finished_run_is_passed_over(
    tmp_path: Path, small: StudyResults, fill: Fill, without: Without
) -> None:
    store = fill(tmp_path / "s", without(small, lambda run: run.column == "20 ms"))
    assert [column.column for column in load_results(store.folder).comparisons] == ["40 ms"]
