"""What a run's figures were measured on, and with. Loads no torch, so that workers can be compared at once."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import cello


def hardware() -> dict[str, str]:
    """What the figures of a run were measured on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "threads": "1",
    }


def processor() -> str:
    """The processor's own name where the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """The versions that a run's figures may depend on."""
    return {"cello": cello.__version__, "torch": metadata.version("torch"), "python": platform.python_version()}
