"""Random cells: a legal one computes what its function does on numpy arrays, an illegal one never becomes a cell."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cello.cells import functions
from cello.cells.definition import Cell, cell
from cello.cells.signature import Scalar
from cello.compiler.scan import scan
from cello.compiler.text import equations_text
from cello.errors import CellError

Array = NDArray[np.float64]

STATES = ("h", "c", "m")
FORMULAS = (
    "W.{k} @ x",
    "U.{k} @ {u}",
    "p.{k} * {u} + b.{k}",
    "{u} + {v}",
    "{u} - {v}",
    "{u} - ({v} - {w})",
    "2 - {u} * {v}",
    "{u} / (1 + {v} * {v})",
    "-{u}",
    "s.{k} * {u} + sigmoid(s.{k}) * {v}",
    "(1 - sigmoid({u})) * {v} + sigmoid({u}) * {w}",
    "U.{k} @ ({u} * {v}) + W.{k} @ x + b.{k}",
    "V.{k} @ (U.{k} @ {u})",
    "U.{k} @ {u} - U.{k} @ {v}",
    "tanh({u})",
    "relu({u}) + abs({v})",
    "softplus({u}) * {v}",
    "exp(minimum({u}, 1.5))",
    "log(sqrt(abs({u}) + 0.1))",
    "maximum({u}, {v}) - minimum({v}, {w})",
    "where({u} > 0.1372, {v}, {w})",
    "where({u} <= -0.1372, 1.0, {w})",
    "where(h < p.{k}, {u}, b.{k})",
    "where(({u} > 0.1372) & ({v} <= 0.4372), {v}, {w})",
    "where(~({u} > -0.2372) | ({v} != 0.25), {v}, h)",
    "where({u} == 0, {v}, {w})",
    "tanh({u}) ** 3",
    "sin({u}) + cos({v})",
    "erf({u}) + atan({u}) + stop({v})",
    "0.3 * ((U.{k} - U.{k}.T) @ {u})",
    "(0.3 * exp(-abs(W.{k}))) @ x",
)
"""Right sides of a line: u, v, w are vectors that exist there, k makes its parameters its own.

No comparison is of two sums, which rounding could decide in two ways.
"""


@dataclass(frozen=True)
class Source:
    """A legal cell: its states, its lines but the last, the vectors that exist before each line, what it returns."""

    states: tuple[str, ...]
    lines: tuple[str, ...]
    vectors: tuple[tuple[str, ...], ...]
    returned: tuple[str, ...]

    def text(self, lines: tuple[str, ...] | None = None, returned: str | None = None) -> str:
        kinds = {"s": "s: Scalar"}
        used = [group for group in "WUVpbs" if any(f"{group}." in line for line in (*self.lines, *self.returned))]
        arguments = ", ".join(["x", *self.states, *(kinds.get(group, group) for group in used)])
        last = ", ".join(self.returned) if returned is None else returned
        body = [*(self.lines if lines is None else lines), f"return {last}"]
        return "\n".join(["@cell", f"def own({arguments}):", *(f"    {line}" for line in body)])


@st.composite
def sources(draw: st.DrawFn) -> Source:
    states = STATES[: draw(st.integers(1, 3))]
    vectors, lines, before = list(states), [], []
    for k in range(draw(st.integers(1, 7))):
        pick = st.sampled_from(vectors)
        formula = draw(st.sampled_from(FORMULAS))
        written = formula.format(k=f"g{k}", u=draw(pick), v=draw(pick), w=draw(pick))
        before.append(tuple(vectors))
        name = f"v{k}"
        lines.append(f"{name} = {written}")
        vectors.append(name)
        if draw(st.integers(0, 5)) == 0:
            before.append(tuple(vectors))
            lines.append(f"{name} += {draw(pick)}")
    everything = " + ".join(f"tanh({name})" for name in vectors)
    returned = [f"0.3 * ({everything} + W.r @ x)"]
    returned += [f"tanh({draw(st.sampled_from(vectors))} + W.{state} @ x) * {state}" for state in states[1:]]
    return Source(states, tuple(lines), tuple(before), tuple(returned))


def run(text: str, **names: Any) -> Any:
    """What the file of this text calls own."""
    space: dict[str, Any] = {"Scalar": Scalar, **functions.FUNCTIONS, **names}
    exec(compile(text, "mine.py", "exec"), space)
    return space["own"]


NUMPY: dict[str, Any] = {
    "cell": lambda function: function,
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    "tanh": np.tanh,
    "relu": lambda v: np.maximum(v, 0),
    "softplus": lambda v: np.log1p(np.exp(v)),
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "atan": np.arctan,
    "erf": np.vectorize(math.erf),
    "stop": lambda v: v,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "where": np.where,
}


def grouped(weights: dict[str, Array]) -> dict[str, SimpleNamespace]:
    """The weights as the function's arguments: W with its members."""
    groups: dict[str, SimpleNamespace] = {}
    for name, value in weights.items():
        group, member = name.split(".")
        setattr(groups.setdefault(group, SimpleNamespace()), member, value)
    return groups


