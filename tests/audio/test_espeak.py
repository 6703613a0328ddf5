"""The worker that speaks: a separate program whose failures are told, and whose sound is always the same."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from cello.audio import espeak
from cello.audio.espeak import LONGEST_DATA_PATH, Engine, Utterance, say, short_path
from cello.errors import CorpusError

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs: pip install 'cello-rnn[spoken]'"
)
NOWHERE = Engine(Path("no-library"), Path("no-data"))
HELLO = [Utterance("en-us+f3", "hello", 160, 50)]


def worker(folder: Path, text: str) -> Path:
    path = folder / "worker.py"
    path.write_text(text)
    return path


@needs_espeak
def test_the_same_utterances_give_the_same_sound() -> None:
    texts = [Utterance(f"en-us+{v}", w, 150, 40) for v in ("f3", "whisper", "klatt") for w in ("yes", "zero")]
    with espeak.engine() as engine:
        rate_hz, first = say(engine, texts, longest_ms=900)
        _, second = say(engine, texts, longest_ms=900)
    assert rate_hz == 22_050
    assert [s.tobytes() for s in first] == [s.tobytes() for s in second]
    assert all(np.abs(s).max() > 500 for s in first)


@needs_espeak
def test_a_word_too_slow_for_the_clip_is_said_faster_not_cut() -> None:
    slow = [Utterance("en-us+Marco", "backward", 100, 50)]
    with espeak.engine() as engine:
        rate_hz, (free,) = say(engine, slow, longest_ms=5000)
        _, (held,) = say(engine, slow, longest_ms=900)
    assert len(free) > 0.9 * rate_hz
    assert 0.5 * rate_hz < len(held) <= 0.9 * rate_hz
    assert np.abs(held[-200:]).max() < 0.1 * np.abs(held).max()


@needs_espeak
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_library_is_never_loaded_into_this_process() -> None:
    with espeak.engine() as engine:
        say(engine, HELLO, longest_ms=900)
    assert "espeak-ng" not in Path("/proc/self/maps").read_text()


@needs_espeak
@pytest.mark.parametrize(
    ("utterance", "why"),
    [
        (Utterance("en-us+nobody", "yes", 160, 50), "has no voice variant 'nobody'"),
        (Utterance("xx-nowhere", "yes", 160, 50), "refuses the voice 'xx-nowhere'"),
        (
            Utterance("en-us+f3", "a very long sentence, not a word, that no voice says in so short a time", 160, 50),
            "fastest",
        ),
    ],
)
def test_what_cannot_be_said_is_an_error_not_another_voice(utterance: Utterance, why: str) -> None:
    with espeak.engine() as engine, pytest.raises(CorpusError, match=why):
        say(engine, [utterance], longest_ms=900)


@needs_espeak
def test_a_data_path_too_long_for_espeak_is_made_short(tmp_path: Path) -> None:
    with espeak.engine() as engine:
        far = tmp_path / ("d" * 100) / ("é" * 40)
        far.mkdir(parents=True)
        (far / "data").symlink_to(engine.data)
        with pytest.raises(CorpusError, match="eSpeak NG does not start"):
            say(Engine(engine.library, far / "data"), HELLO, longest_ms=900)
        with short_path(far / "data") as near:
            assert say(Engine(engine.library, near), HELLO, longest_ms=900)[0] == 22_050
        assert not near.exists()
        assert (far / "data").is_dir()


def test_a_short_data_path_is_used_as_it_is(tmp_path: Path) -> None:
    with short_path(tmp_path) as near:
        assert near == tmp_path


def test_where_links_cannot_be_made_the_data_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = tmp_path / ("d" * LONGEST_DATA_PATH)
    far.mkdir()
    (far / "phontab").write_text("data")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with short_path(far) as near:
        assert (near / "phontab").read_text() == "data"


def test_a_folder_for_temporary_files_that_is_too_long_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = tmp_path / ("d" * LONGEST_DATA_PATH)
    far.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(far))
    with pytest.raises(CorpusError, match="set TMPDIR to a shorter folder"), short_path(far):
        pass


def test_a_missing_extra_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    wanted = r"not installed here; install it with: pip install 'cello-rnn\[spoken\]'"
    with pytest.raises(CorpusError, match=wanted), espeak.engine():
        pass


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import sys; sys.exit('no phonemes')", "stopped with exit code 1: no phonemes; reinstall"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"was killed by SIGSEGV: \(it printed nothing\)"),
        ("print('hello')", "answered 6 bytes that are not 1 utterances"),
        ("pass", "answered 0 bytes that are not 1 utterances"),
    ],
)
def test_a_worker_that_fails_is_told_with_what_it_printed(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(CorpusError, match=why):
        say(NOWHERE, HELLO, longest_ms=900, worker=worker(tmp_path, text))


def test_a_worker_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "_TIMEOUT_S", 0.2)
    with pytest.raises(CorpusError, match=r"did not finish 1 utterances in 0\.2 s"):
        say(NOWHERE, HELLO, longest_ms=900, worker=worker(tmp_path, "import time; time.sleep(60)"))


def test_a_library_that_cannot_be_loaded_is_told() -> None:
    with pytest.raises(CorpusError, match="no-library"):
        say(NOWHERE, HELLO, longest_ms=900)
