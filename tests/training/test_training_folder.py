"""What hurts: a user's file replaced by a run's of the same name, a full disk answered by a traceback."""

from __future__ import annotations

import errno
from pathlib import Path

import msgspec
import pytest

from cello.errors import TrainingError
from cello.training.config import CorpusRef, RunConfig
from cello.training.folder import check_own, writing

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
        pytest.raises(TrainingError, match=r"No space left on device; choose one .* whole epochs are kept"),
        writing(tmp_path),
    ):
        raise full
