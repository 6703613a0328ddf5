"""What hurts: a prediction that nobody can find the clip of."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import msgspec
import numpy as np
import pytest

import made_runs
from cello.audio.corpus import Corpus
from cello.cli.main import main
from cello.errors import StoreError
from cello.report.formats.predictions import write_predictions
from cello.study.corpus_file import read_corpus, write_corpus


@pytest.fixture
def run_folder(tmp_path: Path, tone_corpus: Corpus) -> Path:
    folder = made_runs.make_run(tmp_path / "run", tone_corpus.manifest)
    target = tone_corpus.targets[tone_corpus.indices("test")]
    sure = np.full(9, 0.75, dtype=np.float16)
    np.savez_compressed(
        folder / "predictions.npz",
        target=target.astype(np.uint16),
        prediction=(target * 0 + 1).astype(np.uint16),
        target_probability=sure / 3,
        prediction_probability=sure,
    )
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"))))


def test_each_prediction_has_its_file_name_and_speaker(
    run_folder: Path, tone_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run_folder), "--format", "csv", "--predictions", "--out", str(tmp_path / "out")]) == 0
    assert "predictions.csv" in capsys.readouterr().out
    found = rows(tmp_path / "out" / "predictions.csv")
    clips = [clip for clip in tone_corpus.manifest.clips if clip.split == "test"]
    assert [row["clip"] for row in found] == [clip.name for clip in clips]
    assert [row["speaker"] for row in found] == [clip.speaker for clip in clips]
    assert [row["label"] for row in found] == [clip.label for clip in clips]
    assert {row["predicted"] for row in found} == {"low"}
    assert {(row["label_probability"], row["probability"]) for row in found} == {("0.25", "0.75")}
    assert {(row["row"], row["seed"]) for row in found} == {("gru", "0")}


def test_a_store_that_names_no_clip_has_them_empty(run_folder: Path, tmp_path: Path) -> None:
    old = msgspec.structs.replace(read_corpus(run_folder / "corpus.json"), test_names=(), speaker_names=())
    write_corpus(run_folder, old)
    assert {(row["clip"], row["speaker"]) for row in rows(write_predictions(run_folder, tmp_path))} == {("", "")}


def test_missing_predictions_leave_no_half_file(run_folder: Path, tmp_path: Path) -> None:
    (run_folder / "predictions.npz").unlink()
    with pytest.raises(StoreError, match="predictions cannot be read"):
        write_predictions(run_folder, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
