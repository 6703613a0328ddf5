"""Compiling generated C with the system's compiler, once for each text, compiler and processor."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path

import platformdirs

from cello.errors import BackendError

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O2", "-shared", "-fPIC", "-pthread", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-w")
REMEDY = (
    "Install one (Debian and Ubuntu: apt install gcc; Fedora: dnf install gcc; macOS: xcode-select --install), "
    'or use backend="plain".'
)


def compiler() -> str | None:
    """The C compiler on the search path, if there is one."""
    return next((found for name in COMPILERS if (found := shutil.which(name))), None)


@lru_cache(maxsize=1)
def can_compile() -> bool:
    """Whether C can be compiled here; where it cannot, that is said once."""
    if compiler() is not None:
        return True
    warnings.warn(
        f"no C compiler ({', '.join(COMPILERS)}) is on PATH, so cells run by plain evaluation, a few times slower. "
        f"{REMEDY}",
        stacklevel=4,
    )
    return False


def load(text: str, name: str, cache: Path | None = None) -> ctypes.CDLL:
    """The library of a C text, compiled unless it lies in the cache already.

    Any number of processes may ask at once: each compiles to a file of its own and renames it. A damaged file in the
    cache is compiled anew.

    Raises:
        BackendError: there is no compiler, or it fails.
    """
    program = compiler()
    if program is None:
        raise BackendError(f'backend="c" needs a C compiler, and none of {", ".join(COMPILERS)} is on PATH. {REMEDY}')
    folder = platformdirs.user_cache_path("cello") / "kernels" if cache is None else cache
    flags = (*FLAGS, *_native())
    key = "\0".join([text, *_version(program), *flags, processor()])
    path = folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.so"
    if path.exists():
        try:
            return ctypes.CDLL(str(path))
        except OSError:
            path.unlink(missing_ok=True)
    _compile(program, flags, text, path)
    return ctypes.CDLL(str(path))


def _compile(program: str, flags: tuple[str, ...], text: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".building-") as folder:
            source, library = Path(folder) / "kernel.c", Path(folder) / "kernel.so"
            source.write_text(text, encoding="utf-8")
            done = subprocess.run(
                [program, *flags, str(source), "-o", str(library), "-lm"], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise BackendError(
                    f"{program} cannot compile the kernel {path.stem}: {done.stderr.strip()[:600]} "
                    f'Report this, and use backend="plain" until it is mended.'
                )
            library.replace(path)
    except OSError as error:
        raise BackendError(
            f"the kernel {path.stem} cannot be compiled into {path.parent}: {error}. "
            f'Make room there, or use backend="plain".'
        ) from error


def _native() -> tuple[str, ...]:
    return ("-mcpu=native",) if platform.machine() in ("arm64", "aarch64") else ("-march=native",)


@lru_cache(maxsize=4)
def _version(program: str) -> tuple[str, ...]:
    """What tells one compiler from another without starting it: where it really lies, its size and its date."""
    path = Path(program).resolve()
    status = path.stat()
    return str(path), str(status.st_size), str(status.st_mtime_ns)


@lru_cache(maxsize=1)
def processor() -> str:
    """What tells one kind of processor from another, as the same cache may be seen from several machines."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    marks = ("model name", "flags", "Features", "CPU part")
    found = sorted({line for line in lines if line.startswith(marks)})
    return "\n".join([platform.machine(), platform.processor(), os.name, *found])
