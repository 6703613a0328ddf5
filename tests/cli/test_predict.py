"""What hurts: a command that says nothing of a broken file, or takes seconds to name a word."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import made_runs
from cello.audio.corpus import Corpus
from cello.cli.main import main
from cello.trained.model import load_model


@pytest.fixture
def trained(tmp_path: Path, tone_corpus: Corpus) -> Path:
    return made_runs.make_run(tmp_path / "run", tone_corpus.manifest)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(["predict", *map(str, arguments)])
    printed = capsys.readouterr()
    return status, printed.out, " ".join(printed.err.split())


def test_a_file_is_named_with_its_most_probable_labels(
    trained: Path, tone_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    file = tone_folder / "low" / "00000000_nohash_0.wav"
    found = load_model(trained).predict_file(file)
    status, out, err = run(capsys, trained, file)
    assert (status, err) == (0, "")
    assert all(f"{label} {100 * probability:.1f} %" in out for label, probability in found.top(3))


def test_folders_are_looked_through_and_json_holds_every_figure(
    trained: Path, tone_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tone_folder / "low" / "notes.txt").write_text("not sound, by its name")
    (tone_folder / ".hidden").mkdir()
    (tone_folder / ".hidden" / "x.wav").write_bytes(b"")
    status, out, _ = run(capsys, trained, tone_folder, "--format", "json", "--top", "99")
    told = json.loads(out)
    assert status == 0
    assert (told["labels"], len(told["files"])) == (["high", "low", "rough"], 60)
    assert [one["file"] for one in told["files"]] == sorted(one["file"] for one in told["files"])
    assert all(len(one["top"]) == 3 for one in told["files"])


def test_a_broken_file_has_a_row_with_its_reason_and_the_status_says_so(
    trained: Path, tone_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "=bad.wav").write_bytes(b"RIFF")
    good = tone_folder / "low" / "00000000_nohash_0.wav"
    status, out, err = run(capsys, trained, tmp_path / "=bad.wav", good, "--format", "csv", "--top", "2")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["file", "label", "probability", "label_2", "probability_2", "reason"]
    assert (rows[0]["label"], rows[1]["reason"]) == ("", "")
    assert rows[0]["reason"]
    assert rows[1]["label"] == load_model(trained).predict_file(good).label
    assert status == 1
    assert "1 of 2 files cannot be used; the reasons are in their rows" in err


@pytest.mark.skipif(find_spec("onnx") is None, reason="exports need onnx")
def test_an_exported_folder_is_called_so_with_what_takes_it(
    exported: Path, tone_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["predict", str(exported), str(tone_folder)], ["evaluate", str(exported)]):
        assert main(arguments) == 1
        err = " ".join(capsys.readouterr().err.split())
        assert "is an exported model, not a run: cello listen, cello serve and cello.deploy.load take it." in err


def test_nothing_to_predict_is_an_error(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "no audio files are there; give files, or folders" in run(capsys, trained, tmp_path / "empty")[2]
    assert "--top 0 is invalid: it must be at least 1" in run(capsys, trained, tmp_path, "--top", "0")[2]
    status, _, err = run(capsys, trained, tmp_path, "--row", "lstm")
    assert (status, "unknown row of the finished runs 'lstm'" in err) == (1, True)


def test_an_answer_needs_no_torch(trained: Path, tone_folder: Path) -> None:
    arguments = ["predict", str(trained), str(tone_folder / "low" / "00000000_nohash_0.wav")]
    code = f"import sys, cello.cli.main as c; c.main({arguments!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("False")
