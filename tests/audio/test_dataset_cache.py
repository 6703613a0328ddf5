"""What hurts: a cached dataset that depends on how it was made, or is damaged or incomplete and used."""

from __future__ import annotations

import os
import random
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cello.audio import decoded as module
from cello.audio.dataset_cache import CachedDataset, Options, find_dataset, open_dataset
from cello.audio.folder import scan
from cello.audio.reading import Reading
from cello.audio.samples import SampleWriter
from cello.errors import CorpusError

OPTIONS = Options(16_000)


def opened(root: Path, cache: Path, options: Options = OPTIONS) -> CachedDataset:
    return open_dataset(scan(root), options, cache)


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, rate_hz: int, silent: bool = False) -> None:
        raise AssertionError(path)

    monkeypatch.setattr(module, "decode", refuse)


def test_an_opened_dataset_holds_every_file(tone_folder: Path, tmp_path: Path) -> None:
    dataset = opened(tone_folder, tmp_path)
    assert len(dataset.manifest.clips) == 60
    assert dataset.sound.dtype == np.int16
    assert not dataset.sound.flags.writeable
    for clip in dataset.manifest.clips:
        there, _ = soundfile.read(tone_folder / clip.name, dtype="int16")
        assert np.array_equal(dataset.sound[clip.start : clip.start + clip.samples], there)


def test_a_second_opening_decodes_nothing(tone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(tone_folder, tmp_path)
    forbid_decoding(monkeypatch)
    second = opened(tone_folder, tmp_path)
    assert second.manifest == first.manifest
    assert np.array_equal(second.sound, first.sound)


def test_checksum_does_not_depend_on_place_or_order(tone_folder: Path, tmp_path: Path) -> None:
    soundfile.write(tone_folder / "low" / "ffffffff_nohash_0.wav", np.full(50, 0.1), 8000)
    moved = tmp_path / "moved"
    for path in sorted(tone_folder.rglob("*.wav"), reverse=True):
        target = moved / path.relative_to(tone_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    assert opened(tone_folder, tmp_path / "a").manifest.checksum == opened(moved, tmp_path / "b").manifest.checksum


def test_checksum_depends_on_everything_that_counts(tone_folder: Path, tmp_path: Path) -> None:
    seen = {opened(tone_folder, tmp_path).manifest.checksum}

    def changed() -> bool:
        before = len(seen)
        seen.add(opened(tone_folder, tmp_path).manifest.checksum)
        return len(seen) == before + 1

    clip = next((tone_folder / "low").iterdir())
    sound, rate_hz = soundfile.read(clip, dtype="int16")
    sound[77] += 1
    soundfile.write(clip, sound, rate_hz)
    assert changed()
    clip.rename(clip.with_name("eeeeeeee_nohash_0.wav"))
    assert changed()
    (tone_folder / "low").rename(tone_folder / "deep")
    assert changed()
    (tone_folder / "_background_noise_").mkdir()
    soundfile.write(tone_folder / "_background_noise_" / "hum.wav", sound, rate_hz)
    assert changed()
    names = sorted(path.relative_to(tone_folder).as_posix() for path in (tone_folder / "high").iterdir())
    (tone_folder / "validation_list.txt").write_text("\n".join(names[:3]))
    (tone_folder / "testing_list.txt").write_text("\n".join(names[3:6]))
    assert changed()
    seen.add(
        opened(tone_folder, tmp_path, Options(16_000, Reading(speaker_pattern="([0-9a-f])_nohash"))).manifest.checksum
    )
    seen.add(opened(tone_folder, tmp_path, Options(8000)).manifest.checksum)
    assert len(seen) == 8


def test_noise_is_float_and_apart(tone_folder: Path, tmp_path: Path) -> None:
    (tone_folder / "_background_noise_").mkdir()
    for name, samples in (("a", 5000), ("b", 700)):
        soundfile.write(tone_folder / "_background_noise_" / f"{name}.wav", np.full(samples, 0.25), 16_000)
    for _ in range(2):
        dataset = opened(tone_folder, tmp_path)
        assert [len(noise) for noise in dataset.noise] == [5000, 700]
        assert all(noise.dtype == np.float32 and np.allclose(noise, 0.25, atol=1e-4) for noise in dataset.noise)
        assert len(dataset.manifest.clips) == 60


@pytest.mark.parametrize(
    "name", ["audio/*/sound.npy", "audio/*/noise.npy", "audio/*/index.msgpack", "manifests/*.json"]
)
@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "removed"])
def test_a_damaged_dataset_is_made_again(tone_folder: Path, tmp_path: Path, name: str, damage: str) -> None:
    (tone_folder / "_background_noise_").mkdir()
    soundfile.write(tone_folder / "_background_noise_" / "hum.wav", np.full(700, 0.25), 16_000)
    first = opened(tone_folder, tmp_path)
    sound = np.array(first.sound)
    (path,) = tmp_path.glob(name)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.unlink()
    if damage != "removed":
        path.write_bytes({"cut": whole[:middle], "flipped": flipped, "emptied": b""}[damage])
    again = opened(tone_folder, tmp_path)
    assert again.manifest == first.manifest
    assert np.array_equal(again.sound, sound)
    assert path.read_bytes() == whole


