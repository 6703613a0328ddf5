"""Name the hardware and versions that a run is measured with. Loads no torch."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import cello


def hardware(threads: int = 1) -> dict[str, str]:
    """The hardware that a run is measured on, with so many threads."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "threads": str(threads),
    }


def processor() -> str:
    """The processor's own name where the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int | None:
    """Bytes of this machine's memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def versions() -> dict[str, str]:
    """The versions that a run's figures may depend on."""
    return {"cello": cello.__version__, "torch": metadata.version("torch"), "python": platform.python_version()}


@lru_cache(maxsize=1)
def source() -> str:
    """The first 12 hexadecimal digits of SHA-256 over the package's code: the same only for the same source files."""
    found, folder = hashlib.sha256(), Path(cello.__file__).parent
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".h", ".c")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(folder).as_posix()}:{len(content)}:".encode() + content)
    return found.hexdigest()[:12]
