"""Compile generated C with the system's compiler, once for each text, compiler and processor.

Functions that many texts call are a text of their own, compiled once and linked with each.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cello.errors import BackendError
from cello.native.cache import keep, kept, kernel_folder, make_private

LIBRARY, OBJECT = ".so", ".o"
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O2", "-fPIC", "-pthread", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-w")
INSTALL = "Debian and Ubuntu: apt install gcc; Fedora: dnf install gcc; macOS: xcode-select --install"
OTHER = "Name another compiler with CC"
PLAIN = "or set --execution.backend plain"
CHOICES = f"choose a cache with --cache, {PLAIN}"
LONGEST_S, LONGEST_TRIAL_S = 1200, 60
"""Seconds that a compiler may take: for any cell, and for the trial, which takes a good one a tenth of a second."""
TRIAL = """\
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
typedef float vec __attribute__((vector_size(16)));
int32_t trial(int32_t n) {
    const vec v = {n, n + 1, n + 2, n + 3}, w = v * v + sqrtf(v[2]);
    return (int32_t)w[1];
}
"""
"""A kernel that needs what all kernels need; ``trial(7)`` is 67."""


def compilers() -> list[tuple[str, ...]]:
    """The commands that may compile C, the first choice first: what CC says, or else all compilers on the path."""
    asked = os.environ.get("CC", "").strip()
    if asked:
        try:
            program, *words = shlex.split(asked)
        except ValueError:
            return []
        path = shutil.which(program)
        return [(path, *words)] if path else []
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    paths = [shutil.which(name, path=folder) for name in COMPILERS for folder in folders if folder]
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for path in filter(None, paths):  # ccache lies there under several names, and /bin may be /usr/bin
        found.setdefault((os.path.realpath(path), Path(path).name), (path,))
    return [*found.values()]


def compiler() -> tuple[str, ...] | None:
    """The command that compiles C, if there is one."""
    return next(iter(compilers()), None)


@lru_cache(maxsize=1)
def missing_compiler() -> str | None:
    """Why C cannot be compiled, kept and run here; None if it can."""
    try:
        _working(kernel_folder(), os.environ.get("CC"), os.environ.get("PATH"))
    except BackendError as error:
        return str(error)
    return None


def load(text: str, name: str, cache: Path | None = None, *, shared: tuple[str, str] | None = None) -> ctypes.CDLL:
    """The library of a C text, compiled unless it lies in the cache already.

    ``shared`` is the name and the C of functions that this text calls and others too: compiled once for all of them.
    Any number of processes may ask at once: each compiles to a file of its own and renames it. A damaged file in the
    cache is compiled anew.

    Raises:
        BackendError: there is no compiler, it fails, or the cache cannot be used.
    """
    folder = kernel_folder() if cache is None else cache
    builder = _Builder(_working(folder, os.environ.get("CC"), os.environ.get("PATH")), folder, LONGEST_S)
    return builder.load(name, text, shared)


@lru_cache(maxsize=8)
def _working(folder: Path, asked: str | None, path: str | None) -> tuple[str, ...]:
    """The first compiler whose trial runs; ``asked`` and ``path`` are what the environment says, CC and PATH.

    Raises:
        BackendError: there is none; why the first choice fails.
    """
    fault: BackendError | None = None
    for command in compilers():
        try:
            if _Builder(command, folder, LONGEST_TRIAL_S).load("trial", TRIAL).trial(7) == 67:
                return command
            raise AttributeError("it gives a wrong result")
        except AttributeError as error:
            text = f"what {shlex.join(command)} compiles does not run ({error}). {OTHER}, {PLAIN}."
            fault = fault or BackendError(text)
        except BackendError as error:
            fault = fault or error
    if fault is None and (asked or "").strip():
        fault = BackendError(f"CC is {asked!r}, which is no program on PATH. {OTHER}, {PLAIN}.")
    raise fault or BackendError(
        f"no C compiler ({', '.join(COMPILERS)}) is on PATH. Install one ({INSTALL}), name one with CC, {PLAIN}."
    )


@dataclass(frozen=True)
class _Builder:
    """A compiler, the folder where what it makes is kept, and the seconds that it may take for each text."""

    command: tuple[str, ...]
    folder: Path
    longest_s: float

    def load(self, name: str, text: str, shared: tuple[str, str] | None = None) -> ctypes.CDLL:
        """The library of a text and of those functions of ``shared`` that it calls.

        Raises:
            BackendError: it cannot be compiled, kept or run.
        """
        try:
            make_private(self.folder)
            stem = self._stem(name, text, *(shared or ()))
            path = kept(self.folder, stem, LIBRARY)
            if path is not None:
                try:
                    return ctypes.CDLL(str(path))
                except OSError:
                    path.unlink(missing_ok=True)
            objects = [] if shared is None else [str(self._object(*shared))]
            path = self._compiled(name, text, stem, LIBRARY, *objects, "-lm")
        except OSError as error:
            raise BackendError(
                f"the kernel {name} cannot be compiled into {self.folder}: {error}. Make room there, {CHOICES}."
            ) from error
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:
            reason = str(error).removeprefix(f"{path}: ")
            raise BackendError(
                f"the kernel {name} cannot be run from {self.folder}: {reason}. "
                f"Where a disk forbids programs (noexec), {CHOICES}."
            ) from error

    def _object(self, name: str, text: str) -> Path:
        """The functions of a text, for texts that call them."""
        stem = self._stem(name, text)
        return kept(self.folder, stem, OBJECT) or self._compiled(name, text, stem, OBJECT)

    def _stem(self, name: str, *texts: str) -> str:
        """A name in the cache that tells what is made of these texts here from everything else."""
        key = "\0".join([*texts, *_version(self.command), *FLAGS, *_native(), processor()])
        return f"{re.sub(r'[^A-Za-z0-9_]+', '-', name)[:60]}-{hashlib.sha256(key.encode()).hexdigest()[:24]}"

    def _compiled(self, name: str, text: str, stem: str, kind: str, *linked: str) -> Path:
        """Where a text is kept, compiled to a library with what is ``linked``, or to an object."""
        command = [*self.command, *FLAGS, *_native(), "-c" if kind == OBJECT else "-shared"]
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".building-") as scratch:
            source, made = Path(scratch) / "kernel.c", Path(scratch) / f"kernel{kind}"
            source.write_text(text, encoding="utf-8")
            fault = _run([*command, str(source), "-o", str(made), *linked], Path(scratch), self.longest_s)
            if fault is None and not made.is_file():
                fault = "it writes no library"
            if fault is not None:
                raise BackendError(
                    f"{self.command[0]} cannot compile the kernel {name} in {self.folder}: {fault}. {OTHER}, {CHOICES}."
                )
            return keep(self.folder, stem, made)


def _run(command: list[str], scratch: Path, longest_s: float) -> str | None:
    """Run a compiler, which is ended with all that it started if it takes too long; why it failed, if it did."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
    except OSError as error:
        return f"it cannot be started ({error.strerror})"
    try:
        said = process.communicate(timeout=longest_s)[1].decode("utf-8", "replace")
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return f"it was not done after {longest_s:g} s"
        raise
    if process.returncode == 0:
        return None
    lines = [line.strip() for line in said.splitlines() if line.strip()] or [f"it ended with {process.returncode}"]
    told = next((line for line in lines if "error" in line.lower()), lines[0]).replace(f"{scratch}/", "")
    return "".join(char if char.isprintable() else " " for char in told[:300]).rstrip(".")


def _native() -> tuple[str, ...]:
    return ("-mcpu=native",) if platform.machine() in ("arm64", "aarch64") else ("-march=native",)


@lru_cache(maxsize=16)
def _version(command: tuple[str, ...]) -> tuple[str, ...]:
    """What tells one compiler from another without starting it: the words, where each program lies, its size, date."""
    found = list(command)
    for word in command:
        if program := shutil.which(word):
            path = Path(program).resolve()
            status = path.stat()
            found += [str(path), str(status.st_size), str(status.st_mtime_ns)]
    return tuple(found)


@lru_cache(maxsize=1)
def processor() -> str:
    """What tells one kind of processor from another, as the same cache may be seen from several machines."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    marks = ("model name", "flags", "Features", "CPU part")
    found = sorted({line for line in lines if line.startswith(marks)})
    return "\n".join([platform.machine(), platform.processor(), os.name, *found])
