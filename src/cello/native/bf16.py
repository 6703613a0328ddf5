"""Tell whether this machine's processor multiplies bfloat16 numbers. Loads no torch."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path

INSTRUCTION = "AVX512-BF16"
CPUINFO = Path("/proc/cpuinfo")
"""Where Linux says what a processor can do."""


@lru_cache(maxsize=1)
def missing_bf16() -> str | None:
    """Why this CPU takes no products in bfloat16, in words that follow "needs AVX512-BF16"; None: it does."""
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in ("x86_64", "AMD64"):
        return f"which Cello uses on Linux and x86-64, not on {system} and {machine}"
    if "avx512_bf16" not in _told("flags").split():
        return f"which this CPU ({_told('model name') or machine}) does not have"
    return None


def _told(what: str) -> str:
    """What Linux tells of the first processor; nothing where it does not."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = (line for line in text.splitlines() if line.startswith(what))
    return next(lines, "").partition(":")[2].strip()