def test_a_dataset_stopped_half_way_leaves_nothing_to_trip_over(
    tone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [40]
    real = module.decode

    def interrupted(path: Path, rate_hz: int, silent: bool = False) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(path, rate_hz, silent)

    with monkeypatch.context() as patched:
        patched.setattr(module, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            opened(tone_folder, tmp_path)
    assert not [path for path in (tmp_path / "audio").iterdir() if path.is_dir()]
    assert len(opened(tone_folder, tmp_path).manifest.clips) == 60


def test_two_at_once_make_it_once(tone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Path] = []
    real = module.decode

    def counted(path: Path, rate_hz: int, silent: bool = False) -> object:
        decoded.append(path)
        return real(path, rate_hz, silent)

    monkeypatch.setattr(module, "decode", counted)
    datasets: list[CachedDataset] = []
    threads = [threading.Thread(target=lambda: datasets.append(opened(tone_folder, tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 60
    assert len({dataset.manifest.checksum for dataset in datasets}) == 1
    assert len(datasets) == 4


def test_a_new_time_alone_decodes_nothing_and_a_removed_file_is_noticed(
    tone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = next((tone_folder / "low").iterdir())
    before = opened(tone_folder, tmp_path).manifest
    with monkeypatch.context() as patched:
        forbid_decoding(patched)
        os.utime(clip, (1, 1))
        assert opened(tone_folder, tmp_path).manifest == before
    clip.unlink()
    assert len(opened(tone_folder, tmp_path).manifest.clips) == len(before.clips) - 1


def test_other_sound_under_the_same_names_sizes_and_times_is_another_corpus(tone_folder: Path, tmp_path: Path) -> None:
    noisy = tmp_path / "noisy"
    shutil.copytree(tone_folder, noisy)
    for path in noisy.rglob("*.wav"):
        content = path.read_bytes()
        path.write_bytes(content[:44] + bytes(byte ^ 1 for byte in content[44:]))
    for path in (*noisy.rglob("*.wav"), *tone_folder.rglob("*.wav")):
        os.utime(path, (1, 1))
    first = opened(tone_folder, tmp_path).manifest
    assert opened(noisy, tmp_path).manifest.checksum == opened(noisy, tmp_path / "fresh").manifest.checksum
    assert opened(noisy, tmp_path).manifest.checksum != first.checksum
    shutil.rmtree(tone_folder)
    noisy.rename(tone_folder)  # the same path as well
    assert opened(tone_folder, tmp_path).manifest.checksum != first.checksum


def test_a_corpus_that_changes_while_it_is_decoded_is_not_kept(
    tone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = sorted((tone_folder / "low").iterdir())
    real = module.decode

    def copying(path: Path, rate_hz: int, silent: bool = False) -> object:
        if path == clips[0]:
            shutil.copyfile(clips[1], clips[2])
        return real(path, rate_hz, silent)

    with monkeypatch.context() as patched:
        patched.setattr(module, "decode", copying)
        with pytest.raises(CorpusError, match=r"changed while they were read; wait until nothing writes"):
            opened(tone_folder, tmp_path)
    assert [path.name for path in (tmp_path / "audio").iterdir() if path.is_dir()] == []


def test_no_damage_of_a_dataset_gives_other_sound(tone_folder: Path, tmp_path: Path) -> None:
    for name in ("hum", "buzz"):
        (tone_folder / "_background_noise_").mkdir(exist_ok=True)
        soundfile.write(tone_folder / "_background_noise_" / f"{name}.wav", np.full(700, 0.25), 16_000)
    first = opened(tone_folder, tmp_path)
    checksum = first.manifest.checksum
    rng = random.Random(7)
    for name in ("manifests/*.json", "audio/*/index.msgpack", "audio/*/sound.npy", "audio/*/noise.npy"):
        (path,) = tmp_path.glob(name)
        whole = path.read_bytes()
        for _ in range(30 if path.suffix == ".npy" else 100):
            broken = bytearray(whole)
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
            path.write_bytes(broken[: rng.choice([len(broken), rng.randrange(len(broken))])])
            assert find_dataset(tmp_path, checksum) is None
        path.unlink()
        os.mkfifo(path)
        assert find_dataset(tmp_path, checksum) is None
        path.unlink()
        path.write_bytes(whole)
    assert find_dataset(tmp_path, "0" * 64) is None
    again = find_dataset(tmp_path, checksum)
    assert again is not None
    assert again.manifest == first.manifest


def read(root: Path, cache: Path, **said: object) -> CachedDataset:
    reading = Reading(**said)  # type: ignore[arg-type]
    return open_dataset(scan(root, reading), Options(16_000, reading), cache)


def test_four_readings_of_one_folder_keep_its_sound_once(tone_folder: Path, tmp_path: Path) -> None:
    """Before, each reading kept all samples: 4 × 1.9 MB here."""
    lines = [f"{path.relative_to(tone_folder)},{path.name[7]}" for path in sorted(tone_folder.rglob("*.wav"))]
    (tone_folder / "clips.csv").write_text("\n".join(["path,label", *lines]))
    datasets = [
        read(tone_folder, tmp_path),
        read(tone_folder, tmp_path, speaker_pattern="([0-9a-f])_nohash"),
        read(tone_folder, tmp_path, pattern=r"0(?P<label>[01])(?P<speaker>[0-9a-f])_"),
        read(tone_folder, tmp_path, table=str(tone_folder / "clips.csv")),
    ]
    assert len({dataset.manifest.checksum for dataset in datasets}) == 4
    assert len(list(tmp_path.glob("audio/*/sound.npy"))) == 1
    sound = 2 * sum(clip.samples for clip in datasets[0].manifest.clips)
    kept = sum(path.stat().st_size for place in ("audio", "manifests") for path in (tmp_path / place).rglob("*"))
    assert kept < 1.1 * sound


def test_some_of_the_files_and_parts_of_them_are_cut_from_those_that_are_there(
    tone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [path.relative_to(tone_folder).as_posix() for path in sorted(tone_folder.rglob("*.wav"))][:50:5]
    lines = [f"{name},{name[0]},{at},{at + 0.25}" for name in names for at in (0, 0.5)]
    (tone_folder / "parts.csv").write_text("\n".join(["path,label,start,end", *lines]))
    alone = read(tone_folder, tmp_path / "alone", table=str(tone_folder / "parts.csv"))
    (tone_folder / "parts.csv").rename(tmp_path / "parts.csv")
    read(tone_folder, tmp_path / "shared")
    forbid_decoding(monkeypatch)
    (tmp_path / "parts.csv").rename(tone_folder / "parts.csv")
    shared = read(tone_folder, tmp_path / "shared", table=str(tone_folder / "parts.csv"))
    assert shared.manifest.checksum == alone.manifest.checksum
    for one, other in zip(shared.manifest.clips, alone.manifest.clips, strict=True):
        assert one.samples == other.samples == 4000
        assert np.array_equal(shared.sound[one.start : one.start + 4000], alone.sound[other.start : other.start + 4000])
    kept = [path.stat().st_size for path in (tmp_path / "alone").glob("audio/*/sound.npy")]
    assert kept == [128 + 2 * 20 * 4000], "of a recording that only parts are wanted of, only those are kept"


def test_the_checksum_does_not_tell_what_else_was_decoded(tone_folder: Path, tmp_path: Path) -> None:
    """A clip of 24 bits among others makes all of them float32 in the cache; a table without it must not notice."""
    names = [path.relative_to(tone_folder).as_posix() for path in sorted(tone_folder.rglob("*.wav"))]
    (tone_folder / "some.csv").write_text("\n".join(["path,label", *(f"{name},{name[0]}" for name in names)]))
    alone = read(tone_folder, tmp_path / "alone", table=str(tone_folder / "some.csv"))
    soundfile.write(tone_folder / "low" / "deep.wav", np.full(800, 0.1), 16_000, subtype="PCM_24")
    wide = read(tone_folder, tmp_path / "shared")
    assert (alone.sound.dtype, wide.sound.dtype) == (np.int16, np.float32)
    again = read(tone_folder, tmp_path / "shared", table=str(tone_folder / "some.csv"))
    assert again.sound.dtype == np.float32
    assert again.manifest.checksum == alone.manifest.checksum
    assert len(list((tmp_path / "shared" / "audio").glob("[!.]*"))) == 1


def test_sound_that_was_decoded_anew_in_another_order_is_found(tone_folder: Path, tmp_path: Path) -> None:
    """Cleared and decoded again by a table whose names sort otherwise, the same key holds the clips elsewhere."""
    names = [path.relative_to(tone_folder).as_posix() for path in sorted(tone_folder.rglob("*.wav"))]
    for number, name in enumerate(names):
        (tone_folder / name).rename((tone_folder / name).with_name(f"{59 - number:08x}_nohash_0.wav"))
    files = sorted(tone_folder.rglob("*.wav"))
    (tone_folder / "t.csv").write_text("\n".join(["path,label", *(f"{f.name},{f.parent.name}" for f in files)]))
    first = read(tone_folder, tmp_path)
    sounds = {clip.name: first.sound[clip.start : clip.start + clip.samples].copy() for clip in first.manifest.clips}
    shutil.rmtree(tmp_path / "audio")
    other = read(tone_folder, tmp_path, table=str(tone_folder / "t.csv"))
    assert other.manifest.clips[0].label != first.manifest.clips[0].label
    again = read(tone_folder, tmp_path)
    assert len(list((tmp_path / "audio").glob("[!.]*"))) == 1
    assert again.manifest.checksum == first.manifest.checksum
    for clip in again.manifest.clips:
        assert np.array_equal(again.sound[clip.start : clip.start + clip.samples], sounds[clip.name])


def test_datasets_of_earlier_versions_hurt_nobody(tone_folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "datasets" / ("a" * 32)
    old.mkdir(parents=True)
    (old / "manifest.json").write_text('{"rule":"old","crc32":"00000000"}')
    (old / "sound.npy").write_bytes(b"half")
    assert len(opened(tone_folder, tmp_path).manifest.clips) == 60
    assert (old / "sound.npy").read_bytes() == b"half"


def test_a_link_to_a_folder_is_named_as_one(tone_folder: Path, tmp_path: Path) -> None:
    (tone_folder / "low" / "more").symlink_to(tone_folder / "high")
    (bad,) = opened(tone_folder, tmp_path).manifest.bad
    assert (bad.name, bad.reason) == ("low/more", "a link to a folder, which is not followed")


def test_a_cache_that_cannot_be_written_is_named(tone_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match=r"cannot write .*file.*choose another folder for the cache"):
        opened(tone_folder, tmp_path / "file")


def test_a_full_disk_is_named_and_nothing_half_made_stays(
    tone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: SampleWriter, sound: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SampleWriter, "append", full)
    with pytest.raises(
        CorpusError, match=r"cannot be kept in .* \(No space left on device\); free space there or choose"
    ):
        opened(tone_folder, tmp_path)
    assert [path.name for path in (tmp_path / "audio").iterdir() if path.is_dir()] == []


def test_progress_counts_every_file(tone_folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    open_dataset(scan(tone_folder), OPTIONS, tmp_path, lambda *step: seen.append(step))
    assert seen[-1] == ("decoding", 60, 60)
    assert len(seen) > 10
