"""What people read of a cell: the equations keep their names, order and meaning."""

from __future__ import annotations

import re

import pytest

from cello.cells.annotations import Heads, Parts, Size
from cello.cells.definition import cell
from cello.cells.fold import fold
from cello.cells.functions import maximum, outer, rows, softmax, softplus, where
from cello.cells.graph import POINTWISE, RESHAPING
from cello.cells.load import load_cell, zoo
from cello.cells.signature import Learned
from cello.cells.values import VALUE_OPERATIONS
from cello.compiler import latex, operations, text
from cello.compiler.render import TARGETS, render
from cello.errors import CellError


def test_every_operation_has_a_row_in_every_table() -> None:
    needed = {**VALUE_OPERATIONS, **RESHAPING, "outer": 2, "turned_product": 2, "apply": 2, "power": 2}
    del needed["broadcast"]  # written as what is spread
    juxtaposed = {"scaled": 2}  # a number times a value: in LaTeX without a sign
    assert needed.keys() == text.ROWS.keys() == latex.ROWS.keys() - juxtaposed.keys()
    assert {*POINTWISE, "product"} <= operations.TORCH.keys()
    for table, more in ((text.ROWS, {}), (latex.ROWS, juxtaposed)):
        assert {op: len(row.needs) for op, row in table.items()} == needed | more


def test_equations_of_the_peephole_lstm() -> None:
    assert render(load_cell("lstm-peephole"), "equations") == "\n".join(
        [
            "i    = sigmoid(W.i @ x[t] + U.i @ h[t-1] + p.i * c[t-1] + b.i)",
            "f    = sigmoid(W.f @ x[t] + U.f @ h[t-1] + p.f * c[t-1] + b.f)",
            "g    = tanh(W.g @ x[t] + U.g @ h[t-1] + b.g)",
            "c[t] = f * c[t-1] + i * g",
            "o    = sigmoid(W.o @ x[t] + U.o @ h[t-1] + p.o * c[t] + b.o)",
            "h[t] = o * tanh(c[t])",
        ]
    )


def test_a_value_without_a_name_takes_none_of_a_parameter_group() -> None:
    @cell
    def shared(x, h, W, s):  # type: ignore[no-untyped-def]
        return (W @ x + h) * s.a + softplus(W @ x + h) * s.b

    assert render(shared, "equations") == "s_2  = W @ x[t] + h[t-1]\nh[t] = s_2 * s.a + softplus(s_2) * s.b"


def test_latex_of_fastgrnn() -> None:
    assert render(load_cell("fastgrnn"), "latex") == "\n".join(
        [
            r"\begin{aligned}",
            r"s_{t} &= W x_{t} + U h_{t-1} \\",
            r"z_{t} &= \sigma(s_{t} + b_{z}) \\",
            r"n_{t} &= \tanh(s_{t} + b_{n}) \\",
            r"h_{t} &= (\sigma(\zeta) \odot (1 - z_{t}) + \sigma(\nu)) \odot n_{t} + z_{t} \odot h_{t-1}",
            r"\end{aligned}",
        ]
    )


def test_parentheses_keep_the_meaning() -> None:
    @cell
    def grouped(x, h, W, a):  # type: ignore[no-untyped-def]
        return h - (W @ x - a * h) / (a / (h * 2)) * -(h + 1e-7)

    assert render(grouped, "equations") == (
        "h[t] = h[t-1] - (W @ x[t] - a * h[t-1]) / (a / (h[t-1] * 2)) * (-(h[t-1] + 1e-07))"
    )
    assert r"\frac{W x_{t} - a \odot h_{t-1}}{\frac{a}{2\,h_{t-1}}}" in render(grouped, "latex")
    assert r"1 \cdot 10^{-7}" in render(grouped, "latex")


def test_a_number_is_juxtaposed_with_what_it_multiplies_and_vectors_have_a_sign_between_them() -> None:
    @cell
    def leaky(x, h, m, W, a):  # type: ignore[no-untyped-def]
        m = 0.75 * m + (h * -2) * (0.5 * (W @ x)) - 3 * (m + a)
        return a * m, m

    assert r"m_{t} &= 0.75\,m_{t-1} + (-2)\,h_{t-1} \odot (0.5\,(W x_{t})) - 3\,(m_{t-1} + a)" in render(leaky, "latex")
    assert r"h_{t} &= a \odot m_{t}" in render(leaky, "latex")


