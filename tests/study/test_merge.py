"""What hurts: a merge that loses a run, takes one of two results silently, or mixes what does not belong together."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fake_training import epoch_of, manifest, result_of
from hypothesis import given, settings
from hypothesis import strategies as st

from cello.cli.main import main
from cello.errors import StoreError
from cello.files import unseal_json
from cello.study.config import StudyConfig
from cello.study.merge import merge_stores
from cello.study.overrides import override
from cello.study.plan import PlannedRun
from cello.study.store import CorpusSource, Store
from cello.study.study_file import parse_study
from cello.training.result import RunResult

SOURCE = CorpusSource(spec="x")


def finish(store: Store, run: PlannedRun, seconds: float = 1.0, accuracy: float | None = None) -> None:
    result = result_of(run.config, [epoch_of(run.config, 1, 0.0), epoch_of(run.config, 2, 0.5)])
    result = msgspec.structs.replace(result, run=run.id, total_seconds=seconds)
    if accuracy is not None:
        result = msgspec.structs.replace(result, test=msgspec.structs.replace(result.test, accuracy=accuracy))
    folder = store.run_folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "predictions.npz", target=np.arange(3), prediction=np.arange(3))
    (folder / "model.safetensors").write_bytes(run.id.encode())
    (folder / "result.json").write_bytes(msgspec.json.encode(result))
    store.note("finished", run.id)


def made(folder: Path, study: StudyConfig, done: int | None = None, **changed: str) -> Store:
    """A store with the first runs of its plan finished, or all of them."""
    store = Store.create_or_open(folder, study, msgspec.structs.replace(manifest(), **changed), SOURCE)
    for run in store.runs[:done]:
        finish(store, run)
    return store


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def finished(store: Store) -> set[str]:
    return {run.id for run in store.results()}


def test_seeds_from_two_machines_become_one_study(tmp_path: Path, small: StudyConfig) -> None:
    one = made(tmp_path / "one", override(small, seeds=[1, 0]))
    two = made(tmp_path / "two", override(small, seeds=[5, 4]), done=5)
    before = content(one.folder), content(two.folder)
    merged = merge_stores([one.folder, two.folder], tmp_path / "out")
    assert merged.study.seeds == (0, 1, 4, 5)
    assert finished(merged) == finished(one) | finished(two)
    assert {run.place for run in merged.runs} == {run.place for run in (*one.runs, *two.runs)}
    assert [run.id for run in merged.pending()] == [two.runs[5].id]
    for store, run in ((one, one.runs[3]), (two, two.runs[0])):
        assert content(merged.run_folder(run)) == content(store.run_folder(run))
    assert {event.run for event in merged.events()} == finished(merged)
    assert (content(one.folder), content(two.folder)) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "out", "two"]


def test_rows_of_two_machines_unite_and_nothing_is_planned_that_neither_asked_for(
    tmp_path: Path, small: StudyConfig
) -> None:
    first, second = (msgspec.structs.replace(small, rows=rows) for rows in (small.rows[:2], small.rows[1:]))
    one, two = made(tmp_path / "one", first), made(tmp_path / "two", override(second, seeds=[7]))
    merged = merge_stores([one.folder, two.folder], tmp_path / "out")
    assert [row.name for row in merged.study.rows] == ["A", "B", "C"]
    expected = {("A", "", 0), ("A", "", 1), ("B", "", 0), ("B", "", 1), ("B", "", 7), ("C", "", 7)}
    assert {run.place for run in merged.runs} == expected
    assert merged.pending() == []


def test_a_merged_store_goes_on_as_any_other(tmp_path: Path, small: StudyConfig, source: CorpusSource) -> None:
    one, two = made(tmp_path / "one", small), made(tmp_path / "two", override(small, seeds=[2]))
    merge_stores([one.folder, two.folder], tmp_path / "out")
    grown = Store.create_or_open(tmp_path / "out", override(small, seeds=[0, 1, 2, 3]), manifest(), source)
    assert len(grown.results()) == 9
    assert {run.seed for run in grown.pending()} == {3}
    assert [(part.finished, part.seeds) for part in grown.header.growth] == [(9, (3,))]
    merged = merge_stores([one.folder, grown.folder], tmp_path / "again")
    assert merged.header.growth == grown.header.growth


@settings(max_examples=8, deadline=None)
@given(
    done=st.lists(st.sets(st.integers(0, 5)), min_size=2, max_size=3),
    seeds=st.lists(st.sets(st.integers(0, 3), min_size=1), min_size=3, max_size=3),
)
def test_the_order_and_repetition_of_stores_do_not_matter(done: list[set[int]], seeds: list[set[int]]) -> None:
    text = 'name = "x"\n[base.optimiser]\nepochs = 2\n[[rows]]\nname = "A"\n[[rows]]\nname = "B"\nmodel.hidden = 2\n'
    study = parse_study(text, "f")
    with tempfile.TemporaryDirectory() as folder:
        root, stores = Path(folder), []
        for number, runs in enumerate(done):
            stores.append(made(root / f"{number}", override(study, seeds=sorted(seeds[number])), done=0))
            for run in stores[-1].runs:
                if run.seed in runs:
                    finish(stores[-1], run, seconds=float(number))
        folders = [store.folder for store in stores]
        there = merge_stores(folders, root / "there")
        back = merge_stores(folders[::-1], root / "back")
        again = merge_stores([there.folder, *folders, there.folder], root / "again")
        for merged in (there, back, again):
            assert finished(merged) == set().union(*map(finished, stores))
            assert {run.place for run in merged.runs} == {run.place for store in stores for run in store.runs}
            assert len(merged.runs) == len({run.place for run in merged.runs})
        assert again.header == there.header
        assert content(again.folder / "runs") == content(there.folder / "runs")
        assert again.events() == there.events()


def test_a_run_of_two_machines_is_taken_once_from_the_first(tmp_path: Path, small: StudyConfig) -> None:
    one, two = made(tmp_path / "one", small, done=0), made(tmp_path / "two", small, done=0)
    for store, seconds in ((one, 10.0), (two, 99.0)):
        for run in store.runs:
            finish(store, run, seconds)
    merged = merge_stores([two.folder, one.folder], tmp_path / "out")
    assert {run.result.total_seconds for run in merged.results()} == {99.0}


def test_two_results_of_one_run_are_refused_and_the_choice_can_be_made(tmp_path: Path, small: StudyConfig) -> None:
    one, two = made(tmp_path / "one", small), made(tmp_path / "two", small)
    finish(two, two.runs[2], accuracy=0.25)
    own = one.results()[2].result.test.accuracy
    message = (
        rf"^A, seed 0 \({two.runs[2].id}\) has two results: '.*one' and '.*two' differ in test\.accuracy \({own} and "
        r"0\.25\); find out which machine is right, or take the first's with --prefer-first$"
    )
    with pytest.raises(StoreError, match=message):
        merge_stores([one.folder, two.folder], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    merged = merge_stores([two.folder, one.folder], tmp_path / "out", prefer_first=True)
    assert merged.results()[2].result.test.accuracy == 0.25


def test_other_predictions_are_another_result(tmp_path: Path, small: StudyConfig) -> None:
    one, two = made(tmp_path / "one", small), made(tmp_path / "two", small)
    place = two.run_folder(two.runs[0])
    result = msgspec.json.decode((place / "result.json").read_bytes(), type=RunResult)
    (place / "result.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(result, total_seconds=7.0)))
    np.savez(place / "predictions.npz", target=np.arange(3), prediction=np.zeros(3, dtype=np.int64))
    with pytest.raises(StoreError, match=r"C, seed 0 .* has two results: .* differ in prediction; find out"):
        merge_stores([one.folder, two.folder], tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "other"}, r"the study is small in the first and other in the other"),
        ({"protocol": "quick"}, r"the protocol is fair in the first and quick in the other"),
        ({"match": "flops"}, r"the match is width in the first and flops in the other"),
    ],
)
def test_different_studies_are_refused(
    tmp_path: Path, small: StudyConfig, change: dict[str, str], message: str
) -> None:
    alike = msgspec.structs.replace(small, rows=small.rows[:1])
    one, two = made(tmp_path / "one", alike), made(tmp_path / "two", msgspec.structs.replace(alike, **change))
    for pair in ([one.folder, two.folder], [two.folder, one.folder]):
        with pytest.raises(StoreError, match="cannot be merged"):
            merge_stores(pair, tmp_path / "out")
    with pytest.raises(StoreError, match=rf"one' and '.*two' cannot be merged: {message}; merge stores of one study"):
        merge_stores([one.folder, two.folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_settings_are_refused_whichever_store_comes_first_and_even_where_no_run_meets_them(
    tmp_path: Path, small: StudyConfig
) -> None:
    base = msgspec.structs.replace(small.base, optimiser={"epochs": 9, "learning_rate": 0.01})
    wide = msgspec.structs.replace(small.rows[0], model={"hidden": 7})
    stated = msgspec.structs.replace(small.rows[0], augment={"speed": 0.1})
    one = made(tmp_path / "one", small, done=0)
    for number, (other, message) in enumerate(
        (
            (
                msgspec.structs.replace(small, base=base),
                r"in the base, optimiser\.epochs is 5 in the first and 9 in the",
            ),
            (msgspec.structs.replace(small, rows=(wide,)), r"in row 'A', model\.hidden is 1 in the first and 7 in the"),
            (
                msgspec.structs.replace(small, rows=(stated,)),
                r"in row 'A', augment\.speed is not stated in the first and 0",
            ),
        )
    ):
        two = made(tmp_path / f"{number}", override(other, seeds=[8]), done=0)
        with pytest.raises(StoreError, match=rf"one' and '.*{number}' cannot be merged: {message}"):
            merge_stores([one.folder, two.folder], tmp_path / "out")
        with pytest.raises(StoreError, match="cannot be merged"):
            merge_stores([two.folder, one.folder], tmp_path / "out")
        with pytest.raises(StoreError, match="cannot be merged"):
            merge_stores([one.folder, one.folder, two.folder], tmp_path / "out")


def test_another_corpus_is_refused_and_a_renamed_one_is_the_same(
    tmp_path: Path, small: StudyConfig, source: CorpusSource
) -> None:
    one = made(tmp_path / "one", small)
    other = made(tmp_path / "other", small, checksum="b" * 64)
    with pytest.raises(StoreError, match=r"the corpus is fake \(a{12}\) in the first and fake \(b{12}\) in the other"):
        merge_stores([one.folder, other.folder], tmp_path / "out")
    renamed = made(tmp_path / "renamed", override(small, seeds=[2]), corpus="moved")
    merged = merge_stores([one.folder, renamed.folder], tmp_path / "out")
    assert (len(merged.results()), merged.header.corpus.name) == (9, "fake")
    assert {run.result.config.corpus.name for run in merged.results()} == {"fake"}
    grown = Store.create_or_open(tmp_path / "out", override(small, seeds=[0, 1, 2, 3]), manifest(), source)
    assert len(grown.results()) == 9


def test_a_run_keeps_the_id_that_an_older_version_gave_it(tmp_path: Path, small: StudyConfig) -> None:
    one, two = made(tmp_path / "one", small), made(tmp_path / "two", override(small, seeds=[2]))
    old = one.runs[0].id
    older = old[::-1]
    for path in (one.folder / "study.json", one.run_folder(one.runs[0]) / "result.json"):
        path.write_bytes(unseal_json(path.read_bytes()).replace(old.encode(), older.encode()))
    one.run_folder(one.runs[0]).rename(one.folder / "runs" / older)
    merged = merge_stores([two.folder, one.folder], tmp_path / "out")
    assert finished(merged) == ({run.id for run in (*one.runs, *two.runs)} - {old}) | {older}


def test_nothing_is_written_over(tmp_path: Path, small: StudyConfig) -> None:
    one, two = made(tmp_path / "one", small, done=1), made(tmp_path / "two", override(small, seeds=[2]), done=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    (tmp_path / "empty").mkdir()
    before = content(tmp_path)
    for out, message in (
        (one.folder, r"one' holds a study, and nothing is written over; choose a new folder with --out"),
        (tmp_path / "full", r"full' holds files \(mine\.txt\), and nothing is written over; choose a new folder"),
        (tmp_path / "full" / "mine.txt", r"mine\.txt' is a file, not a folder; choose another --out"),
    ):
        with pytest.raises(StoreError, match=message):
            merge_stores([one.folder, two.folder], out)
    assert content(tmp_path) == before
    assert len(merge_stores([one.folder, two.folder], tmp_path / "empty").results()) == 2


def test_a_merge_that_is_broken_off_leaves_nothing(
    tmp_path: Path, small: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = made(tmp_path / "one", small, done=1), made(tmp_path / "two", override(small, seeds=[2]), done=1)
    for error, kind in ((KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left on device"), StoreError)):

        def stop(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr("cello.study.merge.write_whole", stop)
        with pytest.raises(kind):
            merge_stores([one.folder, two.folder], tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_one_store_or_none_is_nothing_to_merge(tmp_path: Path, small: StudyConfig) -> None:
    made(tmp_path / "one", small, done=0)
    with pytest.raises(StoreError, match="1 store to merge; give at least two folders of studies"):
        merge_stores([tmp_path / "one"], tmp_path / "out")
    with pytest.raises(StoreError, match=r"no study at '.*none'"):
        merge_stores([tmp_path / "one", tmp_path / "none"], tmp_path / "out")


def test_the_speakers_of_the_test_clips_come_from_whichever_store_knows_them(
    tmp_path: Path, small: StudyConfig
) -> None:
    one, two = made(tmp_path / "one", small), made(tmp_path / "two", override(small, seeds=[2]))
    summary = json.loads(unseal_json((one.folder / "corpus.json").read_bytes()))
    (one.folder / "corpus.json").write_text(json.dumps({**summary, "test_speakers": []}))
    assert merge_stores([one.folder, two.folder], tmp_path / "out").corpus == two.corpus


def test_the_command_says_what_is_there_and_what_is_left(
    tmp_path: Path, small: StudyConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path / "one", small)
    made(tmp_path / "two", override(small, seeds=[2]), done=1)
    assert main(["merge", str(tmp_path / "one"), str(tmp_path / "two"), "--out", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    out = tmp_path / "out"
    assert said == f"7 runs in {out} are finished; 2 of the plan are not, and cello study with --out {out} runs them"
    assert main(["merge", str(tmp_path / "one"), str(tmp_path / "two"), "--out", str(tmp_path / "out")]) == 1
    assert "holds a study, and nothing is written over" in " ".join(capsys.readouterr().err.split())


def hostile(folder: Path, study: StudyConfig, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the header of a store as its maker would who has no checksum in the way."""
    path = folder / "study.json"
    header = json.loads(unseal_json(path.read_bytes()))
    change(header)
    path.write_text(json.dumps(header))


