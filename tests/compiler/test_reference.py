"""The reference is the cell's own function, frame by frame; every back end gives what the reference gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.cells.noise import with_noise
from cello.cells.sizes import size
from cello.compiler.backends import TABLE
from cello.compiler.inputs import Inputs, hidden_size, with_fixed
from cello.compiler.reference import reference
from cello.compiler.scan import scan
from random_cells import random_cell
from scans import covering
from units import units

Result = tuple[Tensor, tuple[Tensor, ...]]
each_cell = pytest.mark.parametrize("cell", zoo().values(), ids=lambda cell: cell.name)
BACKENDS = [
    pytest.param(name, marks=[pytest.mark.wants("cc")] if name == "c" else []) for name in TABLE if name != "triton"
]
each_backend = pytest.mark.parametrize("backend", BACKENDS)
OPTIMISED = covering(zoo().values(), longest=False) | {"lstm", "lstm-peephole-full", "gru-original", "sru"}
"""Of the zoo, what is compiled as users have it: some for every operation, and those that other tests compile too."""


@pytest.fixture(autouse=True, scope="module")
def buffers_begin_with_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)  # which fills torch.empty with NaN
    yield
    torch.use_deterministic_algorithms(False)


class Case(NamedTuple):
    """Frames (B, T, D), first states and weights; states are positive, as the normaliser of slstm has to be."""

    x: Tensor
    state: tuple[Tensor, ...]
    weights: dict[str, Tensor]

    @property
    def leaves(self) -> list[Tensor]:
        return [self.x, *self.state, *self.weights.values()]


def case(cell: Cell, sizes: tuple[int, int, int, int], seed: int = 0) -> Case:
    """For B, T, D, H, or the next larger D and H that the cell's parts and heads divide."""
    batch, steps, inputs, hidden = sizes
    hidden = units(cell, hidden)
    while cell.parts and sum(size(text, inputs, hidden) for _, text in cell.parts) != inputs:
        inputs += 1
    draw = torch.Generator().manual_seed(seed)

    def leaf(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=draw, dtype=torch.float64) * scale).requires_grad_()

    state = tuple(
        (leaf(batch, *each).detach().abs() + 0.1).requires_grad_() for each in cell.state_sizes(inputs, hidden)
    )
    x = leaf(batch, steps, inputs)
    weights = {name: leaf(*shape, scale=hidden**-0.5) for name, shape in cell.parameters(inputs, hidden).items()}
    for one in cell.declared:
        if one.bounded:
            value = one.bounded_value(weights[one.name].detach().numpy())
            weights[one.name] = torch.from_numpy(np.asarray(value)).requires_grad_()
    return Case(x, state, weights)


def meaning(
    cell: Cell,
    one: Case,
    lengths: Sequence[int] | None = None,
    reverse: bool = False,
    masks: Mapping[str, Tensor] | None = None,
) -> Result:
    ends = None if lengths is None else torch.tensor(lengths)
    whole = with_fixed(cell, one.x, hidden_size(cell, one.weights), one.weights)
    return reference(Inputs(cell, one.x, whole, one.state, masks or {}, ends, reverse))


def by_definition(cell: Cell, one: Case) -> Result:
    """The decorated function itself, one clip and one frame at a time, on tensors."""
    groups: dict[str, Any] = {}
    for name, value in with_fixed(cell, one.x, hidden_size(cell, one.weights), one.weights).items():
        group, _, member = name.partition(".")
        if member:
            setattr(groups.setdefault(group, SimpleNamespace()), member, value)
        else:
            groups[group] = value
    arguments = [groups[name] for name in cell.arguments[1 + len(cell.states) :]]
    outputs, last = [], []
    for clip in range(len(one.x)):
        now = tuple(part[clip] for part in one.state)
        rows = []
        for frame in one.x[clip]:
            new = cell(frame, *now, *arguments)
            now = new if isinstance(new, tuple) else (new,)
            rows.append(now[0])
        outputs.append(torch.stack(rows))
        last.append(now)
    return torch.stack(outputs), tuple(torch.stack(parts) for parts in zip(*last, strict=True))


@lru_cache(maxsize=4)
def meant(
    cell: Cell, sizes: tuple[int, int, int, int], lengths: tuple[int, ...] | None, reverse: bool
) -> tuple[Case, Result, list[Tensor]]:
    """A case, its meaning and the gradients of that: computed once for the back ends, which are tested in turn."""
    one = case(cell, sizes)
    expected = meaning(cell, one, lengths, reverse)
    return one, expected, gradients(expected, one.leaves)


def assert_same(found: Result, expected: Result, leaves: list[Tensor], rtol: float = 1e-9) -> None:
    """Outputs, last states and the gradients of all leaves."""
    assert_equal(found, expected, gradients(expected, leaves), leaves, rtol)


def assert_equal(
    found: Result, expected: Result, slopes: list[Tensor], leaves: list[Tensor], rtol: float = 1e-9
) -> None:
    """The same, given the gradients that are expected."""
    torch.testing.assert_close(found, expected, rtol=rtol, atol=1e-11)
    torch.testing.assert_close(gradients(found, leaves), slopes, rtol=rtol, atol=1e-10)


