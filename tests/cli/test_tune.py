"""What hurts: a setting of --set that no trial gets, and a next command that trains on another corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cello.cli.main import main
from cello.study.config import StudyConfig
from cello.study.plan import plan
from cello.study.space import TuneConfig
from cello.study.store import CorpusSource
from cello.training.config import CorpusRef
from cello.tuning.tune import TuneHeader, Tuning

pytest.importorskip("optuna")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[StudyConfig]:
    """The studies that are tuned; nothing is trained and no corpus opened."""
    seen: list[StudyConfig] = []

    def tuned(study: StudyConfig, tune: TuneConfig, source: CorpusSource, out: Path, **_: Any) -> Tuning:
        seen.append(study)
        reference = CorpusRef(name="x", checksum="0" * 64)
        header = TuneHeader(study=study, tune=tune, corpus=reference, source=source, rows=plan(study, reference))
        return Tuning(folder=out, header=header, trials=())

    monkeypatch.setattr("cello.cli.tune.open_sound", lambda *_: None)
    monkeypatch.setattr("cello.tuning.tune.run_tuning", tuned)
    monkeypatch.setattr("cello.tuning.report.write_tuning", lambda tuning: [])
    return seen


@pytest.mark.filterwarnings("default")
def test_set_reaches_every_trial_and_says_what_it_replaces(
    asked: list[StudyConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["tune", "gates", "--set", "model.hidden=24", "--set", "features.window_ms=30"]
    assert main([*arguments, "--corpus", "folder:clips", "--out", str(tmp_path)]) == 0
    (study,) = asked
    runs = plan(study, CorpusRef(name="x", checksum="0" * 64))
    assert {(run.config.model.hidden, run.config.features.window_ms) for run in runs} == {(24, 30.0)}
    printed = capsys.readouterr()
    assert "features.window_ms = 30 replaces what the study states in column '40 ms' (40)" in printed.err
    assert printed.out.rstrip().endswith("--corpus folder:clips")


def test_what_comes_next_is_a_study_of_the_same_clips(
    asked: list[StudyConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "gates", "--table", str(tmp_path / "clips.csv"), "--out", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"--corpus folder:{tmp_path}, with the flags that say the same of the clips" in said
