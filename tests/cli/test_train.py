"""What hurts: a run that nobody finds again, a refusal that names two hashes, noise that no label is for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cello.audio.corpus import Corpus
from cello.cli.main import main
from cello.cli.train import _unused_noise
from tones import RATE_HZ, write_wav


@pytest.mark.usefixtures("kernels_of_all")
def test_the_run_and_the_next_command_are_the_last_line_and_other_settings_are_named(
    tone_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).normal(0, 1000, 12 * RATE_HZ).astype(np.int16)
    write_wav(tone_folder / "_background_noise_" / "hum.wav", noise)
    out = tmp_path / "my run"
    common = ["train", "--corpus", f"folder:{tone_folder}", "--cache", str(tmp_path / "cache"), "--out", str(out)]
    common += ["--model.cell", "gru", "--model.hidden", "4"]
    assert main([*common, "--optimiser.epochs", "1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"{out}: cello evaluate '{out}'"
    assert "1 recording of background noise and no label for it: endless sound needs --silence 10" in "".join(printed)
    assert main([*common, "--optimiser.epochs", "2", "--model.dropout", "0.5"]) == 1
    err = " ".join(capsys.readouterr().err.split())
    assert ", in which model.dropout was 0.0, is 0.5; optimiser.epochs was 1, is 2; choose another folder, or" in err


def test_noise_is_named_only_where_no_label_is_for_it(tone_corpus: Corpus) -> None:
    assert _unused_noise(tone_corpus)
    assert not _unused_noise(Corpus(tone_corpus.manifest, tone_corpus.sound))


def test_a_folder_that_cannot_be_made_is_named_in_words(
    tone_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    common = ["train", "--corpus", f"folder:{tone_folder}", "--cache", str(tmp_path / "cache")]
    assert main([*common, "--out", str(tmp_path / "loop" / "run")]) == 1
    err = " ".join(capsys.readouterr().err.split())
    assert "too many levels of symbolic links" in err
    assert "Errno" not in err
