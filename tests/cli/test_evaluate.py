"""What hurts: a run measured on clips that nobody meant, or options of its training that are to be remembered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import made_runs
from cello.audio.open import open_corpus
from cello.cli.main import main
from cello.study.single import SOURCE_FILE, write_source
from cello.study.store import CorpusSource
from tones import tone, write_wav

READING = {"choice": {"labels": ["high", "low"], "unknown": 100.0}}


@pytest.fixture
def trained(tone_folder: Path, tmp_path: Path, kernels_of_all: None) -> Path:
    """A run on two words of the tones and the third as unknown, whose folder says so."""
    source = CorpusSource(spec=f"folder:{tone_folder}", options={"rate_hz": 16_000, "reading": READING})
    corpus = open_corpus(source.spec, cache=tmp_path / "cache", **source.options)
    folder = made_runs.make_run(tmp_path / "run", corpus.manifest)
    write_source(folder, source)
    return folder


def evaluated(
    capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str, stream: bool = False
) -> tuple[Any, str]:
    """What is found, as JSON, and what is said on standard error."""
    common = ["evaluate", str(folder), "--cache", str(folder.parent / "cache"), "--format", "json"]
    main([*common, *arguments, *(["--stream", "--false-alarms", "100000"] if stream else [])])
    printed = capsys.readouterr()
    return json.loads(printed.out or "null"), " ".join(printed.err.split())


def test_without_a_corpus_a_run_is_evaluated_on_its_own_as_it_was_trained(
    trained: Path, tone_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--corpus", f"folder:{tone_folder}", "--labels", "high,low", "--unknown", "100"]
    for stream in (False, True):
        asked, _ = evaluated(capsys, trained, *given, stream=stream)
        assert evaluated(capsys, trained, stream=stream)[0] == asked
    assert asked["other_words"] > 0
    other, _ = evaluated(capsys, trained, "--labels", "low,rough", "--map", "rough=high", "--split", "all")
    assert (other["clips"], len({one["label"] for one in other["predictions"]})) == (60, 3)
    assert "has no label 'rough'" in evaluated(capsys, trained, "--corpus", f"folder:{tone_folder}")[1]


def test_a_corpus_that_has_changed_since_the_training_is_not_taken_for_it(
    trained: Path, tone_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wav(tone_folder / "high" / "000000ff_nohash_0.wav", tone("high", 7))
    found, err = evaluated(capsys, trained)
    assert found is None
    assert "its clips have changed. Give --corpus folder:" in err


def test_a_corpus_that_is_not_there_is_named_with_what_to_give(
    trained: Path, tone_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tone_folder.rename(tone_folder.with_name("moved"))
    found, err = evaluated(capsys, trained)
    assert found is None
    assert f"was trained on folder:{tone_folder}: " in err
    assert err.endswith("Give --corpus for other clips")


def test_a_corpus_given_by_a_relative_path_is_found_from_any_folder_and_told_to_nobody(
    trained: Path,
    tone_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    relative = CorpusSource(spec=f"folder:{tone_folder.name}", options={"rate_hz": 16_000, "reading": READING})
    monkeypatch.chdir(tone_folder.parent)
    write_source(trained, relative)
    here = evaluated(capsys, trained)[0]
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    assert evaluated(capsys, trained)[0] == here
    assert here["clips"] > 0
    shutil.copytree(tone_folder, elsewhere / tone_folder.name)  # the same name where one is, other clips
    write_wav(elsewhere / tone_folder.name / "high" / "000000ff_nohash_0.wav", tone("high", 7))
    assert evaluated(capsys, trained)[0] == here
    (elsewhere / tone_folder.name / "high" / "000000ff_nohash_0.wav").unlink()
    tone_folder.rename(tone_folder.with_name("moved"))  # the project moved, clips and all
    assert evaluated(capsys, trained)[0] == here
    shutil.rmtree(elsewhere / tone_folder.name)
    assert f"was trained on folder:{tone_folder}: corpus folder " in evaluated(capsys, trained)[1]
    main(["report", str(trained), "--format", "html", "--format", "json", "--format", "csv"])
    assert not [path for path in (trained / "report").rglob("*") if str(tmp_path).encode() in path.read_bytes()]


def test_a_run_that_does_not_keep_its_options_asks_for_them(
    trained: Path, tone_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained / SOURCE_FILE).unlink()
    found, err = evaluated(capsys, trained)
    assert found is None
    assert f"was trained on folder:{tone_folder} with options that its folder does not keep" in err
    assert "as --labels, --unknown, --silence (its labels: high, low, _unknown_)" in err
    assert evaluated(capsys, trained, "--labels", "high,low", "--unknown", "100")[0]["clips"] > 0


def test_nothing_but_the_reader_of_corpora_is_called(
    trained: Path, tone_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_source(trained, CorpusSource(spec="x", opener="os:system"))
    assert "does not say where it lies; give --corpus" in evaluated(capsys, trained)[1]


def test_an_exported_folder_is_evaluated_as_its_run_on_the_corpus_that_is_given(
    tone_folder: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    exported = shutil.copytree(exported.parent, tmp_path / "exported") / "model"
    common = ("--corpus", f"folder:{tone_folder}", "--split", "all")
    of_run, of_export = (evaluated(capsys, folder, *common)[0] for folder in (exported.parent / "run", exported))
    for exact in ("run", "corpus", "clips", "seen", "labels", "accuracy", "confusion"):
        assert of_export[exact] == of_run[exact]
    assert of_export["loss"] == pytest.approx(of_run["loss"], abs=1e-5)
    for arguments, fault in (
        ((), f"does not say where clips lie; give --corpus, or the folder of run {of_run['run']} in its place"),
        (("--stream",), f"give the folder of run {of_run['run']}, and export it again"),
    ):
        assert fault in evaluated(capsys, exported, *arguments)[1]