def by_hand(text: str, cell: Cell, x: Array, weights: dict[str, Array], state: list[Array]) -> list[list[Array]]:
    """The function itself on numpy arrays: all states after each frame of one clip."""
    groups = grouped(weights)
    function = run(text, **NUMPY)
    steps = []
    for frame in x:
        new = function(frame, *state, *(groups[name] for name in cell.arguments[1 + len(state) :]))
        state = list(new) if isinstance(new, tuple) else [new]
        steps.append(state)
    return steps


@settings(max_examples=150)
@given(source=sources(), seed=st.integers(0, 999))
def test_a_legal_cell_computes_what_its_function_computes(source: Source, seed: int) -> None:
    text = source.text()
    own = run(text, cell=cell)
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(0, 0.7, shape) for name, shape in own.parameters(3, 2).items()}
    x, state = rng.normal(size=(2, 3, 3)), [rng.normal(size=(2, 2)) for _ in own.states]
    result = scan(
        own,
        torch.from_numpy(x),
        {name: torch.as_tensor(value, dtype=torch.float64) for name, value in weights.items()},
        state=tuple(map(torch.from_numpy, state)),
        backend="plain",
    )
    for clip in range(2):
        steps = by_hand(text, own, x[clip], weights, [part[clip] for part in state])
        outputs = np.array([step[0] for step in steps])
        np.testing.assert_allclose(result.outputs[clip].numpy(), outputs, rtol=1e-9, atol=1e-11)
        for part, value in zip(result.state, steps[-1], strict=True):
            np.testing.assert_allclose(part[clip].numpy(), value, rtol=1e-9, atol=1e-11)


@settings(max_examples=60)
@given(source=sources(), seed=st.integers(0, 999))
def test_the_printed_equations_of_a_legal_cell_compute_the_same(source: Source, seed: int) -> None:
    text = source.text()
    own = run(text, cell=cell)
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(0, 0.7, shape) for name, shape in own.parameters(3, 2).items()}
    frame, state = rng.normal(size=3), [rng.normal(size=2) for _ in own.states]
    old = {f"{name}_before": value for name, value in zip(own.states, state, strict=True)}
    space: dict[str, Any] = {**NUMPY, **grouped(weights), **old, "x_now": frame}
    for line in equations_text(own).replace("[t-1]", "_before").replace("[t]", "_now").splitlines():
        exec(line, space)
    for name, value in zip(own.states, by_hand(text, own, frame[None], weights, state)[0], strict=True):
        np.testing.assert_allclose(space[f"{name}_now"], value, rtol=1e-9, atol=1e-11)


ILLEGAL_LINES = (
    "{u} = {u} if {u} > {v} else {v}",
    "while {u} > 0: {u} = {u} - 1",
    "{u} = {u} and {v}",
    "{u} = {u} * (not {v})",
    "{u} = max({u}, {v})",
    "{u} = where(0 < {u} < 1, {u}, {v})",
    "{u} = where(({u} > 0) & {v}, {u}, {v})",
    "{u} = where({u} == {u}, {u}, {v})",
    "{u} = ({u} > 0) * {v}",
    "{u} = where({v}, 1.0, 2.0)",
    "{u} = where(1 > 2, {u}, {v})",
    "{u} = {u} if {u} == {v} else 2 * {v}",
    "for k in {u}: {v} = {v} + k",
    "for k in range({u}): {v} = {v} + k",
    "{u}, {v} = {v}",
    "{u}[0] = {v}",
    "{u} = {u} + {v}[:2]",
    "del {u}[0]",
    "W.z = {u}",
    "del W.z",
    "{u}.z = {v}",
    "{u} = sum({u}) * {v}",
    "{u} = {u} + [{v}, {v}]",
    "{u} = tanh(({u}, {v}))",
    "{u} = np.tanh({u})",
    "{u} = np.array([{u}, {v}]).sum()",
    "{u} = np.dot({u}, {v})",
    "{u} = np.ones(2) * {u}",
    "{u} = {u} @ np.eye(2)",
    "{u} = torch.sigmoid({u})",
    "{u} = torch.stack([{u}, {v}])[0]",
    "{u} = torch.ones(2) + {u}",
    "{u} = math.tanh({u})",
    "{u} = {u}.tanh()",
    "{u} = {u} * {u}.index",
    "{u} = {u}.z @ {v}",
    "{u} = x.z * {u}",
    "{u} = {u}({v})",
    "{u} = swish({u})",
    "{u} = {u} + later; later = {u}",
    "{u} = {u} * '2'",
    "{u} = {u} * None",
    "{u} = {u} + True",
    "{u} = {u} * 2j",
    "{u} = {u} * float('nan')",
    "{u} = minimum({u}, math.inf)",
    "{u} = 10**400 * {u}",
    "{u} = {u} / 0",
    "{u} = {u} % 2",
    "{u} = {u} // {v}",
    "{u} = ~{u}",
    "{u} = {u} ** 0",
    "{u} = {u} ** '2'",
    "{u} = (-2) ** {u}",
    "{u} = {u} @ {v}",
    "{u} = x @ {v}",
    "{u} = x @ W.z",
    "{u} = {u} @ W.z",
    "{u} = (W.y @ W.z) @ {u}",
    "{u} = W.z @ 2.0",
    "{u} = W.z @ W.y",
    "{u} = W.z @ x + W.z @ h",
    "{u} = W.z @ {u} + W.z * {v}",
    "{u} = W @ {u}",
    "{u} = W.z.y @ {u}",
    "{u} = W._z @ {u}",
    "{u} = getattr(W, 'y.z') @ {u}",
    "print(f'{{{u}:.2f}}')",
    "{u} = {u} * int({v})",
    "{u} = tanh({u}, {v})",
    "{u} = minimum({u})",
    "{u} = {u} * random.random()",
    "calls.append(0); {u} = {u} * (1 + len(calls))",
    "calls.append({u}); {u} = calls[0] + {u}",
    "{u} = kept + {u}",
    "{u} = tanh(kept) * {u}",
    "raise KeyError({u})",
    "exit()",
    "{u} = {u} / (1 // 0)",
    "{u} = own(x, {u})",
    "{u} = (lambda f: f(f))(lambda f: f(f))",
    "while True: {u} = tanh({u})",
    "while True: tanh({u})",
)
"""Each is refused on its line wherever it stands, whatever u and v are; ``kept`` is a value of another cell."""

