"""What hurts: a night's study of which every run fails for a reason that was plain before the first one began."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from fake_training import manifest

from cello.audio.corpus import Corpus
from cello.errors import StudyError
from cello.execution.run import run_study
from cello.study.compatibility import check_clips, check_windows
from cello.study.plan import plan
from cello.study.store import CorpusSource
from cello.study.study_file import parse_study
from cello.training.config import CorpusRef

REF = CorpusRef(name="fake", checksum="a" * 64)
WINDOWS = "".join(f'[[columns]]\nname = "{w} ms"\n[columns.features]\nwindow_ms = {w}\n' for w in (20, 80, 120))
ROWS = "".join(f'[[rows]]\nname = "{name}"\n' for name in ("A", "B"))


def corpus(*milliseconds: float) -> Corpus:
    """Clips of these lengths at 16 kHz, all a second long but the first ones."""
    whole = manifest()
    lengths = [round(16 * ms) for ms in milliseconds]
    clips = tuple(
        msgspec.structs.replace(clip, samples=lengths[i] if i < len(lengths) else 16_000)
        for i, clip in enumerate(whole.clips)
    )
    return Corpus(msgspec.structs.replace(whole, clips=clips), np.zeros(1, np.float32))


def refusal(text: str, clips: Corpus) -> str:
    study = parse_study(text, "f")
    with pytest.raises(StudyError) as told:
        check_windows(study.name, plan(study, REF), clips)
    return str(told.value)


def test_a_few_short_clips_are_named_with_the_columns_they_are_too_short_for() -> None:
    assert refusal('name = "x"\n' + WINDOWS + ROWS, corpus(1000, 100.06, 75.19, 300)) == (
        "study 'x' cannot run on corpus 'fake': 1 of 9 clips are shorter than one window of features.window_ms=80 "
        "(column '80 ms'); 2 of 9 clips are shorter than one window of features.window_ms=120 (column '120 ms'); "
        "shortest first: はい/train.wav (75.19 ms), да/train.wav (100.1 ms); use windows of at most 75.1 ms, or move "
        "the clips that are too short out of the corpus"
    )


def test_only_the_rows_that_ask_for_it_are_named() -> None:
    rows = 'name = "x"\n' + ROWS + "[rows.features]\nwindow_ms = 50.0\n"
    assert "features.window_ms=50 (row 'B');" in refusal(rows, corpus(45))
    assert "features.window_ms=90 (row 'B', column 'c');" in refusal(
        'name = "x"\n[[columns]]\nname = "c"\n' + ROWS + "[rows.features]\nwindow_ms = 90\n", corpus(45)
    )
    many = 'name = "x"\n' + "".join(f'[[rows]]\nname = "{n}"\n' for n in range(9))
    assert "(row '0'; row '1'; row '2' and 6 more)" in refusal(many, corpus(10, 20, 30, 35))


def test_a_window_as_long_as_the_shortest_clip_fits() -> None:
    study = parse_study('name = "x"\n' + WINDOWS + ROWS, "f")
    check_windows("x", plan(study, REF), corpus(120))


def test_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    source = CorpusSource(spec="fake", opener="fake_training:open_fake")
    study = parse_study('name = "x"\n[base.features]\nwindow_ms = 1000.1\n' + ROWS, "f")
    with pytest.raises(StudyError, match=r"9 of 9 clips are shorter .* use windows of at most 1000 ms"):
        run_study(study, source, tmp_path / "out", workers=1, train="fake_training:train", progress=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["lock"]


def test_more_clips_than_a_label_has_are_refused_before_anything_runs() -> None:
    columns = "".join(f'[[columns]]\nname = "{n}"\ndata.clips_per_label = {n}\n' for n in (1, 2, 3))
    study = parse_study('name = "x"\n' + columns + '[[columns]]\nname = "all"\n' + ROWS, "f")
    runs = plan(study, REF)
    with pytest.raises(StudyError) as told:
        check_clips("x", runs, corpus())
    assert str(told.value) == (
        "study 'x' cannot run on corpus 'fake': data.clips_per_label = 2, 3 (column '3'; column '2'), but label 'nein' "
        "has 1 training clips; give at most 1, or leave it out for all clips"
    )
    check_clips("x", [run for run in runs if run.column in ("1", "all")], corpus())
