"""What hurts: a figure beside published ones that is of other clips, a test speaker who trains, silence left out."""

from __future__ import annotations

import hashlib
import io
import math
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cello.audio import speech_commands
from cello.audio.choice import SILENCE, STANDARD, UNKNOWN
from cello.audio.corpus import SPLITS, Corpus, Split
from cello.audio.open import open_corpus
from cello.audio.speech_commands import TEST_SETS, VERSIONS, Release
from cello.audio.splits import official_split
from cello.audio.twelve import volume
from cello.errors import CorpusError

OTHERS = ("bed", "cat", "dog")
EACH: dict[Split, int] = {"train": 5, "validation": 2, "test": 3}
SPEC = "speech-commands:v0.02:12"


def speakers(split: Split) -> list[str]:
    found = (name for k in range(1000) if official_split(name := f"{k * 7919:08x}") == split)
    return [next(found) for _ in range(EACH[split])]


def wav(value: float, samples: int = 400) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.full(samples, value), 16_000, format="WAV", subtype="PCM_16")
    return out.getvalue()


def pack(path: Path, files: Mapping[str, bytes]) -> str:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def whole() -> dict[str, bytes]:
    """The archive of all words, every clip of another value, its test clips among them."""
    files, listed = {}, {"validation": "", "test": ""}
    for number, word in enumerate((*STANDARD, *OTHERS)):
        for split in SPLITS:
            for take, speaker in enumerate(speakers(split)):
                name = f"{word}/{speaker}_nohash_0.wav"
                files[name] = wav(0.1 + number / 100 + take / 1000)
                if split in listed:
                    listed[split] += f"{name}\n"
    files["validation_list.txt"] = listed["validation"].encode()
    files["testing_list.txt"] = listed["test"].encode()
    for name in ("hum", "tap"):
        files[f"_background_noise_/{name}.wav"] = wav(0.5, 11 * 16_000)
    return files


def archived(swapped: str = "") -> dict[str, bytes]:
    """The archive of test clips: 30 of words, 3 unknown, 3 of silence, of which one is all zero."""
    who = speakers("test")
    files = {f"{word}/{speaker}_nohash_0.wav": wav(0.9) for word in STANDARD for speaker in who}
    for word, speaker in zip(OTHERS, [swapped or who[0], *who[1:]], strict=True):
        files[f"{UNKNOWN}/{word}_{speaker}_nohash_0.wav.wav"] = wav(0.8)
    for number, value in enumerate((0.0, 0.01, 0.02)):
        files[f"{SILENCE}/{117 * number}.wav"] = wav(value, 16_000)
    files["README.md"] = b"Test files"
    return files


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose two archives the code takes for the published ones."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        for known, name, files in ((VERSIONS, "whole", whole()), (TEST_SETS, "test", archived())):
            sha256 = pack(folder / f"{name}.tar.gz", files)
            place = f"http://127.0.0.1:{http.server_address[1]}/{name}.tar.gz"
            monkeypatch.setitem(known, "v0.02", Release(place, sha256))
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield folder
        http.shutdown()
        thread.join()


def serve(monkeypatch: pytest.MonkeyPatch, served: Path, files: Mapping[str, bytes]) -> None:
    """Put another test archive in the place of the first."""
    sha256 = pack(served / "test.tar.gz", files)
    monkeypatch.setitem(TEST_SETS, "v0.02", Release(TEST_SETS["v0.02"].url, sha256))


def counts(corpus: Corpus) -> dict[str, list[int]]:
    found = Counter((clip.label, clip.split) for clip in corpus.manifest.clips)
    return {label: [found[label, split] for split in SPLITS] for label in corpus.manifest.labels}


def test_the_published_archives_are_expected() -> None:
    assert (VERSIONS["v0.02"].size, TEST_SETS["v0.02"].size) == (2_428_923_189, 112_563_277)
    assert TEST_SETS["v0.02"].sha256 == "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df"
    assert TEST_SETS["v0.02"].url.endswith("download.tensorflow.org/data/speech_commands_test_set_v0.02.tar.gz")


