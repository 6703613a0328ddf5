"""What hurts: docs/your-own-corpus.md with a command that does not run as printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cello.cli.main import main

TEXT = (Path(__file__).parents[1] / "docs" / "your-own-corpus.md").read_text("utf-8")
COMMANDS = re.findall(r"^cello (.*)$", TEXT, re.MULTILINE)
(PYTHON,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
(STUDY,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
WORDS, SPEAKERS = ("yes", "no", "up"), ("ann", "bob", "cy", "dora", "eve", "fay")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that may be cleaned, for all commands: what one has compiled the next need not."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def there(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders that the page speaks of, and its table."""
    rng, lines = np.random.default_rng(0), ["path,word,who,part\n"]
    for word in WORDS:
        for number, who in enumerate(SPEAKERS):
            for take in range(2):
                name, sound = f"{word}_{who}_{take}.wav", rng.normal(0, 0.1, 3200)
                split = ("train", "train", "train", "train", "val", "test")[number]
                for place in (f"clips/{word}", f"splits/{split}/{word}", "flat"):
                    (tmp_path / place).mkdir(parents=True, exist_ok=True)
                    soundfile.write(tmp_path / place / name, sound, 16_000, subtype="PCM_16")
                lines.append(f"{name},{word},{who},{number % 3 + 1}\n")
    (tmp_path / "clips.csv").write_text("".join(lines))
    (tmp_path / "mine.toml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CELLO_CACHE", str(cache))
    return tmp_path


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_runs(command: str, there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(command)) == 0, capsys.readouterr().err
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_the_first_look_names_the_speakers_that_the_page_then_gives(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split(COMMANDS[0])) == 0
    said = capsys.readouterr().err
    assert "the file names of clips seem to contain speakers: 6 speakers (ann, bob, cy, …)" in said
    assert main(shlex.split(COMMANDS[1])) == 0
    assert "seem to contain" not in capsys.readouterr().err


def test_its_python_runs(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(PYTHON, "your-own-corpus.md", "exec"), {})
    assert capsys.readouterr().out == ""
