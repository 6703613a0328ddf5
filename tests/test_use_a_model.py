"""What hurts: docs/use-a-model.md with a command or a line that does not run as printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cello.cli.main import main
from cello.deploy.package import read_manifest

TEXT = (Path(__file__).parents[1] / "docs" / "use-a-model.md").read_text("utf-8")
COMMANDS = re.findall(r"^cello (.*)$", TEXT, re.MULTILINE)
PYTHON = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))


def make_clips(folder: Path) -> None:
    """Two takes of three words by each of 24 speakers, as tones anybody can tell apart."""
    rng, time = np.random.default_rng(0), np.arange(8000) / 16_000
    for label, hz in (("yes", 2000), ("no", 500), ("up", 150)):
        (folder / "clips" / label).mkdir(parents=True)
        for speaker in range(24):
            for take in range(2):
                sound = 0.3 * np.sin(2 * np.pi * hz * rng.uniform(0.9, 1.1) * time) + rng.normal(0, 0.02, len(time))
                path = folder / "clips" / label / f"{speaker + 10:02x}_nohash_{take}.wav"
                soundfile.write(path, sound, 16_000, subtype="PCM_16")


pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@pytest.mark.filterwarnings("default")
def test_the_page_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_clips(tmp_path)
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        assert main(shlex.split(command)) == 0, capsys.readouterr().err
        assert "Traceback" not in capsys.readouterr().err
    assert (tmp_path / "measured" / "predictions.csv").exists()
    assert (tmp_path / "runs" / "first" / "report" / "predictions.csv").exists()
    exec(compile(PYTHON, "use-a-model.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "('no', 'up', 'yes') 16000 100% of validation clips"
    assert re.fullmatch(r"\w+ True True", lines[1])
    assert lines[2:4] == ["clips/yes/0a_nohash_0.wav yes", "clips/no/0a_nohash_0.wav no"]
    assert lines[-2] == "window 0.50 s, delay 80 ms"
    assert lines[-1] == "('no', 'up', 'yes') 0.5 True"
    manifest = read_manifest(tmp_path / "model")
    assert manifest.stream is not None
    assert manifest.stream.measured is not None
    assert manifest.int8 is not None
    assert manifest.int8.points_lost == 0
    assert str(tmp_path) not in (tmp_path / "model" / "manifest.json").read_text()