@pytest.mark.usefixtures("served")
def test_counts_are_those_of_the_official_rule_and_of_the_test_archive(tmp_path: Path) -> None:
    corpus = open_corpus(SPEC, cache=tmp_path / "cache")
    tenth = [math.ceil(10 * EACH[split] / 10) for split in SPLITS]
    assert counts(corpus) == {
        **{word: [5, 2, 3] for word in STANDARD},
        UNKNOWN: tenth,
        SILENCE: tenth,
    }
    manifest = corpus.manifest
    assert manifest.corpus == "speech-commands-v0.02-12"
    assert manifest.source == (
        f"{SPEC}, the 12-class task: ten words, 10 % unknown words and 10 % silence; tested on the official test "
        "archive, split by validation_list.txt and testing_list.txt"
    )
    assert manifest.warnings == ()
    assert manifest.bad == ()
    again = open_corpus(SPEC, cache=tmp_path / "cache")
    assert again.manifest == manifest


@pytest.mark.usefixtures("served")
def test_the_test_clips_are_the_archives_and_their_speakers_do_not_train(tmp_path: Path) -> None:
    corpus = open_corpus(SPEC, cache=tmp_path / "cache")
    sound, _ = corpus.audio(corpus.indices("test"))
    clips = [clip for clip in corpus.manifest.clips if clip.split == "test"]
    expected = {name: content for name, content in archived().items() if name.endswith(".wav")}
    assert {clip.name for clip in clips} == set(expected)
    for clip, row in zip(clips, sound, strict=True):
        there, _ = soundfile.read(io.BytesIO(expected[clip.name]), dtype="float32")
        assert np.array_equal(row[: clip.samples], there)
    there = {clip.speaker for clip in clips}
    assert set(speakers("test")) < there
    assert not there & {clip.speaker for clip in corpus.manifest.clips if clip.split != "test"}
    names = {clip.speaker for clip in clips if clip.label == UNKNOWN}
    assert names == set(speakers("test")), "the word stands before the speaker in the names of unknown words"


@pytest.mark.usefixtures("served")
def test_silence_for_training_is_quiet_and_some_of_it_is_zero(tmp_path: Path) -> None:
    corpus = open_corpus(SPEC, cache=tmp_path / "cache")
    rows = np.array([k for k, c in enumerate(corpus.manifest.clips) if c.label == SILENCE and c.split == "train"])
    sound, lengths = corpus.audio(rows)
    assert set(lengths) == {16_000}
    for row, at in zip(sound, rows, strict=True):
        assert np.allclose(row, 0.5 * volume(corpus.manifest.clips[at].name), atol=1e-4)
    volumes = np.array([volume(f"{SILENCE}/train_{k:05d}") for k in range(2000)])
    assert volumes.max() <= 0.1
    assert 0.17 < np.mean(volumes == 0) < 0.23
    assert 0.045 < volumes[volumes > 0].mean() < 0.055


def test_a_test_archive_whose_speakers_train_is_refused(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, served, archived(swapped=speakers("train")[0]))
    with pytest.raises(
        CorpusError,
        match=r"1 clips of the test archive have speakers of the training or validation clips, for .*'_unknown_/bed_0",
    ):
        open_corpus(SPEC, cache=tmp_path / "cache")


def test_a_test_archive_with_other_folders_is_refused(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, served, {name: content for name, content in archived().items() if not name.startswith("yes")})
    with pytest.raises(CorpusError, match=r"is not the 12-class test archive .* differs in the folders 'yes'; remove"):
        open_corpus(SPEC, cache=tmp_path / "cache")


@pytest.mark.usefixtures("served")
def test_other_test_clips_are_another_corpus(tmp_path: Path, served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_corpus(SPEC, cache=tmp_path / "a").manifest.checksum
    serve(monkeypatch, served, {**archived(), "yes/" + speakers("test")[0] + "_nohash_0.wav": wav(0.7)})
    assert open_corpus(SPEC, cache=tmp_path / "b").manifest.checksum != first


def test_what_the_task_says_itself_cannot_be_said_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_commands, "fetch", lambda *_, **__: tmp_path)
    monkeypatch.setattr(speech_commands, "fetch_test", lambda *_, **__: tmp_path)
    with pytest.raises(
        CorpusError, match=r"has its own labels, splits and speakers; leave out .* from speech-commands:"
    ):
        open_corpus(SPEC, cache=tmp_path / "cache", reading={"choice": {"labels": ["yes", "no"]}})
    for spec, near in (("speech-commands:v0.01:12", "v0.02:12"), ("speech-commands:v0.02:35", "v0.02:12")):
        with pytest.raises(CorpusError, match=rf"unknown task of speech-commands 'v.*'; did you mean '{near}'\?"):
            open_corpus(spec, cache=tmp_path / "cache")
