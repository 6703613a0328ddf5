"""One bad run, a killed worker or a stopped command must cost no other run, and no run twice."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fake_training import manifest, open_fake, timeless, train
from small_study import SMALL

from cello.audio.corpus import Corpus
from cello.errors import StoreError, StudyError
from cello.execution import worker
from cello.execution.run import check_all_finished, run_study
from cello.execution.task import FailureRecord, Setup
from cello.study.config import StudyConfig
from cello.study.folder import single_writer
from cello.study.overrides import override
from cello.study.plan import PlannedRun
from cello.study.store import CorpusSource, Store
from cello.study.study_file import parse_study
from cello.training.config import CorpusRef

HERE = Path(__file__).parents[1] / "study"
FAKE = "fake_training:train"
SCRIPT = """
import sys
from pathlib import Path
from cello.errors import CelloError
from cello.study.study_file import load_study
from cello.execution.run import run_study
from cello.study.store import CorpusSource

source = CorpusSource(spec="fake", opener="fake_training:open_fake")
try:
    run_study(load_study(sys.argv[1]), source, Path(sys.argv[2]), workers=2, train="fake_training:train")
except KeyboardInterrupt as stop:
    sys.exit(f"interrupted: {stop}")
except CelloError as error:
    sys.exit(f"error: {error}")
"""


def command(folder: Path, study: str = SMALL, death: str = "0 0 nobody") -> subprocess.CompletedProcess[str]:
    """The study as a user's script in a process group of its own; returns when every process of it is gone."""
    file, script = folder / "small.toml", folder / "script.py"
    file.write_text(study)
    script.write_text(SCRIPT)
    environment = {**os.environ, "FAKE_DEATH": death, "PYTHONPATH": str(HERE), "PYTHONWARNINGS": "error"}
    arguments = [sys.executable, str(script), str(file), str(folder / "out")]
    return subprocess.run(
        arguments, env=environment, capture_output=True, text=True, timeout=60, start_new_session=True, check=False
    )


def unbroken(run: PlannedRun, folder: Path) -> object:
    """What the run gives when nothing interrupts it."""
    folder.mkdir()
    return timeless(train(run.config, Corpus(manifest(), np.zeros(1, np.float32)), folder))


def check_whole(folder: Path) -> Store:
    """Every run is there once, with the numbers of an unbroken study, and the journal agrees."""
    store = Store.open(folder / "out")
    assert len({run.id for run in store.runs}) == len(store.results()) == 6
    assert store.pending() == []
    for stored in store.results():
        assert timeless(stored.result) == unbroken(stored.planned, folder / stored.id)
    finished = Counter(event.run for event in store.events() if event.event == "finished")
    assert finished == {run.id: 1 for run in store.runs}
    return store


