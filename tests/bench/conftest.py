"""A rate of products that takes no time to measure: it is printed beside figures that do not depend on it."""

from __future__ import annotations

import pytest

from cello.bench import measure


@pytest.fixture(autouse=True)
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "GEMM", 64)
