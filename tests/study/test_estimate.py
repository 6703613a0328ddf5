"""What hurts: a dry run that says something else than what the run then does, or that takes as long."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from fake_training import epoch_of, manifest, result_of
from rich.console import Console

from cello.audio.corpus import Manifest
from cello.errors import StoreError
from cello.study.config import StudyConfig
from cello.study.estimate import StudyEstimate, far_off, look_ahead
from cello.study.estimate_table import show, summary
from cello.study.overrides import override
from cello.study.plan import plan
from cello.study.store import CorpusSource, Store
from cello.study.study_file import parse_study
from cello.training.config import CorpusRef

SOURCE = CorpusSource(spec="fake", opener="fake_training:open_fake")


def closed() -> Manifest:
    raise AssertionError("the corpus was opened")


def finish(store: Store, number: int, seconds: float) -> None:
    run = store.runs[number]
    result = result_of(run.config, [epoch_of(run.config, 1, 0.0)])
    store.run_folder(run).mkdir(parents=True)
    text = msgspec.json.encode(msgspec.structs.replace(result, total_seconds=seconds))
    (store.run_folder(run) / "result.json").write_bytes(text)


def shown(estimate: StudyEstimate) -> str:
    out = io.StringIO()
    show(estimate, Console(file=out, width=120))
    return out.getvalue()


def test_nothing_is_done_or_written_or_opened_before_a_study_has_begun(small: StudyConfig, tmp_path: Path) -> None:
    ahead = look_ahead(small, SOURCE, tmp_path / "new", 2, closed)
    assert (ahead.runs, ahead.done, ahead.seconds_left, ahead.warnings) == (6, 0, None, ())
    assert [(p.row, p.runs, p.hidden, p.parameters) for p in ahead.places] == [
        ("A", 2, 1, None),
        ("B", 2, 2, None),
        ("C", 2, 3, None),
    ]
    assert list(tmp_path.iterdir()) == []
    assert summary(ahead).startswith("0 of 6 runs are finished, 6 to do on 2 workers; how long")


def test_what_is_done_and_what_the_rest_takes_follow_the_store(small: StudyConfig, tmp_path: Path) -> None:
    store = Store.create_or_open(tmp_path, small, manifest(), SOURCE)
    assert [run.row for run in store.runs[:3]] == ["C", "B", "A"]
    finish(store, 0, seconds=100.0)
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    ahead = look_ahead(small, SOURCE, tmp_path, 2, closed)
    assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before
    times = {place.row: place.seconds for place in ahead.places}
    assert (ahead.runs, ahead.done, times["C"]) == (6, 1, 100.0)
    assert times["A"] is not None
    assert times["B"] is not None
    assert times["A"] < times["B"] < 100
    left = 100.0 + 2 * times["A"] + 2 * times["B"]
    assert ahead.seconds_left == pytest.approx(left / 2)
    assert look_ahead(small, SOURCE, tmp_path, 99, closed).seconds_left == 100.0
    assert all(place.parameters for place in ahead.places)


def test_a_finished_study_has_nothing_to_do(small: StudyConfig, tmp_path: Path) -> None:
    store = Store.create_or_open(tmp_path, small, manifest(), SOURCE)
    for number in range(6):
        finish(store, number, seconds=1.0)
    ahead = look_ahead(small, SOURCE, tmp_path, 2, closed)
    assert (ahead.done, ahead.seconds_left) == (6, 0.0)
    assert summary(ahead) == "6 of 6 runs are finished, 0 to do; nothing would run"
    more = look_ahead(override(small, seeds=range(3)), SOURCE, tmp_path, 2, closed)
    assert (more.runs, more.done, more.seconds_left) == (9, 6, pytest.approx(1.5))


def test_what_the_run_would_refuse_is_refused(small: StudyConfig, tmp_path: Path) -> None:
    Store.create_or_open(tmp_path / "out", small, manifest(), SOURCE)
    other = override(small, settings={"optimiser.epochs": 9})
    wide = override(small, settings={"model.hidden": 9})
    with pytest.raises(StoreError, match=r"holds another study: in C, seed 0, optimiser\.epochs was 5, is 9"):
        look_ahead(other, SOURCE, tmp_path / "out", 1, closed)
    with pytest.raises(StoreError, match=r"its match is width, not flops"):
        look_ahead(override(wide, match="flops"), SOURCE, tmp_path / "out", 1, closed)
    with pytest.raises(StoreError, match=r"its corpus is fake \(a{12}\), not fake \(b{12}\)"):
        look_ahead(small, CorpusSource(spec="else"), tmp_path / "out", 1, lambda: manifest("b" * 64))
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file' is a file, not a folder"):
        look_ahead(small, SOURCE, tmp_path / "file", 1, closed)


MATCHED = 'name = "x"\nmatch = "parameters"\n[base.model]\nhidden = {}\nreadout = "last"\n' + (
    '[[rows]]\nname = "L"\nmodel.cell = "lstm"\n[[rows]]\nname = "G"\nmodel.cell = "gru"\n'
)


def test_sizes_of_a_matched_study_are_those_of_its_runs(tmp_path: Path) -> None:
    study = parse_study(MATCHED.format(64), "f")
    ahead = look_ahead(study, SOURCE, tmp_path / "new", 1, manifest)
    runs = {run.row: run.config.model.hidden for run in plan(study, CorpusRef(name="x", checksum="0"), 3)}
    assert {place.row: place.hidden for place in ahead.places} == runs
    lstm, gru = ahead.places
    assert (lstm.off, gru.off) == (0.0, pytest.approx((gru.parameters or 0) / (lstm.parameters or 1) - 1))
    assert 0 < abs(gru.off) < 0.05
    text = shown(ahead)
    assert f"{gru.parameters:,}" in text
    assert f"{gru.off:+.1%}" in text
    assert "beside L's, matched by parameters" in text


def test_a_row_that_stays_far_off_is_named(tmp_path: Path) -> None:
    ahead = look_ahead(parse_study(MATCHED.format(2), "f"), SOURCE, tmp_path / "new", 1, manifest)
    assert ahead.warnings == (
        "study 'x', row 'G': the nearest to 'L' in parameters is hidden=3, 18.3% more; compare it with care, or give "
        "'L' more hidden units",
    )
    assert f"warning: {ahead.warnings[0]}" in shown(ahead)
    near = parse_study(MATCHED.format(64), "f")
    assert far_off(near, plan(near, CorpusRef(name="x", checksum="0"), 3), 3) == []


def test_ten_thousand_runs_are_told_of_in_two_seconds(tmp_path: Path) -> None:
    rows = "".join(f'[[rows]]\nname = "{k}"\nmodel.cell = "gru"\noptimiser.epochs = {k + 1}\n' for k in range(100))
    study = parse_study(f'name = "x"\nmatch = "parameters"\nseeds = {list(range(100))}\n{rows}', "f")
    store = Store.create_or_open(tmp_path, study, manifest(), SOURCE)
    for number in range(0, 10_000, 2):
        finish(store, number, seconds=1.0)
    began = time.process_time()
    ahead = look_ahead(study, SOURCE, tmp_path, 2, closed)
    shown(ahead)
    assert time.process_time() - began < 2
    assert (ahead.runs, ahead.done) == (10_000, 5000)


def test_it_comes_without_torch_and_without_a_scheduler() -> None:
    heavy = "{'torch', 'distributed'} & set(sys.modules)"
    code = f"import sys, cello.study.estimate, cello.study.estimate_table; sys.exit(str({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
