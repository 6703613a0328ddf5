"""What hurts: a damaged or hostile file of a store that stops it with a traceback, hangs it, or changes a figure."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fake_training import epoch_of, manifest, result_of, timeless

from cello.errors import StoreError
from cello.execution.task import FailureRecord, last_failure
from cello.files import seal_json, unseal_json
from cello.study.config import StudyConfig
from cello.study.correctness import answers
from cello.study.store import CorpusSource, Store
from damage import HOSTILE, damaged

FILES = ("study.json", "corpus.json", "journal.jsonl", "result.json", "predictions.npz")


@pytest.fixture
def store(tmp_path: Path, small: StudyConfig, source: CorpusSource) -> Store:
    """Five of six runs finished, the last one failed."""
    store = Store.create_or_open(tmp_path / "out", small, manifest(), source)
    for run in store.runs:
        store.note("started", run.id)
        folder = store.run_folder(run)
        folder.mkdir(parents=True)
        if run is store.runs[-1]:
            store.note("failed", run.id, "the loss became nan")
            continue
        result = result_of(run.config, [epoch_of(run.config, 1, 0.0)])
        np.savez_compressed(folder / "predictions.npz", target=np.arange(3), prediction=np.arange(3) % 2)
        (folder / "result.json").write_bytes(seal_json(msgspec.json.encode(result)))
        store.note("finished", run.id)
    return store


def place(store: Store, name: str) -> Path:
    folder = store.folder if name in FILES[:3] else store.run_folder(store.runs[1])
    return folder / name


def seen(folder: Path) -> dict[str, Any]:
    """All that a report reads of a store."""
    store = Store.open(folder)
    results = store.results()
    said = answers(store, "", results)
    return {
        "corpus": store.corpus,
        "header": store.header,
        "results": {run.id: timeless(run.result) for run in results},
        "pending": [run.id for run in store.pending()],
        "failures": [(failure.planned.id, failure.reason) for failure in store.failures(results)],
        "correct": {row: table.tolist() for row, table in said.correct.items()},
    }


def seen_or_reason(folder: Path) -> dict[str, Any] | str:
    try:
        return seen(folder)
    except StoreError as error:
        return str(error)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_or_changes_nothing(store: Store, name: str) -> None:
    path, whole = place(store, name), seen(store.folder)
    content, outcomes = path.read_bytes(), {"the same": 0, "named": 0}
    for how, text in damaged(content, 100):
        path.write_bytes(text)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found = seen_or_reason(store.folder)
        if isinstance(found, str):
            assert name in found, how
            outcomes["named"] += 1
            continue
        if name == "result.json" and len(found["results"]) < 5:
            run = store.runs[1]
            assert run.id in found["pending"], how
            assert dict(found["failures"])[run.id].startswith("its result.json is damaged: "), how
            outcomes["named"] += 1
        elif name == "journal.jsonl" and found != whole:
            assert {**found, "failures": whole["failures"]} == whole, how  # a reason alone may be lost
            assert warned or how.startswith(("cut", "gone", "zeros", "bit")), how
            outcomes["named"] += 1
        else:
            assert found == whole, how
            outcomes["the same"] += 1
    assert outcomes["named"] >= (1 if name == "journal.jsonl" else 60), outcomes


@pytest.mark.parametrize("name", ["study.json", "corpus.json", "result.json", "failure.json"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_json_is_damage_with_a_reason(store: Store, name: str, kind: str) -> None:
    place(store, name).write_bytes(HOSTILE[kind])
    if name == "failure.json":
        assert last_failure(place(store, name).parent) is None
    elif name == "result.json":
        run = store.runs[1]
        assert run in store.pending()
        reasons = {failure.planned.id: failure.reason for failure in store.failures()}
        assert reasons[run.id].startswith("its result.json is damaged: ")
    else:
        with pytest.raises(StoreError, match=rf"{name} is damaged: .*; restore it, or start afresh with anothe"):
            Store.open(store.folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_a_pipe_or_folder_in_place_of_a_file_is_named_and_not_waited_for(
    store: Store, name: str, make: Callable[[Path], None]
) -> None:
    path = place(store, name)
    path.unlink()
    make(path)
    if name == "result.json":
        (failure, _) = store.failures()
        assert "its result.json is damaged: " in failure.reason
    else:
        with pytest.raises(StoreError, match=name.replace(".", r"\.")):
            seen(store.folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"test": {"clips": 3, "loss": 1.0, "accuracy": 1.5, "word_mean": 0.5}}, r"an accuracy is not in \[0, 1\]"),
        ({"train": {"clips": -3, "loss": 1.0, "accuracy": 0.5, "word_mean": 0.5}}, "a count is below 0 or beyond any"),
        ({"parameters": 10**30}, "a count is below 0 or beyond any"),
        ({"total_seconds": -1.0}, "a time or a loss is below 0"),
        ({"confusion": [[1]]}, "its confusion matrix is not of its 3 labels"),
        (
            {"config": {"corpus": {"name": "x", "checksum": "y"}, "optimiser": {"epochs": 0}}},
            "epochs=0 is invalid: it must be at least 1",
        ),
    ],
)
def test_a_record_of_what_cannot_have_been_measured_does_not_count(
    store: Store, change: dict[str, object], reason: str
) -> None:
    path = place(store, "result.json")
    path.write_bytes(json.dumps({**json.loads(unseal_json(path.read_bytes())), **change}).encode())
    (failure, _) = store.failures()
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(failure.reason)
    assert len(store.results()) == 4


@pytest.mark.parametrize(
    "run_id", ["a/../../../../home/x", "..", "", "A" * 16, "0" * 15, "0" * 16 + "\n", "/etc/x", "é" * 16]
)
def test_an_id_that_cello_does_not_make_is_refused(store: Store, run_id: str) -> None:
    path = store.folder / "study.json"
    header = json.loads(unseal_json(path.read_bytes()))
    header["runs"][0]["id"] = run_id
    path.write_text(json.dumps(header))
    with pytest.raises(StoreError, match=r"study\.json is damaged: it names a run '.*', and ids are 16 hexa"):
        Store.open(store.folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"row": "nobody"}, r"its run \w+ has no place in the table of its study"),
        ({"column": "nowhere"}, r"its run \w+ has no place in the table"),
        ({"seed": 7}, r"its run \w+ has no place in the table"),
        ({"row": "A"}, "a place of its table has two runs"),
    ],
)
def test_a_plan_outside_its_own_table_is_refused(store: Store, change: dict[str, object], reason: str) -> None:
    path = store.folder / "study.json"
    header = json.loads(unseal_json(path.read_bytes()))
    (run,) = (run for run in header["runs"] if (run["row"], run["seed"]) == ("B", 0))
    run.update(change)
    path.write_text(json.dumps(header))
    with pytest.raises(StoreError, match=rf"study\.json is damaged: {reason}"):
        Store.open(store.folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"splits": {}}, "its splits are none"),
        ({"labels": []}, "its counts of train clips by label are not those of its labels"),
        ({"labels": ["a", "b", "c"]}, "its counts of train clips by label are not those of its labels"),
        ({"test_speakers": [0, 1, 10**20]}, "a speaker has a number"),
        ({"test_names": ["a.wav"]}, "its test_names names 1 of "),
        ({"columns": {"ward": []}}, "its column 'ward' names 0 of "),
        ({"test_speakers": [0, 1], "speaker_names": ["anna"]}, "it names 1 speakers, fewer than"),
    ],
)
def test_a_corpus_that_contradicts_itself_is_refused(store: Store, change: dict[str, object], reason: str) -> None:
    path = store.folder / "corpus.json"
    path.write_text(json.dumps({**json.loads(unseal_json(path.read_bytes())), **change}))
    with pytest.raises(StoreError, match=rf"corpus\.json is damaged: {reason}"):
        Store.open(store.folder)


def test_files_from_before_there_were_checksums_are_read_as_they_were(store: Store) -> None:
    whole = seen(store.folder)
    for path in store.folder.rglob("*.json"):
        path.write_bytes(unseal_json(path.read_bytes()))
    lines = (store.folder / "journal.jsonl").read_bytes().splitlines()
    (store.folder / "journal.jsonl").write_bytes(b"".join(unseal_json(line) + b"\n" for line in lines))
    assert seen(store.folder) == whole


def test_a_new_line_that_an_editor_adds_is_no_damage(store: Store) -> None:
    whole = seen(store.folder)
    for name in ("study.json", "corpus.json", "result.json"):
        path = place(store, name)
        path.write_bytes(path.read_bytes() + b"\n")
    assert seen(store.folder) == whole


def test_a_damaged_description_of_the_corpus_is_made_again_from_the_corpus(
    store: Store, small: StudyConfig, source: CorpusSource
) -> None:
    path, whole = store.folder / "corpus.json", seen(store.folder)
    text = path.read_bytes()
    path.write_bytes(text[:-30])
    with pytest.raises(StoreError, match=r"corpus\.json is damaged"):
        Store.create_or_open(store.folder, small, manifest("b" * 64), source)
    with pytest.warns(UserWarning, match=r"corpus\.json is damaged \(.*\) and made again from the corpus$"):
        Store.create_or_open(store.folder, small, manifest(), source)
    assert (path.read_bytes(), seen(store.folder)) == (text, whole)
    path.unlink()
    with pytest.warns(UserWarning, match=r"corpus\.json is missing and made again from the corpus$"):
        Store.create_or_open(store.folder, small, manifest(), source)
    assert (path.read_bytes(), seen(store.folder)) == (text, whole)
    path.write_bytes(seal_json(json.dumps({**json.loads(unseal_json(text)), "format": 2}).encode()))
    with pytest.raises(StoreError, match=r"corpus\.json has format 2, and this is Cello .*; install a newer Cello"):
        Store.create_or_open(store.folder, small, manifest(), source)


def test_a_result_of_another_run_is_named(store: Store) -> None:
    place(store, "result.json").write_bytes((store.run_folder(store.runs[0]) / "result.json").read_bytes())
    reasons = {failure.planned.id: failure.reason for failure in store.failures()}
    assert reasons[store.runs[1].id] == (
        "its result.json is that of another run; the study's command trains the run again"
    )


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"target": [0, 1, 3], "prediction": [0, 0, 0]}, "'target' names labels that are none of the 3"),
        ({"target": [0, 1, -1], "prediction": [0, 0, 0]}, "'target' names labels that are none of the 3"),
        ({"target": [0.0, 1.0], "prediction": [0, 0]}, "'target' names labels"),
        ({"target": [0, 1], "prediction": [0]}, r"are not of the same clips \(target \(2,\), prediction \(1,\)\)"),
        ({"target": [[0]], "prediction": [[0]]}, "are not of the same clips"),
        ({"target": [0], "prediction": [0], "target_probability": [1.5]}, "holds what is no probability"),
        ({"target": [0], "prediction": [0], "target_probability": [np.nan]}, "holds what is no probability"),
    ],
)
def test_predictions_of_no_test_clips_are_named(store: Store, arrays: dict[str, Any], reason: str) -> None:
    np.savez(place(store, "predictions.npz"), **{name: np.array(values) for name, values in arrays.items()})
    with pytest.raises(
        StoreError, match=rf"predictions\.npz: predictions cannot be read: its .*{reason.removeprefix('its ')}"
    ):
        store.predictions(store.runs[1])


def test_a_result_that_the_system_does_not_give_is_an_error_and_not_an_unfinished_run(store: Store) -> None:
    path = place(store, "result.json")
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(StoreError, match=r"result\.json' cannot be read: .*; fix that, and finished runs count$"):
        store.results()


def test_failures_are_sealed_and_a_damaged_one_is_no_failure(tmp_path: Path) -> None:
    text = seal_json(msgspec.json.encode(FailureRecord(session="s", reason="r", diverged=False)))
    for how, changed in damaged(text, 100):
        (tmp_path / "failure.json").write_bytes(changed)
        found = last_failure(tmp_path)
        assert found is None or found == FailureRecord(session="s", reason="r"), how