@pytest.mark.parametrize("who", ["main", "worker", "ctrl-c"])
def test_stopped_in_the_middle_the_same_command_goes_on_to_the_same_results(
    who: str, tmp_path: Path, small: StudyConfig, source: CorpusSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = command(tmp_path, death=f"2 3 {who}")
    store = Store.open(tmp_path / "out")
    if who == "worker":
        assert first.returncode == 0
        starts = Counter(event.run for event in store.events() if event.event == "started")
        assert max(starts.values()) > 1
    elif who == "main":
        assert first.returncode == -9
        assert store.pending()
    else:
        assert first.returncode == 1
        message = first.stderr.splitlines()[-1]
        assert message.startswith(f"interrupted: stopped: {len(store.results())} of 6 runs in '{tmp_path / 'out'}' are")
        assert message.endswith("keep their last whole epoch; give the same command again to go on")
        assert "Traceback" not in first.stderr
    if who == "main":
        second = command(tmp_path)
        assert (second.returncode, second.stdout) == (0, "")
        assert all(
            line.startswith(("[", "0 of", "1 of", "2 of", "3 of", "4 of", "5 of"))
            for line in second.stderr.splitlines()
        )
    else:  # in this process, which has loaded torch
        monkeypatch.syspath_prepend(str(HERE))
        run_study(small, source, tmp_path / "out", workers=2, train=FAKE, progress=False)
    check_whole(tmp_path)


def test_failing_runs_are_named_and_stop_no_other(tmp_path: Path) -> None:
    """In one study: a run that raises what a user can fix, one with a bug, one whose worker dies each time."""
    rows = "".join(f'[[rows]]\nname = "{h}"\n[rows.model]\nhidden = {h}\n' for h in (1, 12, 13, 15))
    study = 'name = "bad"\n[base.optimiser]\nepochs = 2\nlearning_rate = 0.01\n' + rows
    done = command(tmp_path, study)
    assert done.returncode == 1
    store = Store.open(tmp_path / "out")
    assert [run.row for run in store.results()] == ["1"]
    reasons = {failure.planned.row: failure.reason for failure in store.failures()}
    assert reasons["13"] == "the loss is not finite; lower the learning rate"
    assert reasons["12"].startswith("ValueError: a bug of ours; its traceback is in ")
    assert "in misbehave" in Path(reasons["12"].split(" is in ")[1]).read_text()
    assert reasons["15"] == "its worker process died 4 times (killed, out of memory or crashed)"
    assert f"error: 3 of 4 runs failed, the others are finished in '{tmp_path / 'out'}':\n" in done.stderr
    assert all(f"  {row}, seed 0: {reason}\n" in done.stderr for row, reason in reasons.items())
    assert done.stderr.endswith("Give the same command again to run these again.\n")


def test_runs_that_fail_alike_are_named_together(
    tmp_path: Path, small: StudyConfig, source: CorpusSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    doomed = override(small, seeds=range(3), settings={"model.hidden": 13})
    with pytest.raises(StudyError) as told:
        run_study(doomed, source, tmp_path / "out", workers=1, train=FAKE, progress=False)
    first, *listed, last = str(told.value).splitlines()
    assert first == f"3 of 3 runs failed in '{tmp_path / 'out'}':"
    assert listed == ["  A, seed 0; A, seed 1; A, seed 2: the loss is not finite; lower the learning rate"]
    assert last.startswith("Give the same command again")


@pytest.mark.parametrize(
    ("diverging", "advice"),
    [
        (2, "They would diverge again: change their settings, and choose another --out."),
        (
            1,
            "again. The 1 that diverged would diverge again: change their settings, and choose another --out.",
        ),
        (0, "Give the same command again to run these again."),
    ],
)
def test_runs_that_diverged_are_not_said_to_be_worth_another_try(
    tmp_path: Path, small: StudyConfig, source: CorpusSource, diverging: int, advice: str
) -> None:
    store = Store.create_or_open(tmp_path / "out", small, manifest(), source)
    for number, run in enumerate(store.runs[:2]):
        store.run_folder(run).mkdir(parents=True)
        failure = FailureRecord(session="a", reason=f"reason {number}", diverged=number < diverging)
        (store.run_folder(run) / "failure.json").write_bytes(msgspec.json.encode(failure))
        store.note("failed", run.id, failure.reason)
    with pytest.raises(StudyError) as told:
        check_all_finished(store, list(store.runs[:2]))
    assert str(told.value).endswith(advice)


def test_a_study_in_this_process_grows_and_is_not_run_twice(
    tmp_path: Path, small: StudyConfig, source: CorpusSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    out = tmp_path / "out"
    one = override(small, seeds=[0])
    with socket.socket() as dask_port:
        with suppress(OSError):  # if another process has it, so much the better
            dask_port.bind(("127.0.0.1", 8787))
            dask_port.listen()
        store = run_study(one, source, out, workers=2, train=FAKE, progress=False)
    assert len(store.results()) == 3
    before = store.events()
    assert run_study(one, source, out, train=FAKE, progress=False).events() == before
    damaged = store.run_folder(store.runs[0]) / "result.json"
    damaged.write_bytes(b"{")
    with pytest.warns(UserWarning, match=r"^C, seed 0 \(\w+\): its result\.json is damaged: .*trains the run again$"):
        store = run_study(small, source, out, workers=1, train=FAKE, progress=False)
    assert len(store.results()) == 6
    assert damaged.with_name("result.json.unusable").read_bytes() == b"{"


def test_what_cannot_start_says_why_before_any_work(tmp_path: Path, small: StudyConfig, source: CorpusSource) -> None:
    with pytest.raises(StudyError, match=r"workers=0 is invalid: it must be at least 1"):
        run_study(small, source, tmp_path / "out", workers=0)
    with pytest.raises(StudyError, match="has no rows"):
        run_study(StudyConfig(name="x"), source, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    with single_writer(tmp_path), pytest.raises(StoreError, match=rf"another process \(pid {os.getpid()}\)"):
        run_study(small, source, tmp_path)
    bad = CorpusSource(spec="x", opener="cello.audio.nothing:open")
    with pytest.raises(
        StudyError, match=r"'cello\.audio\.nothing:open' cannot be imported: .*; write it as module:func"
    ):
        run_study(small, bad, tmp_path)


def test_a_corpus_that_changed_under_the_study_is_refused(
    tmp_path: Path, small: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    source = CorpusSource(spec="fake", opener="fake_training:open_changing", options={"main": os.getpid()})
    with pytest.raises(
        StudyError, match=r"corpus 'fake' has checksum bbbbbbbbbbbb in this worker, but .* aaaaaaaaaaaa"
    ):
        run_study(override(small, seeds=[0]), source, tmp_path, workers=1, train=FAKE, progress=False)


def test_a_row_that_cannot_be_matched_closely_is_warned_of(tmp_path: Path, source: CorpusSource) -> None:
    rows = "".join(f'[[rows]]\nname = "{cell}"\nmodel.cell = "{cell}"\n' for cell in ("lstm", "gru"))
    study = parse_study(f'name = "x"\nmatch = "parameters"\n[base.model]\nhidden = 2\n{rows}', "f")
    fast = override(study, settings={"optimiser.epochs": 1, "optimiser.learning_rate": 1e-3})
    with pytest.warns(UserWarning, match=r"row 'gru': the nearest to 'lstm' in parameters is hidden=3, .*% more"):
        store = run_study(fast, source, tmp_path, workers=1, train=FAKE, progress=False)
    assert {run.row: run.result.config.model.hidden for run in store.results()} == {"lstm": 2, "gru": 3}


def test_a_second_study_in_this_process_has_the_corpus_as_it_is_now(
    tmp_path: Path, small: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook, where a clip is added to a folder between two studies."""
    monkeypatch.syspath_prepend(str(HERE))
    folder = tmp_path / "clips"
    one = override(small, seeds=[0])
    seen = []
    for checksum in ("a", "b"):
        folder.write_text(checksum * 64)
        source = CorpusSource(spec=str(folder), opener="fake_training:open_stated")
        store = run_study(one, source, tmp_path / checksum, workers=1, train=FAKE, progress=False)
        seen += [store.header.corpus.checksum[0], *(run.result.config.corpus.checksum[0] for run in store.results())]
    assert seen == ["a"] * 4 + ["b"] * 4


@pytest.mark.parametrize(("seconds", "opened"), [("aaa", 1), ("aab", 2), ("aba", 3)])
def test_a_worker_keeps_a_corpus_while_it_is_asked_for(
    seconds: str, opened: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, opens = tmp_path / "clips", []
    worker._kept_corpus.cache_clear()
    monkeypatch.setattr(worker, "open_source", lambda *_: opens.append(1) or open_fake("", checksum=folder.read_text()))
    for letter in seconds:
        folder.write_text(letter * 64)
        reference = CorpusRef(name="fake", checksum=letter * 64)
        kept = worker._corpus(Setup(source=CorpusSource(spec="x"), corpus=reference, cache=None, train="", session="s"))
        assert kept.manifest.checksum == letter * 64
    assert len(opens) == opened
