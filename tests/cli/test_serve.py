"""What hurts: a server that everyone can reach without being told so, or a missing library with a traceback."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made_runs
from cello.audio.corpus import Corpus
from cello.cli.main import main
from cello.cli.serve import served_of
from cello.deploy import listener
from cello.errors import DeployError
from cello.export.package import Package, write_package
from cello.features.config import FeatureConfig
from cello.trained.model import load_model
from cello.trained.run import read_run


@pytest.fixture
def trained(tmp_path: Path, tone_corpus: Corpus) -> Path:
    features = FeatureConfig(normalisation="corpus")
    return made_runs.make_run(tmp_path / "run", tone_corpus.manifest, features)


def test_a_run_is_served_as_it_predicts_and_streams(trained: Path) -> None:
    served, page = served_of(trained)
    model = load_model(trained)
    sound = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    assert page is None
    assert served.predict(sound, 16_000) == model.predict(sound, 16_000).top(3)
    assert served.stream().push(sound, 16_000) == model.stream().push(sound, 16_000)


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_it_says_where_it_listens_and_warns_where_others_can_reach_it(
    trained: Path, host: str, warned: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Any] = []

    def run(server: Any, listening: Any) -> None:
        ran.append(server.limits)
        raise KeyboardInterrupt

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(listener, "run", run)
    status = main(["serve", str(trained), "--host", host, "--port", "0", "--most-streams", "3", "--most-bytes", "1000"])
    printed = capsys.readouterr()
    assert status == 130
    assert (ran[0].streams, ran[0].bytes) == (3, 1000)
    assert f"is served at http://{host}:" in printed.out
    assert "streams decide at threshold 0.8, Cello's own, since none was chosen for the run" in printed.out
    assert ("every machine that can reach this one" in printed.out) is warned
    assert printed.err.strip() == "the server has stopped"


def test_a_missing_library_names_the_extra(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *arguments: Any, **others: Any) -> Any:
        if name == "cello.deploy" and "listener" in (arguments[2] or ()):
            raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
        return real(name, *arguments, **others)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert main(["serve", str(trained)]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert told == "error: cello serve needs uvicorn, which is not installed; give: pip install 'cello-rnn[serve]'"


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("--most-streams", "0", "streams=0 is invalid: a limit must be finite and above 0"),
        ("--most-seconds", "nan", "seconds=nan is invalid: a limit must be finite and above 0"),
        ("--port", "70000", "--port 70000 is invalid: it must be from 0 to 65535"),
    ],
)
def test_limits_that_cannot_be_are_said(
    trained: Path, flag: str, value: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(trained), flag, value]) == 1
    assert told in " ".join(capsys.readouterr().err.split())


def test_the_page_of_an_exported_folder_is_served_as_it_was_written(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    write_package(Package(trained=read_run(trained), forms=("onnx", "page")), out)
    served, page = served_of(out)
    assert page == (out / "index.html").read_text("utf-8")
    assert "Content-Security-Policy" in page
    sound = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    assert served.predict(sound, 16_000)[0][0] == load_model(trained).predict(sound, 16_000).label
    with (out / "index.html").open("ab") as file:
        file.write(b"<script>")
    with pytest.raises(DeployError, match=r"index\.html"):
        served_of(out)
