"""The small study of the tests of studies."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))

from small_study import small, source

__all__ = ["small", "source"]
