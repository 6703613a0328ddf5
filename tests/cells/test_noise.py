"""Noise in the states is what zoneout and recurrent dropout are defined to be, and only where it was asked for."""

from __future__ import annotations

import pytest

from cello.cells.annotations import Heads, Size
from cello.cells.definition import cell
from cello.cells.functions import outer, tanh
from cello.cells.load import zoo
from cello.cells.noise import with_noise
from cello.compiler.text import equations_text
from cello.errors import CellError


def test_zoneout_blends_old_and_new_and_the_output_sees_the_new_cell_state() -> None:
    text = equations_text(with_noise(zoo()["lstm"], zoneout=("h", "c")))
    assert "c[t] = zoneout_c * c[t-1] + (1 - zoneout_c) * c_2" in text
    assert "h[t] = zoneout_h * h[t-1] + (1 - zoneout_h) * h_2" in text
    assert "h_2  = o * tanh(c_2)" in text


def test_dropout_masks_the_old_state_where_a_matrix_multiplies_it_and_nowhere_else() -> None:
    text = equations_text(with_noise(zoo()["gru"], dropout=("h",)))
    assert text.count("@ (dropout_h * h[t-1])") + text.count("@ s") == 3
    assert "dropout_h" not in text.splitlines()[-1].replace("@ (dropout_h * h[t-1])", "")


def test_a_reset_gate_inside_a_product_is_computed_once() -> None:
    before, after = zoo()["gru-original"].graph, with_noise(zoo()["gru-original"], dropout=("h",)).graph
    assert sum(node.op == "sigmoid" for node in after.nodes) == sum(node.op == "sigmoid" for node in before.nodes)


def test_without_noise_the_cell_is_the_cell() -> None:
    cell = zoo()["lstm"]
    assert with_noise(cell) is cell


def test_a_state_that_is_not_there_is_named() -> None:
    with pytest.raises(CellError, match=r"state of cell 'gru' 'c'"):
        with_noise(zoo()["gru"], zoneout=("c",))


def test_heads_and_states_of_their_own_size_have_noise_too() -> None:
    @cell
    def own(x, h: Size("H/2"), c, S: Heads(2), W, U: Heads(2), R):  # type: ignore[no-untyped-def, valid-type]
        S = S + outer(W @ x, c)
        c = tanh(U @ c + S @ c)
        return R @ (W @ x) + h, c, S

    noisy = with_noise(own, zoneout=("h", "S"), dropout=("c",))
    masks = {str(node.name): node.shape for node in noisy.graph.nodes if node.op == "mask"}
    assert masks == {"zoneout_h": ("H/2",), "zoneout_S": ("H", "H/2"), "dropout_c": ("H",)}
    text = equations_text(noisy)
    assert "S_2  = S[t-1] + outer(s, c[t-1])" in text
    assert "c[t] = tanh(U @ (dropout_c * c[t-1]) + S_2 @ c[t-1])" in text
