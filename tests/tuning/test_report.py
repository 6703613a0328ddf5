"""A best setting that does not reach the tuned study, or a figure of the test clips, would undo the tuning."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cello.errors import StudyError
from cello.study.plan import plan
from cello.study.space import TuneConfig
from cello.study.store import CorpusSource
from cello.study.study_file import load_study, parse_study
from cello.training.config import CorpusRef
from cello.tuning import report
from cello.tuning.report import tuned_study, write_tuning
from cello.tuning.trials import Trial
from cello.tuning.tune import TuneHeader, Tuning

CORPUS = CorpusRef(name="tones", checksum="0" * 64)
STUDY = """
name = "t"
seeds = [0, 1]
[base.optimiser]
epochs = 30
[[columns]]
name = "40 ms"
[[rows]]
name = "GRU|1"
model.cell = "gru"
optimiser.learning_rate = 0.5
[[rows]]
name = "LSTM"
model.cell = "lstm"
"""


@pytest.fixture
def tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tuning:
    """Two trials of each row; those of the LSTM diverged. Importance is another file's."""
    monkeypatch.setattr(report, "importance", lambda trials, space, rows=(): {"model.dropout": 0.75})
    study = parse_study(STUDY, "t.toml")
    values = {"optimiser.learning_rate": 0.002, "optimiser.weight_decay": 1e-4, "model.dropout": 0.25}
    trials = [
        Trial(row="GRU|1", number=0, values=values, state="finished", accuracy=0.75),
        Trial(row="GRU|1", number=1, values={**values, "model.dropout": 0.0}, state="finished", accuracy=0.5),
        Trial(row="LSTM", number=0, values=values, state="diverged"),
    ]
    header = TuneHeader(
        study=study,
        tune=TuneConfig(trials=2),
        corpus=CORPUS,
        source=CorpusSource(spec="x"),
        rows=plan(msgspec.structs.replace(study, seeds=(0,)), CORPUS),
    )
    return Tuning(folder=tmp_path, header=header, trials=tuple(trials))


def test_the_tuned_study_has_the_best_values_and_is_else_the_same(tuning: Tuning) -> None:
    write_tuning(tuning)
    tuned, before = load_study(tuning.folder / "tuned.toml"), tuning.header.study
    assert (tuned.seeds, tuned.columns, tuned.base) == (before.seeds, before.columns, before.base)
    assert (before.protocol, tuned.protocol) == ("", "tuned")
    assert tuned.tuned is not None
    assert (tuned.tuned.trials, tuned.tuned.epochs, tuned.tuned.match) == (2, 30, "width")
    assert tuned.tuned.space == tuning.header.tune.space
    gru, lstm = tuned.rows
    assert gru.optimiser == {"learning_rate": 0.002, "weight_decay": 1e-4}
    assert gru.model == {"cell": "gru", "dropout": 0.25}
    assert lstm == before.rows[1]
    assert {run.config.optimiser.epochs for run in plan(tuned, CORPUS)} == {30}


def test_a_protocol_that_is_stated_stands_before_what_was_done(tuning: Tuning) -> None:
    stated = msgspec.structs.replace(tuning.header.study, protocol="mine")
    header = msgspec.structs.replace(tuning.header, study=stated)
    assert tuned_study(msgspec.structs.replace(tuning, header=header)).protocol == "mine-tuned"


def test_every_trial_and_what_was_asked_is_told_and_nothing_of_the_test_clips(tuning: Tuning) -> None:
    paths = {path.name: path.read_text() for path in write_tuning(tuning)}
    trials = [msgspec.json.decode(line, type=Trial) for line in paths["trials.jsonl"].splitlines()]
    assert tuple(trials) == tuning.trials
    facts = msgspec.json.decode(paths["tuning.json"])
    assert [row["best"] and row["best"]["accuracy"] for row in facts["rows"]] == [0.75, None]
    assert (facts["trials"], facts["epochs"], facts["column"]) == (2, 30, "40 ms")
    assert "| GRU\\|1 | 75.00 % | 0 | 0 | 0.25 | 0.002 | 0.0001 |" in paths["tuning.md"]
    assert "| LSTM | diverged | none | 1 |" in paths["tuning.md"]
    assert "| optimiser.learning_rate | 0.0001 to 0.01, logarithmic |" in paths["tuning.md"]
    assert "| all | 0.75 |" in paths["tuning.md"]
    assert "all trials trained without evaluating the test set" in paths["tuning.md"]


def test_a_missing_library_leaves_only_the_importance_out(tuning: Tuning, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise StudyError("the importance of settings needs scikit-learn; give: pip install 'cello-rnn[tune]'")

    monkeypatch.setattr(report, "importance", missing)
    paths = {path.name: path.read_text() for path in write_tuning(tuning)}
    assert "Not computed: the importance of settings needs scikit-learn" in paths["tuning.md"]
    assert load_study(tuning.folder / "tuned.toml").rows[0].model["dropout"] == 0.25
