"""What hurts: torch's newer setting of a precision, of which its older one tells nothing but an error."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import torch
from cello.compiler.triton.scan import precision
torch.backends.cuda.matmul.fp32_precision = "{}"
class Frames:
    dtype, is_cpu = torch.float32, False
print(precision(Frames()))
"""


@pytest.mark.parametrize("setting", ["ieee", "tf32"])
def test_products_are_as_either_setting_says(setting: str) -> None:
    ran = subprocess.run([sys.executable, "-c", CODE.format(setting)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == setting
