"""Tell the version of the NVIDIA driver that this system has loaded. Loads no torch."""

from __future__ import annotations

import re
from pathlib import Path


def loaded_driver() -> str:
    """The version of the NVIDIA driver; empty where the system does not tell it."""
    try:
        told = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r"Kernel Module\b.*?\s(\d+\.[\d.]+)", told)
    return found[1] if found else ""
