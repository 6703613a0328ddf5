"""What hurts: a back end whose arrival is felt in scan, models or training; one that is taken where it cannot run."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cello.cells.arrays import NUMPY, NUMPY_RESHAPING
from cello.cells.definition import Cell
from cello.cells.load import load_cell, zoo
from cello.cells.sizes import size
from cello.compiler import backends
from cello.compiler.backends import Backend
from cello.compiler.inputs import Inputs, first_state, with_fixed
from cello.compiler.reference import reference
from cello.compiler.scan import scan
from cello.errors import BackendError
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from units import units

DOCUMENT = Path(__file__).parents[2] / "docs" / "compiler.md"

# --- a back end of NumPy, forward alone ---


def run(inputs: Inputs) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All clips that still run, frame by frame."""
    frames = inputs.frames.numpy()
    batch, steps, _ = frames.shape
    ends = np.full(batch, steps) if inputs.lengths is None else inputs.lengths.numpy()
    leaves = {name: value.numpy() for name, value in inputs.weights.items()}
    masks = {name: value.numpy() for name, value in inputs.masks.items()}
    states = [part.numpy().copy() for part in inputs.state]
    outputs = np.zeros((batch, steps, *states[0].shape[1:]), frames.dtype)
    for t in range(steps):
        clips = np.flatnonzero(ends > t)
        at = ends[clips] - 1 - t if inputs.reverse else np.full(len(clips), t)
        values: list[Any] = []
        for node in inputs.cell.graph.nodes:
            if node.op == "input":
                values.append(frames[clips, at])
            elif node.op == "state":
                values.append(states[inputs.cell.states.index(str(node.name))][clips])
            elif node.op == "mask":
                values.append(masks[str(node.name)][clips, at])
            elif node.op == "size":
                values.append(float(size(str(node.name), frames.shape[2], inputs.hidden)))
            elif node.op in NUMPY_RESHAPING:
                sizes = tuple(size(text, frames.shape[2], inputs.hidden) for text in node.shape)
                values.append(NUMPY_RESHAPING[node.op](*(values[arg] for arg in node.args), sizes))
            elif node.args:
                values.append(NUMPY[node.op](*[values[arg] for arg in node.args]))
            else:
                values.append(leaves[str(node.name)] if node.op == "parameter" else node.value)
        new = [values[output] for output in inputs.cell.graph.outputs]
        for state, value in zip(states, new, strict=True):
            state[clips] = value
        outputs[clips, at] = new[0]
    return torch.from_numpy(outputs), tuple(map(torch.from_numpy, states))


def unsupported(inputs: Inputs) -> str | None:
    if not inputs.frames.is_cpu or inputs.frames.dtype not in (torch.float32, torch.float64):
        return f"runs float32 and float64 on the CPU, not {inputs.frames.dtype}; convert the tensors"
    if inputs.training:
        return "has no derivatives; use it inside torch.no_grad()"
    return None


# --- that is all of it ---


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Backend]]:
    """A table of the test's own; what is known of back ends is forgotten."""
    monkeypatch.setattr(backends, "TABLE", dict(backends.TABLE))
    for known in (backends._unavailable, backends._warn_once):
        known.cache_clear()
    yield backends.TABLE
    for known in (backends._unavailable, backends._warn_once):
        known.cache_clear()


@pytest.fixture
def numpy(table: dict[str, Backend]) -> None:
    backends.register(Backend("numpy", run, unsupported), before=next(iter(table)))


def weights_of(cell: Cell, hidden: int = 5) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = cell.parameters(3, hidden)
    return {name: torch.randn(shape, generator=draw, dtype=torch.float64) for name, shape in shapes.items()}


@pytest.mark.usefixtures("numpy")
@pytest.mark.parametrize("cell", zoo().values(), ids=lambda cell: cell.name)
def test_a_new_back_end_is_the_reference_without_a_line_elsewhere(cell: Cell) -> None:
    hidden = units(cell, 5)
    x, weights = torch.randn(4, 5, 3, dtype=torch.float64), weights_of(cell, hidden)
    with np.errstate(all="ignore"):
        found = scan(cell, x, weights, lengths=[5, 0, 3, 1], reverse=True)
    assert found.backend == "numpy"
    state, whole = first_state(cell, x, hidden, None, weights), with_fixed(cell, x, hidden, weights)
    expected = reference(Inputs(cell, x, whole, state, {}, torch.tensor([5, 0, 3, 1]), True))
    torch.testing.assert_close((found.outputs, found.state), expected, equal_nan=True)


@pytest.mark.usefixtures("numpy")
def test_a_model_takes_it_where_it_can_run_and_another_one_elsewhere() -> None:
    model = Classifier(ModelConfig(cell="lstm", hidden=5, zoneout=0.1), 3, 2)
    x, lengths = torch.randn(4, 5, 3), torch.tensor([5, 1, 2, 3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a machine without a C compiler
        model(x, lengths).sum().backward()
        assert model.encoder.backend in ("c", "plain")
        trained = model.eval()(x, lengths)
    with torch.no_grad():
        torch.testing.assert_close(model(x, lengths), trained.detach())
    assert model.encoder.backend == "numpy"


@pytest.mark.usefixtures("numpy")
def test_a_back_end_asked_for_where_it_cannot_run_says_why_and_what_to_do() -> None:
    cell = load_cell("rnn")
    x, weights = torch.randn(1, 1, 3, dtype=torch.float64), weights_of(cell)
    weights["U"].requires_grad_()
    said = r'backend="numpy" has no derivatives; use it inside torch\.no_grad\(\), or use backend="auto"$'
    with pytest.raises(BackendError, match=said):
        scan(cell, x, weights, backend="numpy")
    with pytest.raises(BackendError, match=r"unknown back end 'nympy'; did you mean 'numpy'\?"):
        scan(cell, x, weights, backend="nympy")


def test_one_that_cannot_be_had_here_is_passed_over_and_that_is_said_once(table: dict[str, Backend]) -> None:
    missing = Backend("abacus", run, unavailable=lambda *_: "There are no beads. Buy some.")
    backends.register(missing, before=next(iter(table)))
    x, cells = torch.zeros(1, 1, 3, dtype=torch.float64), (load_cell("rnn"), load_cell("gru"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        used = {scan(cell, x, weights_of(cell)).backend for cell in cells for _ in range(2)}
    assert "abacus" not in used
    text = 'cells run without backend="abacus", a few times slower: There are no beads. Buy some.'
    assert [str(each.message) for each in said if "abacus" in str(each.message)] == [text]
    assert all(each.filename == __file__ for each in said), "the warning points at the call"


def test_the_order_of_the_table_is_the_order_of_preference(table: dict[str, Backend]) -> None:
    backends.register(Backend("second", run), before="plain")
    backends.register(Backend("first", run), before="second")
    backends.register(Backend("second", run), before="first")
    assert list(table)[-3:] == ["second", "first", "plain"]
    assert backends.names() == ("auto", *table)
    assert backends.fallback().name == "plain"
    backends.register(Backend("first", reference), before="first")
    assert [each.name for each in table.values()][-3:] == ["second", "first", "plain"]
    assert table["first"].run is reference
    with pytest.raises(BackendError, match="unknown back end 'plane'; did you mean 'plain'"):
        backends.register(Backend("third", run), before="plane")


@pytest.mark.usefixtures("table")
def test_the_documents_example_runs_as_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    exec(compile(example, DOCUMENT.name, "exec"), {})
    assert capsys.readouterr().out == "slow\n"
