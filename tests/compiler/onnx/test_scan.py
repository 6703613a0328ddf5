"""A layer as ONNX, over time and step by step, is the reference: operators where a cell is one, loops elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cello.cells.definition import Cell, cell
from cello.cells.fold import fold, folded_weights
from cello.cells.functions import sigmoid, tanh
from cello.cells.load import load_cell, zoo
from cello.cells.signature import Scalar
from cello.compiler.inputs import Inputs
from cello.compiler.onnx.native import OPERATORS, operator_of
from cello.compiler.onnx.scan import Clips, LayerDirection, write_layer, write_step
from cello.compiler.onnx.step import StepWriter
from cello.compiler.onnx.writer import Writer
from cello.compiler.reference import reference
from random_cells import random_cell, rare
from sized_models import CELLS, direction_of, meant

LENGTHS = [5, 1, 3]
BATCH, TIME, INPUTS, HIDDEN = len(LENGTHS), max(LENGTHS), 3, 4


def directions(of: Cell, count: int) -> list[LayerDirection]:
    rng, hidden = np.random.default_rng(1), max(HIDDEN, 2 * of.multiple)  # heads of more than one unit
    shapes, found = of.parameters(INPUTS, hidden), []
    for n in range(count):
        weights = {k: rng.normal(0, 0.5, shape).astype(np.float32) for k, shape in shapes.items()}
        whole = {**weights, **of.fixed_values(INPUTS, hidden)}
        found.append(LayerDirection(fold(of)[0], folded_weights(of, whole), bool(n), hidden, INPUTS))
    return found


def frames() -> torch.Tensor:
    return torch.randn(BATCH, TIME, INPUTS, generator=torch.Generator().manual_seed(2))


def meaning(direction: LayerDirection, x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    weights = {name: torch.from_numpy(weight) for name, weight in direction.weights.items()}
    sizes = direction.cell.state_sizes(INPUTS, direction.hidden)
    state = tuple(torch.zeros(len(x), *each) for each in sizes)
    lengths = torch.tensor(LENGTHS)
    return reference(Inputs(direction.cell, x, weights, state, {}, lengths, direction.reverse))


def layer_model(layer: list[LayerDirection]) -> bytes:
    writer = Writer()
    y, last = write_layer(writer, layer, "x", Clips("counts", "inside"))
    writer.write("Identity", y, to="y")
    writer.write("Identity", last, to="last")
    inputs = {"x": ("float", ("T", "B", INPUTS)), "counts": ("int64", ("B",)), "inside": ("bool", ("T", "B", 1))}
    width = layer[0].cell.output_size(INPUTS, layer[0].hidden) * len(layer)
    return writer.model(inputs, {"y": ("float", ("T", "B", width)), "last": ("float", ("B", width))}, "g", "", {})


def run(model: bytes, feed: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return list(onnxruntime.InferenceSession(model, options).run(None, feed))


def check_layer(of: Cell, count: int) -> None:
    layer, x, counts = directions(of, count), frames(), np.array(LENGTHS)
    inside = (np.arange(TIME)[:, None] < counts)[..., None]
    feed = {"x": x.transpose(0, 1).contiguous().numpy(), "counts": counts, "inside": inside}
    y, last = run(layer_model(layer), feed)
    expected = [meaning(direction, x) for direction in layer]
    np.testing.assert_allclose(y, torch.cat([outputs for outputs, _ in expected], 2).transpose(0, 1), atol=1e-5)
    np.testing.assert_allclose(last, torch.cat([state[0] for _, state in expected], 1), atol=1e-5)


def check_steps(of: Cell) -> None:
    (direction,), x = directions(of, 1), frames()
    writer, shapes = Writer(), {name: (*direction.lead, *own) for name, own in direction.state_shapes.items()}
    new = write_step(writer, direction, "x", [f"old_{state}" for state in of.states])
    for state, name in zip(of.states, new, strict=True):
        writer.write("Identity", name, to=f"new_{state}")
    inputs = {"x": ("float", (*direction.lead, INPUTS))} | {f"old_{k}": ("float", own) for k, own in shapes.items()}
    model = writer.model(inputs, {f"new_{k}": ("float", own) for k, own in shapes.items()}, "g", "", {})
    session = onnxruntime.InferenceSession(model)
    states = [np.zeros(own, np.float32) for own in shapes.values()]
    for frame in x[0].numpy():
        feed = {f"old_{name}": state for name, state in zip(of.states, states, strict=True)}
        states = session.run(None, feed | {"x": frame.reshape(*direction.lead, INPUTS)})
    for state, expected in zip(states, meaning(direction, x)[1], strict=True):
        np.testing.assert_allclose(state.reshape(expected[0].shape), expected[0], atol=1e-5)


@pytest.mark.parametrize("name", sorted(zoo()))
def test_ragged_clips_in_both_directions_and_single_steps_are_the_reference(name: str) -> None:
    check_layer(zoo()[name], 2)
    check_steps(zoo()[name])


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 14))
def test_random_cells_are_the_reference(seed: int, size: int) -> None:
    check_layer(random_cell(seed, size), 1)
    check_steps(random_cell(seed, size))


def test_functions_that_few_cells_use_are_the_reference() -> None:
    check_layer(rare, 2)
    check_steps(rare)


def ops_of(model: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(model).graph.node}


@pytest.mark.parametrize("name", sorted(zoo()))
def test_what_is_an_operator_is_one_node_for_both_directions_and_the_rest_a_scan(name: str) -> None:
    ops = ops_of(layer_model(directions(zoo()[name], 2)))
    native = {"LSTM", "GRU", "RNN"} & ops
    same = zoo()[name].graph.fingerprint() in {load_cell(each).graph.fingerprint() for each in OPERATORS}
    assert bool(native) == same
    assert ("Scan" in ops) != same
    assert "Loop" not in ops


def test_a_cell_of_ones_own_with_the_equations_of_the_lstm_is_the_operator_and_with_others_it_is_not() -> None:
    @cell
    def mine(x, h, c, W, U, b):  # type: ignore[no-untyped-def]
        i = sigmoid(W.i @ x + U.i @ h + b.i)
        f = sigmoid(W.f @ x + U.f @ h + b.f)
        g = tanh(W.g @ x + U.g @ h + b.g)
        o = sigmoid(W.o @ x + U.o @ h + b.o)
        c = f * c + i * g
        h = o * tanh(c)
        return h, c

    @cell
    def other(x, h, c, W, U, b, s: Scalar):  # type: ignore[no-untyped-def]
        h, c = mine(x, h, c, W, U, b)
        return s * h, c

    assert operator_of(mine) is not None
    assert operator_of(other) is None


def sized_directions(name: str) -> list[LayerDirection]:
    both = [direction_of(CELLS[name], SIZED_INPUTS, SIZED_HIDDEN, n, reverse=bool(n)) for n in range(2)]
    return [LayerDirection(d.cell, d.weights, d.reverse, SIZED_HIDDEN, SIZED_INPUTS, d.first) for d in both]


SIZED_INPUTS, SIZED_HIDDEN = 7, 6


def test_the_mean_of_all_units_is_one_operator() -> None:
    direction = sized_directions("normalised")[0]
    writer = Writer()
    step = StepWriter(writer, direction.cell, direction.weights, SIZED_INPUTS, SIZED_HIDDEN)
    states = [f"old_{name}" for name in direction.cell.states]
    step.step(writer, step.frames("x"), states)
    ops = [node.op_type for node in writer.nodes]
    assert ops.count("ReduceMean") == 2
    assert ops.count("ReduceSum") == 2  # those of e and of h, which are no means


def test_blocks_of_many_units_are_multiplied_apart_and_few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for largest in (0, 128):
        monkeypatch.setattr("cello.compiler.onnx.shapes.LARGEST_DENSE", largest)
        test_steps_of_values_of_several_sizes_are_the_reference("heads")
        test_values_of_several_sizes_on_ragged_clips_in_both_directions_are_the_reference("heads")


@pytest.mark.parametrize("name", CELLS)
def test_values_of_several_sizes_on_ragged_clips_in_both_directions_are_the_reference(name: str) -> None:
    rng = np.random.default_rng(0)
    layer, counts = sized_directions(name), np.array([5, 0, 3])
    x = rng.normal(size=(TIME, BATCH, SIZED_INPUTS)).astype(np.float32)
    inside = (np.arange(TIME)[:, None] < counts)[..., None]
    writer = Writer()
    made = dict(zip(("y", "last"), write_layer(writer, layer, "x", Clips("counts", "inside")), strict=True))
    for name_of, value in made.items():
        writer.write("Identity", value, to=name_of)
    inputs = {"x": ("float", ("T", "B", SIZED_INPUTS)), "counts": ("int64", ("B",)), "inside": ("bool", ("T", "B", 1))}
    width = CELLS[name].output_size(SIZED_INPUTS, SIZED_HIDDEN) * 2
    outputs = {"y": ("float", ("T", "B", width)), "last": ("float", ("B", width))}
    y, last = run(writer.model(inputs, outputs, "g", "", {}), {"x": x, "counts": counts, "inside": inside})
    for clip, count in enumerate(counts):
        expected = [meant(direction_of(CELLS[name], 7, 6, n, reverse=bool(n)), x[:count, clip]) for n in range(2)]
        if count:
            np.testing.assert_allclose(y[:count, clip], np.concatenate([own for own, _ in expected], 1), atol=1e-5)
        assert not y[count:, clip].any()
        np.testing.assert_allclose(last[clip], np.concatenate([ends[0] for _, ends in expected]), atol=1e-5)


@pytest.mark.parametrize("name", CELLS)
def test_steps_of_values_of_several_sizes_are_the_reference(name: str) -> None:
    direction = sized_directions(name)[0]
    shapes = {state: (1, *shape) for state, shape in direction.state_shapes.items()}
    writer = Writer()
    new = write_step(writer, direction, "x", [f"old_{state}" for state in shapes])
    for state, value in zip(shapes, new, strict=True):
        writer.write("Identity", value, to=f"new_{state}")
    inputs = {"x": ("float", (1, SIZED_INPUTS))} | {f"old_{state}": ("float", shape) for state, shape in shapes.items()}
    model = writer.model(inputs, {f"new_{state}": ("float", shape) for state, shape in shapes.items()}, "g", "", {})
    session = onnxruntime.InferenceSession(model)
    states = [direction.first[state].reshape(shape) for state, shape in shapes.items()]
    x = np.random.default_rng(0).normal(size=(5, SIZED_INPUTS)).astype(np.float32)
    for frame in x:
        states = session.run(None, {"x": frame[None], **{f"old_{k}": v for k, v in zip(shapes, states, strict=True)}})
    for found, expected in zip(states, meant(direction_of(CELLS[name], 7, 6), x)[1], strict=True):
        np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-5)
