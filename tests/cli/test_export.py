"""What hurts: an export that stops with a riddle, or says passed of what was not run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cello.audio.open import open_corpus
from cello.study.single import write_source
from cello.study.store import CorpusSource
from made_packages import SMALL, run_cello
from made_runs import make_run

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@pytest.fixture
def trained(exported: Path) -> Path:
    """The folder of a run."""
    return exported.parent / "run"


def errors(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_a_run_becomes_a_folder_that_was_checked(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    out = tmp_path / "model"
    arguments = ("export", trained, "--out", out, "--to", "onnx", "--to", "c99", "--threshold", "0.7")
    assert run_cello(*arguments, "--background", "rough", "low") == 0
    told = capsys.readouterr().out
    assert str(out / "step.onnx") in told
    assert "passed" in told
    assert "failed" not in told
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["stream"]["threshold"] == 0.7
    assert manifest["stream"]["background"] == ["rough", "low"]
    assert not (out / "index.html").exists()
    assert run_cello("export", out, "--check") == 0
    assert "largest difference" in capsys.readouterr().out


def test_a_folder_that_was_changed_fails_its_check(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(exported, tmp_path / "model")
    (folder / "gru.h").write_text("changed")
    assert run_cello("export", folder, "--check") == 1
    assert "gru.h is damaged: its SHA-256 is not the one in manifest.json" in errors(capsys)


def test_wrong_use_is_told_with_the_remedy(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, fault in (
        ((trained,), "cello export needs the folder to write; give --out DIR"),
        ((trained, "--to", "parquet"), f"formats of reports; give: cello report {trained} --format parquet"),
        ((trained, "--predictions"), f"give: cello report {trained} --format parquet --predictions"),
        ((trained, "--out", tmp_path / "x", "--most-int8-loss", "1"), "what int8 may cost; give --int8 too"),
        ((trained, "--out", tmp_path / "x", "--int8", "--most-int8-loss", "1"), "Give --corpus for other clips"),
        (
            (trained, "--out", tmp_path / "x", "--name", "a b"),
            "'a b' cannot begin the names of C functions; use a letter",
        ),
        ((trained, "--out", tmp_path / "x", "--name", ""), "'' cannot begin the names of C functions; use a letter"),
        ((trained, "--out", tmp_path / "x", "--to", "onnx", "--name", "a"), "--name is for the C files; give --to c99"),
        ((trained, "--out", trained), "holds files that are no export of this run, and nothing is overwritten"),
        ((trained, "--out", tmp_path / "x", "--threshold", "2"), "threshold=2.0 is invalid: it must be a probability"),
        ((tmp_path / "none", "--out", tmp_path / "x"), "none"),
    ):
        assert run_cello("export", *arguments) != 0
        assert fault in errors(capsys)
        assert not (tmp_path / "x").exists()


def test_int8_is_measured_on_the_clips_of_the_training_read_as_then(
    tone_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = CorpusSource(
        spec=f"folder:{tone_folder}",
        options={"rate_hz": 16_000, "reading": {"choice": {"labels": ["high", "low"], "unknown": 100.0}}},
    )
    corpus = open_corpus(source.spec, cache=tmp_path / "cache", **source.options)
    folder = make_run(tmp_path / "run", corpus.manifest, features=SMALL, pooling="mean")
    write_source(folder, source)
    export = ("export", folder, "--out", tmp_path / "model", "--to", "onnx", "--int8", "--cache", tmp_path / "cache")
    assert run_cello(*export, "--most-int8-loss", "100") == 0
    assert "the accuracy lost on validation clips is " in " ".join(capsys.readouterr().out.split())
    assert isinstance(json.loads((tmp_path / "model" / "manifest.json").read_text())["int8"]["points_lost"], float)
    tone_folder.rename(tmp_path / "moved")
    assert run_cello(*export) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "the accuracy lost on validation clips is not measured: run " in told
    assert "Give --corpus for other clips" in told
    assert json.loads((tmp_path / "model" / "manifest.json").read_text())["int8"]["points_lost"] is None
    assert run_cello(*export, "--most-int8-loss", "100") == 1
    assert "Give --corpus for other clips" in errors(capsys)


def test_int8_is_measured_on_the_labels_that_the_run_chose(
    trained: Path, tone_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = shutil.copytree(tone_folder, tmp_path / "clips")
    shutil.copytree(clips / "low", clips / "other")
    export = ("export", trained, "--out", tmp_path / "model", "--to", "onnx", "--int8", "--corpus", f"folder:{clips}")
    assert run_cello(*export) == 1
    assert "give the corpus that it was trained on, with the same --labels, --unknown and --silence" in errors(capsys)
    assert run_cello(*export, "--labels", "high,low,rough") == 0
    assert "accuracy lost on validation clips is " in " ".join(capsys.readouterr().out.split())


def test_the_precision_is_chosen_on_the_clips_of_the_training_and_said(
    tone_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = CorpusSource(spec=f"folder:{tone_folder}", options={"rate_hz": 16_000})
    corpus = open_corpus(source.spec, cache=tmp_path / "cache", **source.options)
    folder = make_run(tmp_path / "run", corpus.manifest, features=SMALL, pooling="mean")
    write_source(folder, source)
    export = ("export", folder, "--out", tmp_path / "model", "--to", "onnx", "--cache", tmp_path / "cache")
    clips = len(corpus.indices("validation"))

    def told(*more: str) -> tuple[str, dict[str, object]]:
        assert run_cello(*export, *more) == 0
        facts = json.loads((tmp_path / "model" / "manifest.json").read_text())["precision"]
        return " ".join(capsys.readouterr().out.split()), facts

    text, facts = told()
    assert "every form computes in float32: float32 moves scores by up to " in text
    assert f"on {clips} validation clips and 3 made sounds, which is within 1e-05" in text
    assert (facts["name"], facts["clips"]) == ("float32", clips)
    text, facts = told("--precision", "float64")
    assert "every form computes in double precision: asked for; float32 moves scores" in text
    assert facts["name"] == "float64"
    tone_folder.rename(tmp_path / "moved")
    text, facts = told()
    assert "on 3 made sounds" in text
    assert "Give --corpus for other clips)" in text
    assert told("--corpus", f"folder:{tmp_path / 'moved'}")[1]["clips"] == clips


def test_nothing_is_rendered_or_downloaded_to_choose_the_precision(
    tone_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = open_corpus(f"folder:{tone_folder}", cache=tmp_path / "cache")
    folder = make_run(tmp_path / "run", corpus.manifest, features=SMALL)
    write_source(folder, CorpusSource(spec="spoken", options={"rate_hz": 16_000}))
    opened: list[object] = []
    monkeypatch.setattr("cello.audio.open.open_corpus", lambda *given, **_: opened.append(given))
    out = ("--out", tmp_path / "model", "--to", "onnx", "--cache", tmp_path / "empty")
    assert run_cello("export", folder, *out) == 0
    assert not opened
    assert "is not in the cache; give --corpus to measure on its clips)" in " ".join(capsys.readouterr().out.split())
