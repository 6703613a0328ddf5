"""What hurts: curves in TensorBoard that are not the runs', or two exports shown as one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from cello.errors import ReportError, StoreError
from cello.report.formats import tensorboard
from cello.report.formats.tensorboard import write_tensorboard
from cello.report.results import StudyResults
from cello.study.store import Store


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """What TensorBoard would show of a run: the framing of TFRecord, then the event's own form."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    (path,) = folder.iterdir()
    data, place = path.read_bytes(), 0
    while place < len(data):
        length = int.from_bytes(data[place : place + 8], "little")
        event = Event.FromString(data[place + 12 : place + 12 + length])
        place += 16 + length
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found[value.tag, event.step] = value.simple_value
    return found


def test_every_run_has_its_curves_and_its_test_accuracy(stored: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    folders = write_tensorboard(stored, tmp_path / "tb")
    results = Store.open(stored).results()
    assert len(folders) == len(set(folders)) == len(results) == 8
    for folder, run in zip(folders, results, strict=True):
        assert folder.name.endswith(f"seed-{run.seed}-{run.id}")
        shown = scalars(folder)
        for epoch in run.result.history:
            assert shown["accuracy/validation", epoch.epoch] == pytest.approx(epoch.validation_accuracy)
            assert shown["loss/train", epoch.epoch] == pytest.approx(epoch.train_loss)
        assert shown["accuracy/test", run.result.chosen_epoch] == pytest.approx(run.result.test.accuracy)
    with pytest.raises(StoreError, match=r"tb' holds files \(.*\), and nothing is written over; choose a new folder"):
        write_tensorboard(stored, tmp_path / "tb")


def test_a_store_without_a_finished_run_leaves_no_folder(
    tmp_path: Path, small: StudyResults, fill: Callable[[Path, StudyResults], Store]
) -> None:
    pytest.importorskip("tensorboardX")
    fill(tmp_path / "s", small)
    for path in (tmp_path / "s" / "runs").glob("*/result.json"):
        path.unlink()
    with pytest.raises(ReportError, match=r"s': no run is finished, so there is nothing to export"):
        write_tensorboard(tmp_path / "s", tmp_path / "tb")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_without_tensorboardx_the_error_says_what_to_install(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "SummaryWriter", None)
    with pytest.raises(ReportError, match=r"need tensorboardX, .*; give: pip install 'cello-rnn\[tensorboard\]'"):
        write_tensorboard(stored, tmp_path / "tb")


def test_names_of_rows_cannot_leave_the_folder_or_be_too_long_for_one(
    tmp_path: Path, small: StudyResults, fill: Callable[[Path, StudyResults], Store]
) -> None:
    pytest.importorskip("tensorboardX")
    names = {"rnn": "../../" + "é" * 300 + "/x", "gru": "-\x1b[31m" + "g" * 20_000}
    runs = tuple(msgspec.structs.replace(run, row=names[run.row]) for run in small.runs)
    store = fill(tmp_path / "s", msgspec.structs.replace(small, rows=tuple(names.values()), runs=runs))
    folders = write_tensorboard(store.folder, tmp_path / "tb")
    assert len(set(folders)) == 8
    assert {folder.parent for folder in folders} == {tmp_path / "tb"}
    assert all(folder.is_dir() and not folder.name.startswith(("-", ".")) for folder in folders)
