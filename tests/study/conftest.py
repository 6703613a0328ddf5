"""A small study and its stand-in for training, importable by name as worker processes import it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from small_study import small, source

__all__ = ["small", "source"]
