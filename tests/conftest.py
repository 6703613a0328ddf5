"""Fixtures shared by all tests: small made-up sounds, so that no test needs real recordings."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads that fight over two cores cost ten times
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a hundred processes would each compile all of Cello

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from cello.audio.corpus import Clip, Corpus, Manifest, Split

sys.path.insert(0, str(Path(__file__).parent))  # damage.py, for the tests of every file that is read back; wanted.py
from tones import RATE_HZ, WORDS, tone, write_wav
from wanted import check

gc.disable()  # until all is collected: what is imported stays, and looking through it takes a third of that time
settings.register_profile("cello", deadline=None)  # a busy machine is no bug
settings.load_profile("cello")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it, and children too


class Uncompiled(ModuleType):
    """In place of numba, by which librosa, once imported, compiles for 20 s what no test calls: it stays Python."""

    @staticmethod
    def __getattr__(name: str) -> Callable[..., object]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *given, **options: given[0] if given and callable(given[0]) else lambda function: function


sys.modules.setdefault("numba", Uncompiled("numba"))
CACHE = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """One cache for all processes of a run, so that no kernel is compiled twice, none of them the user's own."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = config.stash[CACHE] = tempfile.TemporaryDirectory(prefix="cello-tests-", ignore_cleanup_errors=True)
        os.environ["XDG_CACHE_HOME"] = folder.name
        os.environ.pop("CELLO_CACHE", None)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the run's cache."""
    if CACHE in config.stash:
        config.stash[CACHE].cleanup()


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Examples are those of Cello's own docstrings: looking for them among the tests takes half a second."""
    found = yield
    return [each for each in found if type(each).__name__ != "DoctestModule"]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Look for garbage again, but not among what the tests begin with."""
    gc.freeze()
    gc.set_threshold(20_000)  # a test that needs a collection asks for it
    gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Hold a test back that wants a program which is not here."""
    check(program for mark in item.iter_markers("wants") for program in mark.args)


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests note the studies that they make in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def compiled_quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels without optimisation, in a third of the time, where it is the text in C that is tested."""
    from cello.compiler.c.launch import compiled
    from cello.native import build

    compiled.cache_clear()  # before and after, as no other test expects them
    monkeypatch.setattr(build, "FLAGS", tuple(flag.replace("-O2", "-O0") for flag in build.FLAGS))
    yield
    compiled.cache_clear()


@pytest.fixture
def kernels_of_all(tmp_path: Path) -> None:
    """A cache in ``tmp_path / "cache"`` that has the kernels which were compiled in this run of the tests before."""
    from cello.native.cache import kernel_folder, make_private

    kernels = kernel_folder()
    make_private(kernels)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "kernels").symlink_to(kernels)


@pytest.fixture
def tone_folder(tmp_path: Path) -> Path:
    """A folder of class folders, 3 words × 20 speakers × 1 clip, named as Speech Commands names them."""
    root = tmp_path / "tones"
    for number, word in enumerate(WORDS):
        for speaker in range(20):
            samples = RATE_HZ - 400 * (speaker % 3)
            write_wav(root / word / f"{speaker:08x}_nohash_0.wav", tone(word, 100 * number + speaker, samples))
    return root


def make_tone_corpus() -> Corpus:
    """The same kind of clips in memory: 3 words, 24 training, 9 validation and 9 test clips, some shorter."""
    clips: list[Clip] = []
    pieces: list[NDArray[np.int16]] = []
    start = 0
    splits: list[tuple[Split, int]] = [("train", 8), ("validation", 3), ("test", 3)]
    for split, each in splits:
        for number, word in enumerate(WORDS):
            for k in range(each):
                sound = tone(word, 1000 * number + len(clips), RATE_HZ - 1000 * (k % 3))
                name = f"{word}/{split}{k}.wav"
                clips.append(
                    Clip(name=name, label=word, split=split, speaker=f"{split}{k}", start=start, samples=len(sound))
                )
                pieces.append(sound)
                start += len(sound)
    manifest = Manifest(
        corpus="tones", rate_hz=RATE_HZ, labels=WORDS, clips=tuple(clips), bad=(), checksum="0" * 64, source="memory"
    )
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE_HZ).astype(np.float32)
    return Corpus(manifest, np.concatenate(pieces), [noise])


@pytest.fixture
def tone_corpus() -> Corpus:
    """The corpus that ``make_tone_corpus`` makes."""
    return make_tone_corpus()


@pytest.fixture(scope="session")
def tones() -> Callable[[], Corpus]:
    """The same for fixtures that live longer than a test."""
    return make_tone_corpus


@pytest.fixture(scope="session")
def tone_manifest() -> Manifest:
    """What the corpus of tones says of itself, for fixtures that many tests share."""
    return make_tone_corpus().manifest


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder exported in every form; tests that change it copy it first."""
    import made_packages  # which imports torch

    return made_packages.make_package(tmp_path_factory.mktemp("exported"), make_tone_corpus().manifest)
