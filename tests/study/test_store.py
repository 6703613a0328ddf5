"""A store that loses a run, counts one twice, or mixes two studies would make every table a lie."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fake_training import epoch_of, manifest, result_of, timeless, train
from hypothesis import given, settings
from hypothesis import strategies as st

from cello.audio.corpus import BadClip, Corpus
from cello.errors import StoreError
from cello.files import unseal_json
from cello.study.config import StudyConfig
from cello.study.corpus_file import CorpusSummary
from cello.study.folder import single_writer
from cello.study.journal import Event, append
from cello.study.overrides import override
from cello.study.plan import PlannedRun
from cello.study.store import CorpusSource, Store
from cello.study.study_file import parse_study
from cello.training.config import CorpusRef

CORPUS = Corpus(manifest(), np.zeros(1, np.float32))


def finish(store: Store, run: PlannedRun) -> None:
    store.run_folder(run).mkdir(parents=True, exist_ok=True)
    train(run.config, CORPUS, store.run_folder(run))


def write_result(store: Store, run: PlannedRun) -> None:
    store.run_folder(run).mkdir(parents=True)
    result = result_of(run.config, [epoch_of(run.config, 1, 0.0)])
    (store.run_folder(run) / "result.json").write_bytes(msgspec.json.encode(result))


@pytest.fixture
def store(tmp_path: Path, small: StudyConfig, source: CorpusSource) -> Store:
    return Store.create_or_open(tmp_path / "out", small, manifest(), source)


def test_results_pending_and_predictions_follow_the_folders(store: Store) -> None:
    assert (store.results(), store.failures(), len(store.pending())) == ([], [], 6)
    run = store.runs[4]
    finish(store, run)
    again = Store.open(store.folder)
    (stored,) = again.results()
    assert (stored.id, stored.row, stored.column, stored.seed) == (run.id, run.row, "", 1)
    assert timeless(stored.result) == timeless(result_of(run.config, list(stored.result.history)))
    assert again.pending() == [r for r in store.runs if r is not run]
    assert list(again.predictions(stored)["target"]) == [0, 1, 2]
    with pytest.raises(StoreError, match=r"predictions\.npz: predictions cannot be read: .*No such file.*run again"):
        again.predictions(store.runs[0])


def test_a_result_counts_only_whole_and_only_for_its_own_run(store: Store) -> None:
    first, second = store.runs[:2]
    finish(store, first)
    path = store.run_folder(first) / "result.json"
    whole = path.read_bytes()
    store.run_folder(second).mkdir()
    (store.run_folder(second) / "result.json").write_bytes(whole)
    assert [run.id for run in store.results()] == [first.id]
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert store.results() == []
    path.write_bytes(whole.replace(b'"format":1', b'"format":2'))
    with pytest.raises(StoreError, match=r"result\.json has format 2, and this is Cello .* up to 1; install a newer"):
        store.results()


def test_two_rows_with_one_setting_are_computed_once_and_shown_twice(tmp_path: Path, source: CorpusSource) -> None:
    study = parse_study('name = "x"\n[[rows]]\nname = "A"\n[[rows]]\nname = "B"\n', "f")
    store = Store.create_or_open(tmp_path, study, manifest(), source)
    assert [run.row for run in store.pending()] == ["A"]
    finish(store, store.pending()[0])
    assert ([run.row for run in store.results()], store.pending()) == (["A", "B"], [])


@settings(max_examples=30, deadline=None)
@given(
    history=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["started", "finished", "failed"])), max_size=12),
    done=st.sets(st.integers(0, 5)),
    torn=st.integers(0, 200),
)
def test_no_history_loses_or_doubles_a_run(history: list[tuple[int, str]], done: set[int], torn: int) -> None:
    study = parse_study('name = "x"\nseeds = [0,1,2,3,4,5]\n[base.optimiser]\nepochs = 1\n[[rows]]\nname = "A"\n', "f")
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create_or_open(Path(folder), study, manifest(), CorpusSource(spec="x"))
        for index in done:
            write_result(store, store.runs[index])
        for index, event in history:
            store.note(event, store.runs[index].id, reason="why" if event == "failed" else "")
        journal = Path(folder) / "journal.jsonl"
        if journal.exists():
            journal.write_bytes(journal.read_bytes()[: max(0, journal.stat().st_size - torn)])
        again = Store.open(Path(folder))
        seen = again.events()
        assert [run.seed for run in again.results()] == sorted(done)
        assert [run.seed for run in again.pending()] == sorted({*range(6)} - done)
        last = {event.run: event.event for event in seen}
        expected = [r.seed for i, r in enumerate(again.runs) if i not in done and last.get(r.id) == "failed"]
        assert [failure.planned.seed for failure in again.failures()] == expected
        again.reconcile()
        noted = [event.run for event in again.events() if event.event == "finished"]
        assert {again.runs[index].id for index in done} <= set(noted)
        before = again.events()
        again.reconcile()
        assert again.events() == before


def test_the_plan_grows_by_seeds_rows_and_columns(store: Store, small: StudyConfig, source: CorpusSource) -> None:
    finish(store, store.runs[0])
    more = msgspec.structs.replace(
        override(small, seeds=[2]), rows=(*small.rows[1:], msgspec.structs.replace(small.rows[0], name="D"))
    )
    grown = Store.create_or_open(store.folder, more, manifest(), source)
    places = {run.place for run in store.runs} | {(row, "", 2) for row in "BCD"}
    assert {run.place for run in grown.runs} == places
    assert [row.name for row in grown.study.rows] == ["A", "B", "C", "D"]
    assert grown.study.seeds == (0, 1, 2)
    assert [run.id for run in grown.results()] == [store.runs[0].id]
    assert Store.create_or_open(store.folder, small, manifest(), source).header == grown.header
    (joined,) = grown.header.growth
    assert (joined.finished, joined.rows, joined.columns, joined.seeds) == (1, ("D",), (), (2,))


def test_a_folder_of_studies_names_those_in_it(store: Store) -> None:
    above = store.folder.parent
    with pytest.raises(StoreError, match=r"holds no study \(no study.json in it\)") as raised:
        Store.open(above)
    assert str(raised.value).endswith(f"; give the --out of a study, such as {str(store.folder)!r}")


def test_growth_before_any_figure_is_not_held_against_a_study(
    store: Store, small: StudyConfig, source: CorpusSource
) -> None:
    grown = Store.create_or_open(store.folder, override(small, seeds=[2]), manifest(), source)
    assert (grown.study.seeds, grown.header.growth) == ((0, 1, 2), ())


def test_a_renamed_corpus_with_the_same_clips_is_the_same_corpus(
    store: Store, small: StudyConfig, source: CorpusSource
) -> None:
    renamed = msgspec.structs.replace(manifest(), corpus="moved")
    again = Store.create_or_open(store.folder, override(small, seeds=[0, 1, 2]), renamed, source)
    assert (len(again.runs), again.header.corpus.name) == (9, "fake")


def test_a_run_finished_under_an_older_id_stays_finished_and_others_are_planned_anew(
    store: Store, small: StudyConfig, source: CorpusSource
) -> None:
    done, waiting = store.runs[:2]
    finish(store, done)
    older = {run.id: run.id[::-1] for run in (done, waiting)}
    for path in (store.folder / "study.json", store.run_folder(done) / "result.json"):
        text = unseal_json(path.read_bytes()).decode()
        for new, old in older.items():
            text = text.replace(new, old)
        path.write_text(text)
    store.run_folder(done).rename(store.folder / "runs" / older[done.id])
    again = Store.create_or_open(store.folder, small, manifest(), source)
    assert [run.id for run in again.results()] == [older[done.id]]
    assert [run.id for run in again.pending()] == [run.id for run in store.runs[1:]]


@pytest.mark.parametrize(
    ("change", "checksum", "message"),
    [
        ({}, "b" * 64, r"its corpus is fake \(aaaaaaaaaaaa\), not fake \(bbbbbbbbbbbb\); choose another --out"),
        ({"name": "other"}, "a" * 64, r"holds another study: its study is small, not other"),
        ({"protocol": "published"}, "a" * 64, r"its protocol is fair, not published"),
    ],
)
def test_another_study_is_refused_with_the_difference(
    store: Store, small: StudyConfig, source: CorpusSource, change: dict[str, str], checksum: str, message: str
) -> None:
    before = (store.folder / "study.json").read_bytes()
    with pytest.raises(StoreError, match=message):
        Store.create_or_open(store.folder, msgspec.structs.replace(small, **change), manifest(checksum), source)
    assert (store.folder / "study.json").read_bytes() == before


def test_a_store_from_before_a_protocol_could_be_unstated_is_the_same_study(
    tmp_path: Path, small: StudyConfig, source: CorpusSource
) -> None:
    assert small.protocol == ""
    older = msgspec.structs.replace(small, protocol="fair")  # what such stores say of a file that states none
    before = Store.create_or_open(tmp_path / "older", older, manifest(), source)
    again = Store.create_or_open(before.folder, override(small, seeds=[0, 1, 2]), manifest(), source)
    assert set(before.runs) < set(again.runs)


def test_a_forgotten_speaker_pattern_is_named(store: Store, small: StudyConfig, source: CorpusSource) -> None:
    asked = msgspec.structs.replace(source, options={**source.options, "speaker_pattern": "(..)"})
    message = (
        r"; --speaker-pattern was not given before and is \(\.\.\) now, which gives other splits; choose another --out"
    )
    with pytest.raises(StoreError, match=message):
        store.grown(small, CorpusRef(name="fake", checksum="b" * 64), asked)


def test_other_settings_under_a_known_name_are_refused(store: Store, small: StudyConfig, source: CorpusSource) -> None:
    for seeds in ([0, 1], [2]):
        other = override(small, seeds=seeds, settings={"optimiser.epochs": 9})
        message = r"holds another study: in C, seed 0, optimiser\.epochs was 5, is 9; choose another --out"
        with pytest.raises(StoreError, match=message):
            Store.create_or_open(store.folder, other, manifest(), source)


def test_folders_that_cannot_hold_a_study(tmp_path: Path, small: StudyConfig, source: CorpusSource) -> None:
    file = tmp_path / "file"
    file.touch()
    for place in (file, file / "below"):
        with pytest.raises(StoreError, match=r"file' is a file, not a folder; choose another --out"):
            Store.create_or_open(place, small, manifest(), source)
        with pytest.raises(StoreError, match=r"is a file, not a folder"):
            Store.open(place)
    with pytest.raises(StoreError, match=r"holds no study but other files \(file\); choose an empty or new folder"):
        Store.create_or_open(tmp_path, small, manifest(), source)
    with pytest.raises(StoreError, match=r"holds no study \(no study\.json in it\); give the --out of a study"):
        Store.open(tmp_path)
    with pytest.raises(StoreError, match=r"no study at '.*none'"):
        Store.open(tmp_path / "none")


def test_a_store_begun_but_not_made_is_made(tmp_path: Path, small: StudyConfig, source: CorpusSource) -> None:
    with single_writer(tmp_path):
        (tmp_path / "corpus.json").write_text("{")
        (tmp_path / ".study.json.1.part").write_text("{")
        assert len(Store.create_or_open(tmp_path, small, manifest(), source).runs) == 6


@pytest.mark.parametrize("name", ["study.json", "corpus.json"])
def test_newer_and_damaged_stores_are_refused(store: Store, name: str) -> None:
    path = store.folder / name
    content = json.loads(unseal_json(path.read_bytes()))
    path.write_text(json.dumps({**content, "format": 2, "surprise": 1}))
    with pytest.raises(
        StoreError, match=rf"{name} has format 2, and this is Cello .*; install a newer Cello to read it"
    ):
        Store.open(store.folder)
    path.write_text(json.dumps({**content, "corpus": {"surprise": 1}, "bad": [], "study": {"surprise": 1}}))
    if name == "study.json":
        with pytest.raises(
            StoreError, match=r"another version of Cello than this .*unknown field `surprise`.*use the v"
        ):
            Store.open(store.folder)
    path.write_text(json.dumps(content)[:-9])
    with pytest.raises(StoreError, match=rf"{name} is damaged: .*; restore it, or start afresh with another --out"):
        Store.open(store.folder)


def test_reading_changes_nothing(store: Store) -> None:
    finish(store, store.runs[0])
    store.note("failed", store.runs[1].id, "why")
    store.folder.chmod(0o500)
    try:
        files = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in store.folder.rglob("*")}
        read = Store.open(store.folder)
        assert (len(read.results()), len(read.pending()), read.failures()[0].reason) == (1, 5, "why")
        assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in store.folder.rglob("*")} == files
    finally:
        store.folder.chmod(0o700)


def test_a_full_disk_while_noting_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match=r"is full \(\d+ MB free\); make room"):
        store.note("started", store.runs[0].id)


def test_the_corpus_is_described_with_its_bad_clips(tmp_path: Path, small: StudyConfig, source: CorpusSource) -> None:
    bad = BadClip(name="はい/x.wav", reason="all silence")
    Store.create_or_open(tmp_path, small, msgspec.structs.replace(manifest(), bad=(bad,)), source)
    corpus: CorpusSummary = Store.open(tmp_path).corpus
    assert (corpus.bad, corpus.labels, corpus.checksum) == ((bad,), ("nein", "да", "はい"), "a" * 64)
    assert corpus.splits["test"].clips_by_label == {"nein": 1, "да": 1, "はい": 1}
    assert (corpus.splits["train"].clips, corpus.splits["train"].speakers) == (3, 1)


def test_a_store_of_the_first_version_is_read_and_grows(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "assets" / "format_1", tmp_path / "out")
    store = Store.open(tmp_path / "out")
    assert [(run.row, run.column, run.seed) for run in store.results()] == [("A", "", 0)]
    assert [(failure.planned.seed, failure.reason) for failure in store.failures()] == [(1, "the loss is not finite")]
    assert [event.event for event in store.events()] == ["started", "finished", "failed"]
    assert list(store.predictions(store.results()[0])["target"]) == [0, 1, 2]
    wider = msgspec.structs.replace(store.study, seeds=(0, 1, 2))
    grown = Store.create_or_open(tmp_path / "out", wider, manifest(), store.header.source)
    assert ([run.seed for run in grown.results()], [run.seed for run in grown.pending()]) == ([0], [1, 2])
    # its file states no pooling, which was "last" by default when it was begun; and again once it has grown
    assert {run.config.model.pooling for run in grown.runs} == {"last"}
    assert grown.study.base == store.study.base
    again = Store.create_or_open(tmp_path / "out", wider, manifest(), store.header.source)
    assert again.runs == grown.runs


def test_another_pooling_than_a_study_was_begun_with_is_another_study(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "assets" / "format_1", tmp_path / "out")
    store = Store.open(tmp_path / "out")
    base = msgspec.structs.replace(store.study.base, model={**store.study.base.model, "readout": "attention"})
    stated = msgspec.structs.replace(store.study, base=base)
    with pytest.raises(StoreError, match=r"model\.pooling was 'last', is 'attention'; choose another --out"):
        Store.create_or_open(tmp_path / "out", stated, manifest(), store.header.source)


def test_a_new_study_pools_by_attention(tmp_path: Path, source: CorpusSource) -> None:
    study = parse_study('name = "x"\n[[rows]]\nname = "GRU"\nmodel.cell = "gru"\n', "f")
    store = Store.create_or_open(tmp_path, study, manifest(), source)
    assert store.runs[0].config.model.pooling == "attention"
    assert Store.create_or_open(tmp_path, study, manifest(), source).runs == store.runs


def test_a_failure_is_forgotten_when_the_run_starts_again_or_finishes(store: Store) -> None:
    first, second = store.runs[:2]
    for run in (first, second):
        append(store.folder / "journal.jsonl", Event(event="failed", run=run.id, time=0, pid=1, host="h", reason="r"))
    store.note("started", first.id)
    assert [failure.planned for failure in store.failures()] == [second]
    finish(store, second)
    assert store.failures() == []


def test_a_matched_study_keeps_its_reference_when_rows_are_added(tmp_path: Path, source: CorpusSource) -> None:
    head = 'name = "x"\nmatch = "parameters"\n'
    one, two, three = (f'[[rows]]\nname = "{name}"\nmodel.cell = "{name}"\n' for name in ("lstm", "gru", "rnn"))
    store = Store.create_or_open(tmp_path, parse_study(head + one + two, "f"), manifest(), source)
    before = {run.place: run for run in store.runs}
    first = parse_study(head + 'match_to = "lstm"\n' + three + one + two, "f")
    wider = Store.create_or_open(tmp_path, first, manifest(), source)
    hidden = {run.row: run.config.model.hidden for run in wider.runs}
    assert hidden["lstm"] == 64
    assert hidden["rnn"] > hidden["gru"] > 64
    assert before.items() <= {run.place: run for run in wider.runs}.items()
    with pytest.raises(StoreError, match=r"holds another study: its match_to is lstm, not rnn"):
        Store.create_or_open(tmp_path, parse_study(head + three + one, "f"), manifest(), source)
