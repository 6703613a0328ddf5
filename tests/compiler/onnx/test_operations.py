"""Each operation of the language as ONNX means what it means in torch; one without a row is refused by name."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from cello.cells.graph import POINTWISE
from cello.compiler.onnx.operations import ROWS, row
from cello.compiler.onnx.writer import Writer
from cello.compiler.operations import TORCH
from cello.errors import BackendError

VALUES = np.array([-90, -1, -0.5, 0.0, 0.25, 1, 3, 90], np.float32)


@pytest.mark.parametrize("op", POINTWISE)
def test_an_operation_means_what_it_means_in_torch(op: str) -> None:
    count = POINTWISE[op]
    values = [np.roll(VALUES, shift) for shift in range(count)]
    writer = Writer()
    writer.write("Identity", row(op)(writer, *(f"v{k}" for k in range(count))), to="out")
    model = writer.model(
        {f"v{k}": ("float", (len(VALUES),)) for k in range(count)}, {"out": ("float", (len(VALUES),))}, "g", "", {}
    )
    session = onnxruntime.InferenceSession(model)
    found = session.run(None, {f"v{k}": value for k, value in enumerate(values)})[0]
    expected = TORCH[op](*map(torch.from_numpy, values))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_every_operation_has_a_row() -> None:
    assert set(ROWS) == {*POINTWISE, "product"}


def test_an_operation_without_a_row_is_refused_with_its_name_and_the_target() -> None:
    with pytest.raises(BackendError, match=r"operation 'sine' has no row for ONNX in compiler/onnx/operations.py; exp"):
        row("sine")


def test_a_number_beyond_float32_is_infinite() -> None:
    writer = Writer()
    writer.write("Add", "x", writer.constant(1e300), to="out")
    model = writer.model({"x": ("float", (1,))}, {"out": ("float", (1,))}, "g", "", {})
    assert onnxruntime.InferenceSession(model).run(None, {"x": np.zeros(1, np.float32)})[0] == np.inf