def test_a_name_given_twice_is_told_apart_and_a_kept_state_gets_its_line() -> None:
    @cell
    def doubled(x, h, old, W):  # type: ignore[no-untyped-def]
        a = W @ x + old
        a = softplus(a)
        a = maximum(a, where(a > h, a, 1.0))
        return a * h, h

    assert render(doubled, "equations") == "\n".join(
        [
            "a      = W @ x[t] + old[t-1]",
            "a_2    = softplus(a)",
            "a_3    = maximum(a_2, where(a_2 > h[t-1], a_2, 1))",
            "h[t]   = a_3 * h[t-1]",
            "old[t] = h[t-1]",
        ]
    )


def test_the_graph_shows_shapes_as_letters() -> None:
    lines = render(load_cell("rnn"), "graph").splitlines()
    assert lines[0].split() == ["0", "x", "input", "D"]
    assert ["2", "W", "parameter", "H×D"] in [line.split() for line in lines]
    assert lines[-1] == "new states: h = 9"


@pytest.mark.parametrize("target", TARGETS)
def test_every_cell_renders(target: str) -> None:
    for one in zoo().values():
        shown = render(one, target)
        assert shown.count("(") == shown.count(")")
        assert shown.count("{") == shown.count("}")
        assert "None" not in re.sub(r"\[None, :\]|\[:, None\]", "", shown)
        for node in (fold(one)[0] if target == "js" else one).graph.parameters():
            assert target == "latex" or re.search(rf"\b{re.escape(str(node.name))}\b", shown)


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(CellError, match="unknown target 'latx'; did you mean 'latex'"):
        render(load_cell("rnn"), "latx")


def test_a_kernels_lines_stand_under_their_equations_with_their_names() -> None:
    lines = [line.strip() for line in render(zoo()["lstm"], "c").splitlines()]
    at = lines.index("// c[t] = f * c[t-1] + i * g")
    assert lines[at + 1] == "const vec c_next = f * load(old_c + at) + i * g;"
    assert "// i_sum = W.i @ x + U.i @ h + b.i" in lines
    assert "real *weight_W_i;    /* (H, D) */" in lines
    through = lines.index("// through o = sigmoid(W.o @ x[t] + b.o + U.o @ h[t-1])")
    assert lines[through + 1].startswith("const vec d_o_sum = ")


def test_sums_heads_parts_and_sizes_are_shown_as_they_are_written() -> None:
    @cell
    def own(  # type: ignore[no-untyped-def]
        x: Parts("value", gap=1),  # type: ignore[valid-type]
        h,
        m: Size("H/2"),  # type: ignore[valid-type]
        S: Learned(0.5, size=Heads(2)),  # type: ignore[valid-type]
        W,
        R,
    ):
        v = W.v @ x.value
        g = v / v.max() - v.mean() * x.gap
        S = rows(g) * S + outer(v, h)
        m = R @ (S.T @ h) + m
        return softmax(S @ g) + W.m @ m, m, S

    assert render(own, "equations") == "\n".join(
        [
            "v       = W.v @ x.value[t]",
            "g       = v / v.max() - v.sum() / H * x.gap[t]",
            "S[t]    = rows(g) * S[t-1] + outer(v, h[t-1])",
            "m[t]    = R @ (S[t].T @ h[t-1]) + m[t-1]",
            "s       = S[t] @ g",
            "s_2     = exp(s - stop(s.max()))",
            "h[t]    = s_2 / s_2.sum() + W.m @ m[t]",
            "S[0]    := 0.5",
            "x.value : D-1",
            "x.gap   : 1",
            "m       : H/2",
            "S       : H×H/2",
            "R       : H/2×H",
        ]
    )
    for line in (
        r"S_{t} &= (g_{t} \mathbf{1}^{\top}) \odot S_{t-1} + v_{t} h_{t-1}^{\top} \\",
        r"m_{t} &= R (S_{t}^{\top} h_{t-1}) + m_{t-1} \\",
        r"x_{\mathrm{value},t} &\in \mathbf{R}^{D-1} \\",
        r"S_{t} &\in \mathbf{R}^{H \times \lfloor H/2 \rfloor} \\",
    ):
        assert line in render(own, "latex")
    assert own.parameters(3, 4)["S.first"] == (4, 2)