def gradients(result: Result, leaves: list[Tensor]) -> list[Tensor]:
    outputs, state = result
    slope = torch.linspace(-1, 2, outputs.numel(), dtype=outputs.dtype).view_as(outputs)
    loss = (outputs * slope).sum() + sum((part**2).sum() for part in state)
    found = torch.autograd.grad(loss, leaves, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, found, strict=True)]


@each_cell
def test_the_reference_is_the_function_step_by_step(cell: Cell) -> None:
    one = case(cell, (2, 3, 3, 4))
    assert_same(meaning(cell, one), by_definition(cell, one), one.leaves)


def test_the_reference_turns_clips_and_ends_them_where_they_end() -> None:
    cell = zoo()["gru"]
    one = case(cell, (3, 4, 2, 3))
    outputs, (last,) = meaning(cell, one, [4, 2, 0], reverse=True)
    for clip, length in enumerate([4, 2, 0]):
        alone = Case(one.x[clip : clip + 1, :length].flip(1), (one.state[0][clip : clip + 1],), one.weights)
        own, (end,) = meaning(cell, alone)
        torch.testing.assert_close(outputs[clip, :length], own[0].flip(0), rtol=0, atol=0)
        torch.testing.assert_close(last[clip], end[0], rtol=0, atol=0)
        assert not outputs[clip, length:].any()


@each_backend
@each_cell
@pytest.mark.parametrize(
    ("sizes", "lengths", "reverse"),
    [((35, 4, 3, 17), (4, 1, 0, 3, 2) * 7, False), ((3, 5, 2, 3), None, True)],
    ids=["ragged", "reverse"],
)
def test_every_back_end_is_the_reference(
    cell: Cell,
    backend: str,
    sizes: tuple[int, int, int, int],
    lengths: tuple[int, ...] | None,
    reverse: bool,
    request: pytest.FixtureRequest,
) -> None:
    if backend == "c" and cell.name not in OPTIMISED:
        request.getfixturevalue("compiled_quickly")
    one, expected, slopes = meant(cell, sizes, lengths, reverse)
    result = scan(cell, one.x, one.weights, state=one.state, lengths=lengths, reverse=reverse, backend=backend)
    assert result.backend == backend
    assert_equal((result.outputs, result.state), expected, slopes, one.leaves)


@pytest.mark.usefixtures("compiled_quickly")
@each_backend
@pytest.mark.parametrize("name", ["lstm", "gru-original", "lstm-peephole-full", "sru"])
def test_every_back_end_applies_the_same_noise(name: str, backend: str) -> None:
    cell = with_noise(zoo()[name], zoneout=zoo()[name].states, dropout=("h",))
    one, lengths = case(cell, (5, 4, 3, 6)), [4, 0, 3, 4, 1]
    draw = torch.Generator().manual_seed(1)
    names = [str(node.name) for node in cell.graph.nodes if node.op == "mask"]
    masks = {name: torch.randint(2, (5, 4, 6), generator=draw, dtype=torch.float64) for name in names}
    result = scan(
        cell, one.x, one.weights, state=one.state, lengths=lengths, reverse=True, masks=masks, backend=backend
    )
    assert_same((result.outputs, result.state), meaning(cell, one, lengths, True, masks), one.leaves)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 14))
def test_random_cells_are_their_functions_and_plain_evaluation_is_too(seed: int, size: int) -> None:
    cell = random_cell(seed, size)
    one = case(cell, (2, 3, 3, 4))
    expected = by_definition(cell, one)
    assert_same(meaning(cell, one), expected, one.leaves, rtol=1e-8)
    result = scan(cell, one.x, one.weights, state=one.state, backend="plain")
    assert_same((result.outputs, result.state), expected, one.leaves, rtol=1e-8)


@pytest.mark.wants("cc")
@pytest.mark.usefixtures("compiled_quickly")
@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # each is compiled
@given(seed=st.integers(0, 10**6), size=st.integers(3, 14))
def test_random_cells_in_c_are_the_reference(seed: int, size: int) -> None:
    cell = random_cell(seed, size)
    one = case(cell, (2, 3, 3, 4))
    result = scan(cell, one.x, one.weights, state=one.state, backend="c")
    assert_same((result.outputs, result.state), meaning(cell, one), one.leaves, rtol=1e-8)


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)], ids=str)
@each_backend
def test_no_clips_and_no_frames(shape: tuple[int, int], backend: str) -> None:
    cell = zoo()["lstm-peephole"]
    one = case(cell, (*shape, 3, 4))
    for lengths, reverse in ((None, False), ([0] * shape[0], True)):
        expected = meaning(cell, one, lengths, reverse)
        result = scan(cell, one.x, one.weights, state=one.state, lengths=lengths, reverse=reverse, backend=backend)
        assert result.backend == backend
        assert_same((result.outputs, result.state), expected, one.leaves)
