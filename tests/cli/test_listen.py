"""What hurts: a listener that hangs, hears nothing of a file, or ends with a traceback on Ctrl-C."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from cello.cli.listen import Listen
from cello.cli.live import KEPT, LiveView
from cello.deploy.decisions import Decision
from cello.trained.model import load_model
from made_packages import run_cello
from tones import tone, write_wav

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
EAGER = ("--threshold", "0.3")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    write_wav(tmp_path / "clip.wav", np.concatenate([tone("high", 1), tone("low", 2)]))
    return tmp_path / "clip.wav"


def test_a_file_brings_the_same_decisions_from_an_export_and_from_its_run(
    exported: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for folder in (exported, exported.parent / "run"):
        assert run_cello("listen", folder, "--file", clip, "--fast", *EAGER) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    lines = told[0].splitlines()
    assert len(lines) >= 2
    assert lines[-1] == f"{len(lines) - 1} decision{'s' * (len(lines) > 2)} in 2.0 s of sound"
    assert lines[0].split()[1:3][0] == "s"


def test_nothing_decided_names_the_threshold_its_origin_and_the_highest_score(
    exported: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, chosen = exported.parent / "run", tmp_path / "run"
    shutil.copytree(run, chosen)
    model = load_model(run)
    facts = {"run": model.run.run, "window_s": 0.9, "threshold": 0.9999, "smooth_s": 0.2, "refractory_s": 1.4}
    (chosen / "stream.json").write_bytes(msgspec.json.encode(facts | {"background": []}))
    for folder, arguments, origin in (
        (exported, ("--threshold", "1"), "1, of --threshold"),
        (chosen, (), "0.9999, which cello evaluate --stream chose (stream.json of the run)"),
        (run, (), "0.8, Cello's own, since none was chosen for the run"),
        (exported, (), "0.8, of the exported folder's manifest.json"),
    ):
        assert run_cello("listen", folder, "--file", clip, "--fast", *arguments) == 0
        told = " ".join(capsys.readouterr().out.split())
        assert told.startswith(f"0 decisions in 2.0 s of sound the threshold is {origin}; the highest was ")
        assert " % for '" in told
        assert told.endswith(" s; a lower --threshold decides more")


class FakeDevice(ModuleType):
    """sounddevice with a microphone of 8 kHz that gives a tone in four pieces, then Ctrl-C."""

    PortAudioError = type("PortAudioError", (Exception,), {})

    def check_input_settings(self, **settings: Any) -> None:
        if settings["device"] == "broken":
            raise ValueError("No input device matching 'broken'")
        if settings["samplerate"] != 8000:
            raise self.PortAudioError("Invalid sample rate")

    def query_devices(self, device: object, kind: str) -> dict[str, float]:
        return {"default_samplerate": 8000.0}

    def InputStream(self, *, blocksize: int, callback: Any, **_: Any) -> Any:
        class Stream:
            def __enter__(self) -> None:
                sound = tone("high", 3, 4 * blocksize).astype(np.float32) / 32768
                for piece in np.split(sound, 4):
                    callback(piece[:, None], len(piece), None, None)

            def __exit__(self, *_: object) -> None:
                closed.append(True)

        return Stream()


closed: list[bool] = []


def test_a_microphone_is_heard_until_ctrl_c(
    exported: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakeDevice("sounddevice"))
    pushed: list[tuple[int, int]] = []
    real = Listen._stream

    def stopping(self: Listen) -> tuple[Any, int]:
        stream, rate_hz = real(self)
        heard = stream.push

        def push(samples: NDArray[np.float32], from_hz: int) -> list[Decision]:
            pushed.append((len(samples), from_hz))
            if len(pushed) == 4:
                raise KeyboardInterrupt
            return heard(samples, from_hz)

        monkeypatch.setattr(stream, "push", push)
        return stream, rate_hz

    monkeypatch.setattr(Listen, "_stream", stopping)
    assert run_cello("listen", exported) == 0
    assert pushed == [(400, 8000)] * 4
    assert closed == [True]
    assert "of sound" in capsys.readouterr().out
    assert run_cello("listen", exported, "--device", "broken") == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "--device broken cannot be opened: No input device matching 'broken'; python -m sounddevice lists" in told


def test_what_is_missing_is_said(
    exported: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    for arguments, fault in (
        (
            (),
            "needs sounddevice, which is not installed; give: pip install 'cello-rnn[listen]', or listen",
        ),
        (("--file", clip, "--device", "1"), "--file and --device cannot be combined; listen to one of them"),
        (("a.wav",), "takes one folder, but 'a.wav' follows it; give --file for an audio file"),
        (("--fast",), "--fast is for files; give --file, or leave it out"),
        (("--file", tmp_path / "none.wav"), "none.wav': cannot be opened"),
    ):
        assert run_cello("listen", exported, *arguments) == 1
        assert fault in " ".join(capsys.readouterr().err.split())


def test_the_view_shows_level_labels_and_the_last_decisions() -> None:
    view = LiveView("microphone", ("yes", "[b]no", "up"))
    decisions = [Decision(float(k), "yes", 0.9) for k in range(KEPT + 2)]
    view.push(np.full(800, 0.1, np.float32), 16_000, np.array([3.0, 1.0, 0.0], np.float32), decisions)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(view)
    text = console.export_text()
    assert "microphone  0.1 s" in text
    assert "-20 dB" in text
    assert "84 %" in text
    assert "[b]no" in text
    assert text.count("yes  90 %") == KEPT
    assert "7.00 s" in text
