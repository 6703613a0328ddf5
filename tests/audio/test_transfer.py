"""A corpus sent to another machine must be the same to the last sample, or not be there at all."""

from __future__ import annotations

import os
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cello.audio import transfer
from cello.audio.corpus import Corpus
from cello.audio.open import open_corpus
from cello.audio.transfer import chunks, finalise, find, receive
from cello.errors import CorpusError


@pytest.mark.parametrize("noise", [True, False])
def test_a_corpus_arrives_as_it_was_sent(
    noise: bool, tone_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 100_000)
    sent = tone_corpus if noise else Corpus(tone_corpus.manifest, tone_corpus.sound)
    checksum = sent.manifest.checksum
    travelling = list(chunks(sent))
    assert len(travelling) > 10
    assert all(after.offset > before.offset for before, after in pairwise(travelling) if before.file == after.file)
    for chunk in travelling:
        receive(tmp_path, checksum, "one", chunk)
    assert find(tmp_path, "tones", checksum) is None
    finalise(tmp_path, checksum, "one")
    found = find(tmp_path, "renamed", checksum)
    assert found is not None
    assert found.manifest.corpus == "renamed"
    assert found.manifest.clips == sent.manifest.clips
    assert np.array_equal(found.sound, sent.sound)
    assert [each.tolist() for each in found.noise] == [each.tolist() for each in sent.noise]


def test_what_does_not_arrive_whole_is_not_taken(tone_corpus: Corpus, tmp_path: Path) -> None:
    *most, last = chunks(tone_corpus)
    checksum = tone_corpus.manifest.checksum
    for chunk in most:
        receive(tmp_path, checksum, "torn", chunk)
    with pytest.raises(CorpusError, match=r"differs from the one sent; run the same command again"):
        finalise(tmp_path, checksum, "torn")
    receive(tmp_path, checksum, "torn", last)
    sound = next(tmp_path.glob("packs/.*/sound.npy"))
    sound.write_bytes(sound.read_bytes()[:-1])
    with pytest.raises(CorpusError, match="differs from the one sent"):
        finalise(tmp_path, checksum, "torn")
    assert find(tmp_path, "tones", checksum) is None
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match=r"cannot be written to the cache .*file'.*; free space there or"):
        receive(tmp_path / "file", checksum, "x", last)


def test_a_corpus_that_was_decoded_here_need_not_be_sent(tone_folder: Path, tmp_path: Path) -> None:
    here = open_corpus(f"folder:{tone_folder}", cache=tmp_path)
    found = find(tmp_path, here.manifest.corpus, here.manifest.checksum)
    assert found is not None
    assert np.array_equal(found.sound, here.sound)
    assert found.manifest.clips == here.manifest.clips
    assert find(tmp_path, "tones", "f" * 64) is None


def test_no_damage_of_a_corpus_that_was_sent_gives_other_sound(tone_corpus: Corpus, tmp_path: Path) -> None:
    checksum = tone_corpus.manifest.checksum
    for chunk in chunks(tone_corpus):
        receive(tmp_path, checksum, "one", chunk)
    finalise(tmp_path, checksum, "one")
    (folder,) = tmp_path.glob("packs/[!.]*")
    rng = random.Random(7)
    for name in ("manifest.json", "sound.npy", "noise.npy"):
        whole = (folder / name).read_bytes()
        for _ in range(60 if name == "manifest.json" else 20):
            broken = bytearray(whole)
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
            (folder / name).write_bytes(broken[: rng.choice([len(broken), rng.randrange(len(broken))])])
            assert find(tmp_path, "tones", checksum) is None
        (folder / name).unlink()
        os.mkfifo(folder / name)
        assert find(tmp_path, "tones", checksum) is None
        (folder / name).unlink()
        (folder / name).write_bytes(whole)
    assert find(tmp_path, "tones", checksum) is not None


def test_arrays_of_two_kinds_arrive_as_one(tone_corpus: Corpus, tmp_path: Path) -> None:
    half, after = int(tone_corpus.starts[20]), int(tone_corpus.lengths[20])
    rest = tone_corpus.sound[half:] * np.float32(1 / 32768)
    sent = Corpus(tone_corpus.manifest, tone_corpus.sound[:half], more=[rest[:after], rest[after:]])
    checksum = sent.manifest.checksum
    for chunk in chunks(sent):
        receive(tmp_path, checksum, "one", chunk)
    finalise(tmp_path, checksum, "one")
    found = find(tmp_path, "tones", checksum)
    assert found is not None
    every = np.arange(len(sent.lengths))
    clips = [each.audio(every)[0] for each in (found, sent, tone_corpus)]
    assert np.array_equal(clips[0], clips[2])
    assert np.array_equal(clips[1], clips[2])
