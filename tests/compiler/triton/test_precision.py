"""What hurts: torch's newer setting of a precision, of which its older one tells nothing but an error."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cello.compiler.triton.scan import precision
from forked import forked


class Frames:
    dtype, is_cpu = torch.float32, False


@pytest.mark.parametrize("setting", ["ieee", "tf32"])
def test_products_are_as_either_setting_says(setting: str) -> None:
    frames: Any = Frames()

    def said() -> str:
        torch.backends.cuda.matmul.fp32_precision = setting  # which no process can take back
        return precision(frames)

    assert forked(said) == setting
