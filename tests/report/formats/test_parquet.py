"""What hurts: an exported table that says something else than the store, or types that other programs trip over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from cello.cli.main import main
from cello.errors import ReportError, StoreError
from cello.report.formats import parquet
from cello.report.formats.parquet import write_parquet
from cello.report.results import Run, StudyResults
from cello.study.store import Store
from cello.training.result import Epoch

Fill = Callable[[Path, StudyResults], Store]
Without = Callable[[StudyResults, Callable[[Run], bool]], StudyResults]


@pytest.fixture
def arrow() -> Any:
    return pytest.importorskip("pyarrow.parquet")


def add_probabilities(store: Store) -> None:
    for run in store.results():
        arrays = store.predictions(run)
        sure = arrays["prediction_probability"]
        np.savez(store.run_folder(run) / "predictions.npz", **arrays, target_probability=sure / 2)


def test_every_run_and_epoch_is_a_row_with_what_the_store_says(arrow: Any, stored: Path, tmp_path: Path) -> None:
    paths = write_parquet(stored, tmp_path / "out")
    assert [path.name for path in paths] == ["runs.parquet", "epochs.parquet"]
    runs, epochs = (arrow.read_table(path).to_pylist() for path in paths)
    results = Store.open(stored).results()
    assert len(runs) == len(results) == 8
    assert len(epochs) == sum(len(run.result.history) for run in results)
    for row, run in zip(runs, results, strict=True):
        assert (row["row"], row["column"], row["seed"], row["run"]) == (run.row, run.column, run.seed, run.id)
        assert row["test_accuracy"] == run.result.test.accuracy
        assert row["config.features.window_ms"] == run.result.config.features.window_ms
        assert row["config.features.hop_ms"] is None
        assert row["config.model.cell"] == run.result.config.model.cell
        assert row["hardware.cpu"] == "Example CPU 3 GHz"
        assert row["confusion"] == [list(line) for line in run.result.confusion]
        assert row["conditions"] == []
        own = [epoch for epoch in epochs if epoch["run"] == run.id]
        assert [Epoch(**{k: e[k] for k in Epoch.__struct_fields__}) for e in own] == list(run.result.history)


def test_a_setting_that_no_run_states_keeps_its_type(arrow: Any, stored: Path, tmp_path: Path) -> None:
    schema = arrow.read_schema(write_parquet(stored, tmp_path / "out")[0])
    kinds = {name: str(schema.field(name).type) for name in schema.names}
    assert kinds["config.features.hop_ms"] == "double"
    assert kinds["config.data.clips_per_label"] == "int64"
    assert kinds["config.data.test_snr_db"].startswith("list<")
    assert kinds["config.model.bidirectional"] == "bool"
    assert kinds["config.model.readout"] == "string"
    assert schema.metadata[b"study"] == b"windows"
    assert schema.metadata[b"corpus"] == b"ab" * 32


def test_predictions_are_a_row_a_clip_with_its_speaker(
    arrow: Any, tmp_path: Path, small: StudyResults, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "PREDICTED_AT_A_TIME", 3)
    store = fill(tmp_path / "s", small)
    add_probabilities(store)
    table = arrow.read_table(write_parquet(store.folder, tmp_path / "out", predictions=True)[2])
    clips = small.runs[0].result.test.clips
    assert len(table) == 8 * clips
    run = store.results()[5]
    own = table.slice(5 * clips, clips).to_pydict()
    assert set(own["run"]) == {run.id}
    assert own["clip"] == list(range(clips))
    assert own["prediction"] == store.predictions(run)["prediction"].tolist()
    assert own["target_probability"] == pytest.approx([0.45] * clips, abs=1e-3)
    assert own["speaker"] == list(store.corpus.test_speakers)


def test_missing_predictions_are_an_error_and_leave_no_half_file(
    arrow: Any, tmp_path: Path, small: StudyResults, fill: Fill
) -> None:
    store = fill(tmp_path / "s", small)  # without target_probability
    with pytest.raises(StoreError, match=r"predictions cannot be read: .*target_probability.*run again"):
        write_parquet(store.folder, tmp_path / "out", predictions=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["epochs.parquet", "runs.parquet"]


def test_runs_of_machines_that_recorded_other_facts_share_a_table(
    arrow: Any, tmp_path: Path, small: StudyResults, fill: Fill
) -> None:
    runs = [
        msgspec.structs.replace(run, result=msgspec.structs.replace(run.result, hardware={"gpu": "a GPU"}))
        if run.seed
        else run
        for run in small.runs
    ]
    store = fill(tmp_path / "s", msgspec.structs.replace(small, runs=tuple(runs)))
    rows = arrow.read_table(write_parquet(store.folder, tmp_path / "out")[0]).to_pylist()
    assert {(row["seed"], row["hardware.cpu"], row["hardware.gpu"]) for row in rows} == {
        (0, "Example CPU 3 GHz", None),
        (1, None, "a GPU"),
    }


def test_a_store_without_a_finished_run_has_nothing_to_export(
    arrow: Any, tmp_path: Path, small: StudyResults, fill: Fill
) -> None:
    fill(tmp_path / "s", small)
    for path in (tmp_path / "s" / "runs").glob("*/result.json"):
        path.unlink()
    with pytest.raises(ReportError, match=r"s': no run is finished, so there is nothing to export; run the study"):
        write_parquet(tmp_path / "s", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_pyarrow_the_error_says_what_to_install(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "pyarrow", None)
    with pytest.raises(ReportError, match=r"needs pyarrow, which is not installed; give: pip install 'cello-rnn\[parq"):
        write_parquet(stored, tmp_path / "out")


def test_the_command_names_the_files_it_wrote(
    arrow: Any, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(stored), "--format", "parquet", "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.split()
    assert lines == [str(tmp_path / "out" / name) for name in ("runs.parquet", "epochs.parquet")]
    (tmp_path / "file").touch()
    assert main(["report", str(stored), "--format", "parquet", "--out", str(tmp_path / "file")]) == 1
    assert "file' is a file, not a folder; choose another --out" in " ".join(capsys.readouterr().err.split())


def test_the_old_command_says_where_the_tables_are_now(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(stored), "--to", "parquet", "--to", "tensorboard", "--predictions", "--out", "x"]) == 1
    err = " ".join(capsys.readouterr().err.split())
    assert "cello export writes no tables any more, which are formats of reports; give: cello report " in err
    assert err.endswith("--format parquet --format tensorboard --predictions --out x")


def test_predictions_need_a_format_that_holds_them(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(stored), "--format", "md", "--predictions"]) == 1
    assert "--predictions has no table to go into; add --format csv or --format" in capsys.readouterr().err
