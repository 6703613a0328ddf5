"""What hurts: a wrong clip without its name, a speaker's accuracy of other clips, a table without end."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cello.report import single
from cello.report.clips import SPEAKER, Group, PerClipCorrectness, _groups
from cello.report.formats import csv as csv_format
from cello.report.formats import latex, markdown
from cello.report.results import StudyResults, load_results
from cello.report.tables import best_cell
from cello.study.corpus_file import write_corpus
from cello.study.correctness import answers
from cello.study.store import Store

Page = Callable[[StudyResults], str]
Fill = Callable[[Path, StudyResults], Store]


@pytest.fixture
def clips(foreign: StudyResults) -> PerClipCorrectness:
    assert foreign.clips is not None
    return foreign.clips


def test_speakers_have_the_accuracy_of_their_own_clips(tmp_path: Path, small: StudyResults, fill: Fill) -> None:
    store = fill(tmp_path / "s", small)
    found = load_results(store.folder)
    assert found.clips is not None
    assert found.clips.best == best_cell(found)
    row, column = found.clips.best
    every = {name: np.concatenate(list(answers(store, name).correct.values())) for name in small.columns}
    right = np.concatenate(list(every.values())).mean(axis=0)
    best = answers(store, column).correct[row].mean(axis=0)
    speakers = np.array([store.corpus.speaker_names[k] for k in store.corpus.test_speakers])
    groups = found.clips.by("speaker")
    assert len(groups) == len(set(speakers))
    for group in groups:
        own = speakers == group.value
        assert group.clips == own.sum()
        assert group.every == pytest.approx(right[own].mean())
        assert group.best == pytest.approx(best[own].mean())
    assert [group.every for group in groups] == sorted(group.every for group in groups)


def test_silence_that_nobody_speaks_is_in_no_speakers_row() -> None:
    right = np.array([0.0, 1.0, 0.5])
    (found,) = _groups(SPEAKER, ["", "ann", "ann"], right, right)
    assert (found.value, found.clips, found.best) == ("ann", 2, 0.75)
    assert [(group.value, group.clips) for group in _groups("room", ["", "a", "a"], right, right)] == [
        ("", 1),
        ("a", 2),
    ]


def test_every_column_of_the_table_groups_the_clips(clips: PerClipCorrectness) -> None:
    assert {group.by for group in clips.groups} == {"speaker", "ward", "room"}
    assert [group.value for group in sorted(clips.by("ward"), key=lambda group: group.value)] == ["ward 0", "ward 1"]
    overall = 1 - sum(clip.wrong for clip in clips.clips) / sum(clip.runs for clip in clips.clips)
    for by in ("ward", "room"):
        groups = clips.by(by)
        assert sum(g.every * g.clips for g in groups) / len(clips.clips) == pytest.approx(overall)


def test_a_column_that_groups_nothing_has_no_table(tmp_path: Path, small: StudyResults, fill: Fill) -> None:
    store = fill(tmp_path / "s", small)
    n = len(store.corpus.test_names)
    columns = {"id": tuple(map(str, range(n))), "site": ("one",) * n}
    write_corpus(store.folder, msgspec.structs.replace(store.corpus, columns=columns))
    found = load_results(store.folder).clips
    assert found is not None
    assert {group.by for group in found.groups} == {"speaker"}
    assert found.clips[3].values == ("3", "one")


def test_the_clips_most_often_wrong_stand_by_name_in_every_format(
    foreign: StudyResults, clips: PerClipCorrectness, words: Page
) -> None:
    worst = clips.wrong()[0]
    assert worst.wrong == max(clip.wrong for clip in clips.clips)
    assert worst.taken_for != worst.label
    assert worst.taken <= worst.wrong <= worst.runs == len(foreign.runs)
    for text in (markdown.report(foreign), words(foreign), csv_format.clips(foreign)):
        assert worst.name in text
    table = single.tables(foreign)[-1]
    assert table.title == "Clips most often wrong"
    assert table.rows[0] == (worst.name, worst.label, worst.taken_for, f"{100 * worst.share:.0f}")


def test_long_tables_are_cut_and_the_csv_has_all(foreign: StudyResults, clips: PerClipCorrectness) -> None:
    room = next(table for table in single.tables(foreign) if table.title == "Accuracy by room")
    assert len(room.rows) == single.MOST_ROWS
    assert "The 30 least accurate of 40 stand here. All stand in groups.csv and report.json." in room.note
    groups = list(csv.DictReader(io.StringIO(csv_format.groups(foreign))))
    assert len(groups) == len(clips.groups)
    rows = list(csv.DictReader(io.StringIO(csv_format.clips(foreign))))
    assert len(rows) == len(clips.clips)
    assert {row["column.ward"] for row in rows} == {"ward 0", "ward 1"}


def test_speakers_of_few_clips_are_in_no_table_and_that_is_said(
    foreign: StudyResults, clips: PerClipCorrectness
) -> None:
    def of(*sizes: int) -> StudyResults:
        groups = tuple(
            Group(by="speaker", value=f"who {k}", clips=n, best=0.0, every=0.1 * k) for k, n in enumerate(sizes)
        )
        return msgspec.structs.replace(foreign, clips=msgspec.structs.replace(clips, groups=groups))

    speakers, wrong = single.tables(of(1, 2, 4, 5, 40))
    assert [row[0] for row in speakers.rows] == ["who 3", "who 4"]
    assert speakers.note.endswith(" Left out: 3 with fewer than 5 test clips. All stand in groups.csv and report.json.")
    assert single.tables(of(1, 2, 4)) == (wrong,)
    assert "Left out" not in single.tables(of(5, 6))[0].note


def test_a_store_of_before_reports_without_single_clips(tmp_path: Path, small: StudyResults, fill: Fill) -> None:
    store = fill(tmp_path / "s", small)
    older = msgspec.structs.replace(store.corpus, test_names=(), speaker_names=())
    write_corpus(store.folder, older)
    found = load_results(store.folder)
    assert found.clips is None
    assert single.tables(found) == ()
    assert csv_format.clips(found) == csv_format.groups(found) == ""
    assert "By speaker and clip" not in markdown.report(found)
    assert found.comparisons == small.comparisons


def test_the_equations_of_own_cells_stand_in_the_report(foreign: StudyResults, words: Page) -> None:
    for text in (markdown.report(foreign), words(foreign)):
        assert "Cells of this study’s own" in text
        assert "h[t] = x[t] * b" in text
    assert "\\begin{equation*}\nh_{t} &= x_{t} b\n\\end{equation*}" in latex.report(foreign)
    assert "amsmath" not in latex.report(msgspec.structs.replace(foreign, own_cells=()))
