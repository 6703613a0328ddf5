"""What hurts: a user's file replaced by a run's of the same name, a full disk answered by a traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from cello.errors import TrainingError
from cello.files import seal_json
from cello.training.config import CorpusRef, RunConfig
from cello.training.folder import check_own, writing
from cello.training.result import RunResult, SplitMetrics
from damage import HOSTILE, damaged

CONFIG = RunConfig(corpus=CorpusRef(name="tones", checksum="0" * 64))


def test_an_empty_folder_or_none_is_free(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    (tmp_path / "lock").touch()
    assert check_own(tmp_path, CONFIG) is None
    assert check_own(tmp_path / "none", CONFIG) is None


def test_a_begun_run_is_its_own_under_any_corpus_name(tmp_path: Path) -> None:
    renamed = msgspec.structs.replace(CONFIG, corpus=CorpusRef(name="renamed", checksum="0" * 64))
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(renamed))
    assert check_own(tmp_path, CONFIG) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "config.json",
            r"config\.json was written by another version of Cello .*; use the version that wrote it, or move it away",
        ),
        (
            "result.json",
            r"result\.json is damaged: .*missing required field.*; move it away, or choose another",
        ),
        ("model.safetensors", r"holds files of a run, but no config\.json that says which; choose another folder"),
    ],
)
def test_somebody_elses_file_of_a_runs_name_stops_the_run(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(TrainingError, match=message):
        check_own(tmp_path, CONFIG)
    assert (tmp_path / name).read_text() == '{"mine": 1}'


def test_a_folder_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with (
            pytest.raises(TrainingError, match=r"run folder '.*' is or lies in a file; choose another"),
            writing(folder),
        ):
            folder.mkdir(parents=True, exist_ok=True)


def test_a_disk_that_is_full_is_named_with_the_remedy(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(
            TrainingError, match=r"cannot be used: no space left on device; choose one .* whole epochs are kept"
        ),
        writing(tmp_path),
    ):
        raise full


def finished() -> RunResult:
    metrics = SplitMetrics(clips=3, loss=1.0, accuracy=0.5, word_mean=0.5)
    return RunResult(
        run=CONFIG.id, config=CONFIG, labels=("a", "b"), parameters=3, backend="plain", chosen_epoch=1,
        train=metrics, validation=metrics, test=metrics, confusion=((1, 0), (1, 1)), seconds_per_epoch=1.0,
        wall_seconds_per_epoch=1.0, clips_per_second=3.0, total_seconds=1.0, hardware={}, versions={}, history=(),
    )  # fmt: skip


def held(folder: Path) -> RunResult | str | None:
    try:
        return check_own(folder, CONFIG)
    except TrainingError as error:
        return str(error)


@pytest.mark.parametrize("name", ["result.json", "config.json"])
def test_a_damaged_file_of_a_run_is_named_or_changes_nothing(tmp_path: Path, name: str) -> None:
    record = finished() if name == "result.json" else None
    text = seal_json(msgspec.json.encode(record or CONFIG))
    for how, changed in damaged(text, 100):
        (tmp_path / name).write_bytes(changed)
        found = held(tmp_path)
        assert found == record or name in str(found), how


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["result.json", "config.json"])
def test_hostile_json_in_a_runs_folder_is_named(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(HOSTILE[kind])
    with pytest.raises(TrainingError, match=rf"{name}.*move it away, or choose another folder for the run$"):
        check_own(tmp_path, CONFIG)


def test_a_result_of_a_newer_cello_is_refused_and_kept(tmp_path: Path) -> None:
    newer = msgspec.structs.replace(finished(), format=2)
    text = seal_json(msgspec.json.encode(newer))
    (tmp_path / "result.json").write_bytes(text)
    with pytest.raises(TrainingError, match=r"result\.json has format 2, and this is Cello .*; install a newer Cello"):
        check_own(tmp_path, CONFIG)
    assert (tmp_path / "result.json").read_bytes() == text


def test_a_damaged_config_in_the_runs_own_folder_is_set_aside(tmp_path: Path) -> None:
    folder = tmp_path / CONFIG.id
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(b"epochs")
    (folder / "config.json").write_bytes(b"{")
    with pytest.warns(UserWarning, match=r"config\.json is damaged \(.*\) and made again$"):
        assert check_own(folder, CONFIG) is None
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.pt", "config.json.unusable"]


def test_a_pipe_in_place_of_a_result_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "result.json")
    with pytest.raises(TrainingError, match=r"result\.json is damaged: not a regular file; move it away"):
        check_own(tmp_path, CONFIG)
