"""What hurts: docs/keyword-spotter.md with a command that does not run as printed, or a C program that is deaf."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

import cello.deploy
from cello.cli.main import main

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

TEXT = (Path(__file__).parents[1] / "docs" / "keyword-spotter.md").read_text("utf-8")
COMMANDS = re.findall(r"^cello (.*)$", TEXT, re.MULTILINE)
(PROGRAM,) = re.findall(r"```c\n(.*?)```", TEXT, re.DOTALL)
BUILD, USE = re.findall(r"^(?:cc|tail) .*$", TEXT, re.MULTILINE)


def make_clips(clips: Path) -> None:
    """Two takes of four words, as tones, by each of 20 speakers, and half a minute of noise."""
    rng, time = np.random.default_rng(0), np.arange(8000) / 16_000
    for label, hz in (("lights", 2000), ("music", 500), ("cat", 150), ("seven", 1000)):
        (clips / label).mkdir(parents=True)
        for speaker in range(20):
            for take in range(2):
                sound = 0.3 * np.sin(2 * np.pi * hz * rng.uniform(0.9, 1.1) * time) + rng.normal(0, 0.02, len(time))
                soundfile.write(clips / label / f"{speaker + 10:02x}_nohash_{take}.wav", sound, 16_000)
    (clips / "_background_noise_").mkdir()
    soundfile.write(clips / "_background_noise_" / "room.wav", rng.normal(0, 0.02, 480_000), 16_000)


@pytest.mark.wants("cc")
@pytest.mark.filterwarnings("default")
def test_the_page_leads_from_clips_to_a_program_in_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_clips(tmp_path / "clips")
    monkeypatch.chdir(tmp_path)
    said = []
    for command in COMMANDS:
        assert main(shlex.split(command)) == 0, capsys.readouterr().err
        said.append(" ".join(capsys.readouterr().out.split()))
    _, trained, _, measured, listened, _ = said
    assert "gru, seed 0" in trained
    assert "never _unknown_, _silence_" in measured
    assert "the validation clips are too short a stream to show so low a rate" in measured
    assert re.search(r"0\.\d\d s lights \d+ %", listened)
    Path("spotter.c").write_text(PROGRAM)
    for line in (BUILD.replace("-O2", "-O1 -Wall -Wextra -Werror"), USE):
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    stream = cello.deploy.load("model").stream()
    sound, rate_hz = soundfile.read("clips/lights/0a_nohash_0.wav", dtype="int16")
    decisions = stream.push(sound, rate_hz) + stream.finish()
    assert done.stdout.splitlines() == [f"{time_s:.2f} s {label} {score:.2f}" for time_s, label, score in decisions]
    assert [label for _, label, _ in decisions] == ["lights"]