def test_an_id_that_is_a_path_leads_nowhere(tmp_path: Path, small: StudyConfig) -> None:
    one, two = made(tmp_path / "one", small, done=5), made(tmp_path / "two", small)
    outside = "a/../../../../elsewhere"
    (tmp_path / "two" / "runs" / two.runs[5].id).rename(tmp_path / "elsewhere")
    (tmp_path / "two" / "runs" / "a").mkdir()
    hostile(two.folder, small, lambda header: header["runs"][5].update(id=outside))
    with pytest.raises(StoreError, match=r"two/study\.json is damaged: it names a run 'a/\.\./.*', and ids are 16 hex"):
        merge_stores([one.folder, two.folder], tmp_path / "here" / "out")
    assert not (tmp_path / "here").exists()


def test_of_a_runs_folder_only_the_files_of_a_run_are_copied(tmp_path: Path, small: StudyConfig) -> None:
    one, two = made(tmp_path / "one", small, done=0), made(tmp_path / "two", small)
    for run in two.runs:
        (two.run_folder(run) / "evil.desktop").write_text("[Desktop Entry]")
        (two.run_folder(run) / "checkpoint.pt").write_text("pickle")
        (two.run_folder(run) / "link").symlink_to("/etc/passwd")
        (two.run_folder(run) / "below").mkdir()
    merged = merge_stores([one.folder, two.folder], tmp_path / "out")
    names = {path.name for run in merged.runs for path in merged.run_folder(run).iterdir()}
    assert names == {"result.json", "predictions.npz", "model.safetensors"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "corpus.json", "journal.jsonl", "runs", "study.json",
    ]  # fmt: skip


@pytest.mark.parametrize("what", ["file", "run", "runs", "pipe", "folder"])
def test_no_link_of_a_store_is_followed_and_no_pipe_waited_for(tmp_path: Path, small: StudyConfig, what: str) -> None:
    one, two = made(tmp_path / "one", small, done=0), made(tmp_path / "two", small)
    (tmp_path / "secret").write_text("a key")
    folder = two.run_folder(two.runs[3])
    model = folder / "model.safetensors"
    linked = {"run": folder, "runs": two.folder / "runs"}
    if what in linked:
        linked[what].rename(tmp_path / "moved")
        linked[what].symlink_to(tmp_path / "moved")
    else:
        model.unlink()
        {
            "file": lambda: model.symlink_to(tmp_path / "secret"),
            "pipe": lambda: os.mkfifo(model),
            "folder": model.mkdir,
        }[what]()
    with pytest.raises(
        StoreError, match=r"two/runs/\w+.* cannot be merged: .*(link|regular file).*; put the file itself"
    ):
        merge_stores([one.folder, two.folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
