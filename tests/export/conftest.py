"""The self-test's programs in C, compiled once in a run of the tests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cello.export import self_test
from cello.files import whole


@pytest.fixture(autouse=True, scope="session")
def programs_of_the_self_test_are_kept() -> Iterator[None]:
    """Compile each text once, without optimisation: ``test_c99_builds`` compiles the C with it, and so do commands."""
    ran, folder = self_test._ran, Path(os.environ["XDG_CACHE_HOME"]) / "self-test"
    folder.mkdir(exist_ok=True)

    def ran_or_kept(command: Sequence[str], place: str, data: bytes = b"") -> bytes:
        if "-o" not in command:
            return ran(command, place, data)
        command = ["-O0" if word == "-O1" else word for word in command]
        program, texts = Path(place) / "check", sorted(Path(place).glob("*.[ch]"))
        key = repr((command, [(text.name, text.read_bytes()) for text in texts])).encode()
        kept = folder / hashlib.sha256(key).hexdigest()
        program.unlink(missing_ok=True)
        if not kept.exists():
            ran(command, place)
            with whole(kept) as temporary:
                program.replace(temporary)
        program.hardlink_to(kept)
        return b""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(self_test, "_ran", ran_or_kept)
        yield