ILLEGAL_RETURNS = (
    "1.0",
    "None",
    "x",
    "h > 0",
    "{'h': h}",
    "[h], h",
    "kept",
    "W.z",
    "tanh(W.z)",
    "np.zeros(2)",
    "h, *[h] * 99",
)
"""Each is refused on the last line as the new h, whatever comes before it."""


def refusal(text: str) -> str:
    """The message for an illegal cell; pytest's failure says which text became a cell, or what else it raised."""
    kept: list[Any] = []

    def other(x: Any, h: Any, W: Any) -> Any:
        kept.append(tanh_of := functions.tanh(h))
        return W @ x + tanh_of

    cell(other)
    names = {"math": math, "np": np, "torch": torch, "random": random, "calls": [], "kept": kept[0]}
    with pytest.raises(CellError) as caught:
        run(text, cell=cell, **names)
    return str(caught.value)


@pytest.mark.parametrize("bad", ILLEGAL_LINES)
@settings(max_examples=5)
@given(source=sources(), data=st.data())
def test_an_illegal_line_is_refused_where_it_stands(bad: str, source: Source, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(source.lines) - 1))
    pick = st.sampled_from(source.vectors[place])
    line = bad.format(u=data.draw(pick), v=data.draw(pick))
    text = source.text(lines=(*source.lines[:place], line, *source.lines[place:]))
    message = refusal(text)
    assert message.startswith(f"cell 'own' (mine.py, line {place + 3}): "), f"{message}\n{text}"
    assert message.endswith("."), message
    assert message.count(". ") >= 1, f"no remedy: {message}"


@pytest.mark.parametrize("bad", ILLEGAL_RETURNS)
@settings(max_examples=5)
@given(source=sources())
def test_an_illegal_return_is_refused_where_it_stands(bad: str, source: Source) -> None:
    text = source.text(returned=", ".join([bad, *source.returned[1:]]))
    message = refusal(text)
    assert message.startswith(f"cell 'own' (mine.py, line {len(source.lines) + 3}): "), f"{message}\n{text}"
    assert message.count(". ") >= 1, f"no remedy: {message}"


ILLEGAL_SIGNATURES = (
    ("def own(x, ", "def own("),
    ("):\n", ", z):\n"),
    ("):\n", ", z=1):\n"),
    ("):\n", ", *z):\n"),
    ("):\n", ", **z):\n"),
    ("):\n", ", *, z):\n"),
    ("(x, ", "(x, /, "),
    ("(x, ", "(x: Scalar, "),
    ("(x, h", "(x, h: Scalar"),
    ("(x, h", "(x, h: float"),
    ("def own", "async def own"),
    ("return", "yield"),
    ("@cell\n", "@cell\n@staticmethod\n"),
    ("@cell\n", "@cell\n@cell\n"),
)
"""Replacements in the text of a legal cell; each breaks what stands on its first lines."""


@pytest.mark.parametrize(("old", "new"), ILLEGAL_SIGNATURES)
@settings(max_examples=5)
@given(source=sources())
def test_an_illegal_signature_is_refused(old: str, new: str, source: Source) -> None:
    text = source.text()
    broken = text.replace(old, new, 1)
    assert broken != text
    message = refusal(broken)
    assert message.startswith("cell 'own' (mine.py, line "), f"{message}\n{broken}"
    assert message.count(". ") >= 1, f"no remedy: {message}"
