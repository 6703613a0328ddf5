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
def test_an_exported_folder_predicts_as_its_run(
    exported: Path, tone_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, bad = tone_folder / "low" / "00000000_nohash_0.wav", tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF")
    of_run, of_export = (
        json.loads(run(capsys, folder, file, bad, "--format", "json")[1])
        for folder in (exported.parent / "run", exported)
    )
    probabilities = ([one.pop("probability") for one in told["files"][0]["top"]] for told in (of_run, of_export))
    assert next(probabilities) == pytest.approx(next(probabilities), abs=1e-5)
    assert of_export == of_run
    status, out, _ = run(capsys, exported, file, "--format", "csv", "--top", "1")
    assert (status, out.splitlines()[1].split(",")[1]) == (0, of_run["files"][0]["top"][0]["label"])
    assert f"{of_run['files'][0]['top'][0]['label']} " in run(capsys, exported, file, "--top", "1")[1]
    assert (
        "is one exported model, without rows and columns; leave out --row x"
        in run(capsys, exported, file, "--row", "x")[2]
    )


@pytest.mark.skipif(find_spec("onnx") is None, reason="exports need onnx")
def test_an_exported_folder_in_a_runs_place_is_called_so_with_the_run_to_give(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    id_ = json.loads((exported / "manifest.json").read_text())["run"]
    needs_the_run = (["report"], ["export", "--out", str(tmp_path / "x")], ["train", "--from"])
    for command, *options in needs_the_run:
        assert main([command, *options, str(exported)]) == 1
        err = " ".join(capsys.readouterr().err.split())
        assert "is an exported model, not a run: cello predict, evaluate, listen and serve take it. Here give" in err
        assert f"the folder of run {id_}, from which it was exported" in err
    (exported_copy := tmp_path / "model").mkdir()
    (exported_copy / "manifest.json").write_text("damaged")
    main(["report", str(exported_copy)])
    assert "give the folder of the run, from which" in " ".join(capsys.readouterr().err.split())


def test_nothing_to_predict_is_an_error(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "no audio files are there; give files, or folders" in run(capsys, trained, tmp_path / "empty")[2]
    assert "--top 0 is invalid: it must be at least 1" in run(capsys, trained, tmp_path, "--top", "0")[2]
    status, _, err = run(capsys, trained, tmp_path, "--row", "lstm")
    assert (status, "unknown row of the finished runs 'lstm'" in err) == (1, True)


@pytest.mark.parametrize("of", ["run", "export"])
def test_an_answer_needs_no_torch(of: str, trained: Path, tone_folder: Path, request: pytest.FixtureRequest) -> None:
    if of == "export":
        pytest.importorskip("onnx")
    folder = trained if of == "run" else request.getfixturevalue("exported")
    arguments = ["predict", str(folder), str(tone_folder / "low" / "00000000_nohash_0.wav")]
    code = f"import sys, cello.cli.main as c; c.main({arguments!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("False")


def test_a_run_is_computed_in_the_precision_asked_for_and_an_export_in_its_own(
    trained: Path, tone_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    from cello.export.package import Package, write_package
    from cello.trained.run import read_run

    file = tone_folder / "low" / "00000000_nohash_0.wav"
    exact = load_model(trained, precision="float64").predict_file(file)
    status, out, _ = run(capsys, trained, file, "--format", "json", "--precision", "float64")
    assert status == 0
    assert json.loads(out)["files"][0]["top"][0]["probability"] == exact.probability
    assert exact.probability != load_model(trained).predict_file(file).probability
    write_package(Package(trained=read_run(trained), forms=("onnx",)), tmp_path / "model")
    assert run(capsys, tmp_path / "model", file, "--precision", "float32")[0] == 0
    status, _, err = run(capsys, tmp_path / "model", file, "--precision", "float64")
    assert status == 1
    assert (
        "is an exported model that computes in float32; leave out --precision float64, or export the run again with it"
        in err
    )
