"""What hurts: a damaged kernel that is run, one that another user wrote, a folder that another user can write."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import platformdirs
import pytest

from cello.errors import BackendError
from cello.native.build import load
from cello.native.cache import keep, kept, kernel_folder, make_private

TEXT = "int seven(void) { return 7; }"
needs_compiler = pytest.mark.wants("cc")


def written(folder: Path, content: bytes, stem: str = "gru-1234") -> Path:
    make_private(folder)
    library = folder / "written.so"
    library.write_bytes(content)
    return keep(folder, stem, library)


def mutations(content: bytes, count: int, seed: int) -> list[bytes]:
    """Content with bits turned, its end lost, parts of it lost, written twice or overwritten by zeros."""
    rng, found = random.Random(seed), [b"", content[:1], content[:-1], content + b"\0"]
    while len(found) < count:
        at, size, changed = rng.randrange(len(content)), rng.randint(1, 600), bytearray(content)
        kind = rng.randrange(5)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            del changed[at : at + size]
        elif kind == 3:
            changed[at:at] = changed[at : at + size]
        else:
            changed[at : at + size] = bytes(len(changed[at : at + size]))
        if changed != content:
            found.append(bytes(changed))
    return found


def test_what_is_kept_is_found_again_under_its_own_name_only(tmp_path: Path) -> None:
    path = written(tmp_path, b"library")
    assert kept(tmp_path, "gru-1234", ".so") == path
    assert kept(tmp_path, "gru-123", ".so") is None
    assert [*tmp_path.iterdir()] == [path]


def test_no_damaged_library_is_taken(tmp_path: Path) -> None:
    path = written(tmp_path, random.Random(0).randbytes(30_000))
    content = path.read_bytes()
    for changed in mutations(content, 100, seed=1):
        path.write_bytes(changed)
        assert kept(tmp_path, "gru-1234", ".so") is None
        assert not path.exists()
        assert written(tmp_path, content) == path
    assert kept(tmp_path, "gru-1234", ".so") == path


@needs_compiler
def test_a_library_that_lost_its_end_is_compiled_anew(tmp_path: Path) -> None:
    load(TEXT, "seven", tmp_path / "elsewhere")
    (path,) = (tmp_path / "elsewhere").glob("seven-*.so")
    make_private(tmp_path / "here")
    damaged = tmp_path / "here" / path.name
    damaged.write_bytes(path.read_bytes()[:14_000])
    assert load(TEXT, "seven", tmp_path / "here").seven() == 7
    assert damaged.read_bytes() == path.read_bytes()


def test_another_kernels_library_is_not_taken(tmp_path: Path) -> None:
    one, other = written(tmp_path, b"one", "gru-1234"), written(tmp_path, b"other", "lstm-5678")
    other.replace(one)
    assert kept(tmp_path, "gru-1234", ".so") is None


def test_a_library_that_others_can_write_is_not_taken(tmp_path: Path) -> None:
    path = written(tmp_path, b"library")
    path.chmod(0o622)
    assert kept(tmp_path, "gru-1234", ".so") is None


def test_a_link_a_pipe_and_a_folder_are_not_taken(tmp_path: Path) -> None:
    path = written(tmp_path, b"library")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert kept(tmp_path, "gru-1234", ".so") is None
    os.mkfifo(path)
    assert kept(tmp_path, "gru-1234", ".so") is None
    path.mkdir()
    assert kept(tmp_path, "gru-1234", ".so") is None


def test_the_folder_is_its_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "kernels"
    make_private(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    make_private(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(written(folder, b"library").stat().st_mode) == 0o600


def test_another_users_folder_and_library_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, b"library")
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    if tmp_path.stat().st_uid == 0:
        pytest.skip("what root wrote is trusted")
    with pytest.raises(PermissionError, match="the folder belongs to another user"):
        make_private(tmp_path)
    assert kept(tmp_path, "gru-1234", ".so") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_that_was_given_to_another_user_is_not_taken(tmp_path: Path) -> None:
    path = written(tmp_path, b"library")
    os.chown(path, 65534, 65534)
    assert kept(tmp_path, "gru-1234", ".so") is None
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(PermissionError, match=r"the folder belongs to another user \(number 65534\)"):
        make_private(tmp_path)


def test_the_environment_says_where_kernels_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLO_CACHE", str(tmp_path))
    assert kernel_folder() == tmp_path / "kernels"
    monkeypatch.setenv("CELLO_CACHE", "")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: tmp_path / "home")
    assert kernel_folder() == tmp_path / "home" / "kernels"


def test_no_home_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(_: str) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("CELLO_CACHE", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_path", no_home)
    said = r"no folder for compiled cells \(could not .*\)\. Choose a cache with --cache, or set --execution\.backend "
    with pytest.raises(BackendError, match=said + "plain"):
        kernel_folder()
