"""What a declared value is: what hurts is a reservoir that is another one on another machine, or after storing."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
import torch

from cello.cells.definition import Cell
from cello.cells.stored import StoredCell
from cello.cells.values import seeded, spectral_radius
from cello.compiler.render import render
from cello.errors import CellError
from cello.models.layer import Layer

RESERVOIR = """
from cello import Fixed, cell, normal, spectral_radius, tanh, uniform, where

def reservoir(i, j):
    A = where(uniform(0, 1) > 0.7, normal(0, 1), 0)
    return 0.9 * A / spectral_radius(A)

@cell
def own(x, y, h, W: Fixed(lambda: uniform(-1, 1), seed=3), R: Fixed(reservoir, seed={seed}), V, b):
    h = tanh(W.a @ x + W.b @ x + R @ h)
    return V @ h + b, h
"""
DRAWN = """
@cell
def own(x, h, U, M: {annotation}, b):
    return U @ x + M * h + b
"""


@pytest.fixture
def esn(own_cell: Callable[[str], Cell]) -> Cell:
    return own_cell(RESERVOIR.format(seed=5))


def test_a_seed_gives_these_numbers_on_every_machine() -> None:
    draw = seeded(1, "A")
    np.testing.assert_array_equal(
        draw("uniform", (2, 2)).round(8), [[0.46272048, 0.55555622], [0.30592502, 0.81915431]]
    )
    np.testing.assert_allclose(draw("normal", (2,)), [-2.02502359, -0.57554285], atol=1e-8)
    assert abs(draw("normal", (10_000,)).mean()) < 0.05
    assert abs(draw("normal", (10_000,)).std() - 1) < 0.05


def test_a_random_reservoir_has_its_radius_and_members_of_their_own(esn: Cell) -> None:
    values = esn.fixed_values(3, 40)
    assert np.abs(np.linalg.eigvals(values["R"])).max() == pytest.approx(0.9)
    assert 0.6 < (values["R"] == 0).mean() < 0.8
    assert not np.allclose(values["W.a"], values["W.b"])
    assert len(Layer(esn, 3, 8).state_dict()) == 2


def test_a_stored_reservoir_is_the_same_and_another_seed_is_another_cell(
    esn: Cell, own_cell: Callable[[str], Cell]
) -> None:
    again = msgspec.json.decode(msgspec.json.encode(StoredCell.of(esn)), type=StoredCell).cell()
    assert again.fingerprint() == esn.fingerprint()
    for name, value in esn.fixed_values(3, 9).items():
        np.testing.assert_array_equal(again.fixed_values(3, 9)[name], value)
    other = own_cell(RESERVOIR.format(seed=6))
    assert other.fingerprint() != esn.fingerprint()
    assert not np.allclose(other.fixed_values(3, 9)["R"], esn.fixed_values(3, 9)["R"])
    assert "spectral_radius(" in render(esn, "equations")
    assert r"\operatorname{radius}" in render(esn, "latex")


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_stored_seed_that_nobody_can_write_is_refused(esn: Cell, seed: int) -> None:
    data = msgspec.json.decode(msgspec.json.encode(StoredCell.of(esn)))
    data["declared"] = [{**one, "seed": seed} for one in data["declared"]]
    with pytest.raises(CellError, match="its seed is"):
        msgspec.convert(data, StoredCell).cell()


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (
            "Fixed(uniform(0, 1))",
            "random, but must be the same wherever the cell goes. Give it a seed, as in Fixed(...",
        ),
        ("Fixed(uniform(0, 1), seed=-1)", "the annotation of M has seed=-1. Give a whole number from 0, as in seed=1."),
        ("Fixed(uniform(0, 1), seed='a')", "the annotation of M has seed='a'. Give a whole number from 0"),
        ("Fixed(lambda: spectral_radius(uniform(0, 1)), seed=1)", "takes them as a matrix, but is a vector. Draw each"),
        ("Fixed(lambda: spectral_radius(2.0))", "spectral_radius() takes a random or computed matrix, in a function"),
    ],
)
def test_a_wrong_seed_or_radius_is_refused_with_what_to_write(
    own_cell: Callable[[str], Cell], annotation: str, message: str
) -> None:
    imports = "from cello import Fixed, cell, spectral_radius, uniform\n"
    with pytest.raises(CellError) as caught:
        own_cell(imports + DRAWN.format(annotation=annotation))
    assert message in str(caught.value)


def test_a_seeded_first_state_begins_where_its_numbers_say(own_cell: Callable[[str], Cell]) -> None:
    own = own_cell(
        "from cello import Fixed, cell, tanh, uniform\n@cell\n"
        "def own(x, h: Fixed(lambda: uniform(0, 1), seed=2), W, U):\n    return tanh(W @ x + U @ h)\n"
    )
    begins = own.first_value("h", 5)
    assert begins is not None
    np.testing.assert_array_equal(begins, seeded(2, "h")("uniform", (5, 1))[:, 0])


def test_a_radius_outside_a_declared_value_is_refused() -> None:
    with pytest.raises(CellError, match="in a function that Fixed or Learned is given"):
        spectral_radius(torch.ones(2, 2))
