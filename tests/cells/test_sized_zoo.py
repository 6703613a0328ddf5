"""The zoo's cells of several sizes are their papers' equations, written again in torch.

What hurts: an output, a last state or a gradient, of ragged clips too, that differs from an eager loop in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn.functional import elu, group_norm, linear, logsigmoid, silu, softplus

from cello.cells.definition import Cell
from cello.cells.load import every_cell, load_cell, zoo
from cello.compiler.scan import scan
from cello.errors import CellError

D, H, HEADS, LENGTHS = 9, 8, 4, [7, 0, 4, 7, 1]
W = dict[str, Tensor]
States = tuple[Tensor, ...]


def affine(w: W, gate: str, x: Tensor, h: Tensor) -> Tensor:
    return linear(x, w[f"W.{gate}"], w[f"b.{gate}"]) + linear(h, w[f"U.{gate}"])


def lstm_step(w: W, x: Tensor, h: Tensor, c: Tensor) -> States:
    i, f, o = (torch.sigmoid(affine(w, gate, x, h)) for gate in "ifo")
    c = f * c + i * torch.tanh(affine(w, "g", x, h))
    return o * torch.tanh(c), c


def lstm_projected(x: Tensor, s: States, w: W) -> States:
    h, c = s
    i, f = (torch.sigmoid(affine(w, gate, x, h) + w[f"p.{gate}"] * c) for gate in "if")
    c = f * c + i * torch.tanh(affine(w, "g", x, h))
    o = torch.sigmoid(affine(w, "o", x, h) + w["p.o"] * c)
    return linear(o * torch.tanh(c), w["R"]), c


def fastgrnn_low_rank(x: Tensor, s: States, w: W) -> States:
    (h,) = s
    total = x @ (w["W.up"] @ w["W.down"]).T + h @ (w["U.up"] @ w["U.down"]).T
    z, n = torch.sigmoid(total + w["b.z"]), torch.tanh(total + w["b.n"])
    return ((torch.sigmoid(w["zeta"]) * (1 - z) + torch.sigmoid(w["nu"])) * n + z * h,)


def mogrifier_lstm(x: Tensor, s: States, w: W) -> States:
    h, c = s
    for turn in range(5):
        name = "abc"[turn // 2]
        if turn % 2:
            h = 2 * torch.sigmoid(linear(x, w[f"R.{name}"])) * h
        else:
            x = 2 * torch.sigmoid(linear(h, w[f"Q.{name}"])) * x
    return lstm_step(w, x, h, c)


def block(matrix: Tensor) -> Tensor:
    """The blocks (H, H / heads) as one matrix (H, H)."""
    return torch.block_diag(*matrix.chunk(HEADS, 0))


def gru_heads(x: Tensor, s: States, w: W) -> States:
    (h,) = s
    r, z = (torch.sigmoid(linear(x, w[f"W.{g}"], w[f"b.{g}"]) + h @ block(w[f"U.{g}"]).T) for g in "rz")
    n = torch.tanh(linear(x, w["W.n"], w["b.n"]) + r * (h @ block(w["U.n"]).T + w["b.u"]))
    return (n + z * (h - n),)


def qrnn_3(x: Tensor, s: States, w: W) -> States:
    _, c, x1, x2 = s
    z, f, o = (
        linear(torch.cat((x, x1, x2), 1), torch.cat([w[f"{group}.{g}"] for group in "WVU"], 1), w[f"b.{g}"])
        for g in "zfo"
    )
    c = torch.lerp(torch.tanh(z), c, torch.sigmoid(f))
    return torch.sigmoid(o) * c, c, x, x1


def rnn_window_attention(x: Tensor, s: States, w: W) -> States:
    old = torch.stack(s, 1)
    share = ((old @ linear(x, w["W.q"]).unsqueeze(2)) / H).softmax(1)
    return torch.tanh(linear(x, w["W.h"], w["b"]) + linear((share * old).sum(1), w["U"])), s[0], s[1]


def heads(v: Tensor) -> Tensor:
    return v.unflatten(-1, (HEADS, -1))


def memory(S: Tensor) -> Tensor:
    """The state (B, H, d) as (B, heads, d, d)."""
    return S.unflatten(1, (HEADS, -1))


def read(S: Tensor, q: Tensor) -> Tensor:
    return torch.einsum("bhij,bhj->bhi", S, heads(q)).flatten(1)


def held(v: Tensor, k: Tensor) -> Tensor:
    return torch.einsum("bhi,bhj->bhij", heads(v), heads(k))


def mlstm_heads(x: Tensor, s: States, w: W) -> States:
    """Without a stabiliser's help: it is computed beside, for its own value only."""
    _, C, n, m = s
    i, f, k, v, q, o = (linear(x, w[f"W.{gate}"], w[f"b.{gate}"]) for gate in "ifkvqo")
    logf, old = logsigmoid(f), heads(m)[..., 0]
    new = torch.maximum(logf + old, i)
    i, f = (i - new).exp()[..., None], (logf + old - new).exp()[..., None]
    k, q = heads(k) / math.sqrt(H / HEADS), heads(q) / math.sqrt(H / HEADS) * math.sqrt(H / HEADS)
    cell = f[..., None] * memory(C) + i[..., None] * torch.einsum("bhi,bhj->bhij", heads(v), k)
    norm = f * heads(n) + i * k
    below = torch.maximum((norm * q).sum(-1, keepdim=True).abs(), (-new).exp()[..., None])
    y = torch.einsum("bhij,bhj->bhi", cell, q) / below
    h = torch.sigmoid(o) * (y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt()).flatten(1)
    return h, cell.flatten(1, 2), norm.flatten(1), new.repeat_interleave(H // HEADS, 1)


def linear_attention(x: Tensor, s: States, w: W) -> States:
    _, S, z = s
    k, v, q = (linear(x, w[f"W.{gate}"]) for gate in "kvq")
    k, q = elu(k) + 1, elu(q) + 1
    new, z = memory(S) + held(v, k), z + k
    below = (heads(z) * heads(q)).sum(-1).repeat_interleave(H // HEADS, 1)
    return read(new, q) / below, new.flatten(1, 2), z


def retention(x: Tensor, s: States, w: W) -> States:
    gamma = (1 - 2.0 ** (-5.0 - torch.arange(HEADS, dtype=x.dtype)))[:, None, None]
    new = gamma * memory(s[1]) + held(linear(x, w["W.v"]), linear(x, w["W.k"]))
    y = heads(read(new, linear(x, w["W.q"])))
    return (y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt()).flatten(1), new.flatten(1, 2)


def delta_rule(x: Tensor, s: States, w: W) -> States:
    k, q = (heads(linear(x, w[f"W.{gate}"])).softmax(-1).flatten(1) for gate in "kq")
    S, rate = memory(s[1]), torch.sigmoid(linear(x, w["w"]))
    new = S + rate[..., None, None] * held(linear(x, w["W.v"]) - read(S, k), k)
    return read(new, q), new.flatten(1, 2)


def rwkv_6(x: Tensor, s: States, w: W) -> States:
    r, k, v = (linear(x, w[f"W.{gate}"]) for gate in "rkv")
    decay = (-(w["d"] + linear(torch.tanh(linear(x, w["W.down"])), w["W.up"])).exp()).exp()
    S = memory(s[1])
    h = group_norm(read(S + held(v, w["u"] * k), r), HEADS, eps=64e-5)
    return h, (S * heads(decay)[:, :, None] + held(v, k)).flatten(1, 2)


def gated_delta_net(x: Tensor, s: States, w: W) -> States:
    q, k, v, z = (silu(linear(x, w[f"W.{gate}"])) for gate in "qkvz")
    q, k = (heads(each) / (heads(each).square().sum(-1, True) + 1e-6).sqrt() for each in (q, k))
    decay = (-w["A"].exp() * softplus(linear(x, w["W.a"], w["d"]))).exp()[..., None, None]
    S, rate = decay * memory(s[1]), torch.sigmoid(linear(x, w["W.b"]))[..., None]
    new = S + held((rate * (heads(v) - heads(read(S, k.flatten(1))))).flatten(1), k.flatten(1))
    y = heads(read(new, q.flatten(1))) / (H // HEADS) ** 0.5
    y = y / (y.square().mean(-1, True) + 1e-5).sqrt()
    return w["n"] * y.flatten(1) * z, new.flatten(1, 2)


def hyper_lstm(x: Tensor, s: States, w: W) -> States:
    h, c, small, m = s
    pre = {k: sum(linear(v, w[f"{of}.{k}"]) for of, v in zip("ABC", (x, h, small), strict=True)) for k in "ifgo"}
    i, f, g, o = (pre[k] + w[f"a.{k}"] for k in "ifgo")
    m = f.sigmoid() * m + i.sigmoid() * g.tanh()
    small = o.sigmoid() * m.tanh()
    scale = {to: linear(linear(small, w["Z"]), w[f"P.{to}"]) for to in (a + b for a in "xhb" for b in "ifgo")}
    to_x = {k: (scale[f"x{k}"] + w[f"d.x{k}"]) * linear(x, w[f"W.{k}"]) for k in "ifgo"}
    to_h = {k: (scale[f"h{k}"] + w[f"d.h{k}"]) * linear(h, w[f"U.{k}"]) for k in "ifgo"}
    i, f, g, o = (to_x[k] + to_h[k] + scale[f"b{k}"] + w[f"b.{k}"] for k in "ifgo")
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c, small, m


def gru_d(x: Tensor, s: States, w: W) -> States:
    h, last = s
    value, mask, gap = x.chunk(3, 1)
    seen = mask * value + (1 - mask) * (-torch.relu(w["w"] * gap + w["b.x"])).exp() * last
    h = (-torch.relu(linear(gap, w["W.g"], w["b.h"]))).exp() * h
    r, z = (torch.sigmoid(affine(w, gate, seen, h) + linear(mask, w[f"V.{gate}"])) for gate in "rz")
    n = torch.tanh(affine(w, "n", seen, r * h) + linear(mask, w["V.n"]))
    return h + z * (n - h), mask * value + (1 - mask) * last


def t_lstm(x: Tensor, s: States, w: W) -> States:
    h, c = s
    value, gap = x[:, :-1], x[:, -1:]
    short = torch.tanh(linear(c, w["U.d"], w["b.d"]))
    return lstm_step(w, value, h, c - short * (1 - 1 / torch.log(math.e + gap)))


def cfc_gaps(x: Tensor, s: States, w: W) -> States:
    (h,) = s
    value, gap = x[:, :-1], x[:, -1:]
    t = torch.sigmoid(affine(w, "a", value, h) * gap + affine(w, "b", value, h))
    return (torch.lerp(torch.tanh(affine(w, "f", value, h)), torch.tanh(affine(w, "g", value, h)), t),)


EAGER: dict[str, Callable[[Tensor, States, W], States]] = {
    "lstm-projected": lstm_projected,
    "fastgrnn-low-rank": fastgrnn_low_rank,
    "mogrifier-lstm": mogrifier_lstm,
    "gru-heads": gru_heads,
    "qrnn-3": qrnn_3,
    "rnn-window-attention": rnn_window_attention,
    "hyper-lstm": hyper_lstm,
    "mlstm-heads": mlstm_heads,
    "linear-attention": linear_attention,
    "retention": retention,
    "delta-rule": delta_rule,
    "gated-delta-net": gated_delta_net,
    "rwkv-6": rwkv_6,
    "gru-d": gru_d,
    "t-lstm": t_lstm,
    "cfc-gaps": cfc_gaps,
}


def frames(cell: Cell) -> Tensor:
    """Random features; a mask is 0 or 1, and gaps are positive."""
    x = torch.randn(len(LENGTHS), max(LENGTHS), D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for name, _ in cell.parts:
        begin, elements = cell.part(f"x.{name}", D)
        part = x[..., begin : begin + elements]
        part.copy_({"mask": (part > 0).to(x.dtype), "gap": part.abs()}.get(name, part))
    return x.requires_grad_()


def loop(cell: Cell, x: Tensor, w: W, lengths: Sequence[int]) -> tuple[Tensor, States]:
    states: States = tuple(x.new_zeros(len(x), *sizes) for sizes in cell.state_sizes(D, H))
    outputs = []
    for t in range(x.shape[1]):
        inside = torch.tensor(lengths) > t
        new = EAGER[cell.name](x[:, t], states, w)
        pairs = zip(new, states, strict=True)
        states = tuple(torch.where(inside.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs)
        outputs.append(torch.where(inside.unsqueeze(1), new[0], 0.0))
    return torch.stack(outputs, 1), states


def everything(result: tuple[Tensor, States], leaves: list[Tensor]) -> list[Tensor]:
    outputs, states = result
    loss = (outputs * torch.linspace(-1, 2, outputs.numel(), dtype=outputs.dtype).view_as(outputs)).sum()
    loss = loss + sum((state**2).sum() for state in states)
    return [outputs, *states, *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("name", EAGER)
def test_outputs_states_and_all_gradients_are_those_of_an_eager_loop(name: str) -> None:
    cell = every_cell()[name]
    draw = torch.Generator().manual_seed(3)
    w = {
        name: (0.6 * torch.randn(shape, generator=draw, dtype=torch.float64)).requires_grad_()
        for name, shape in cell.parameters(D, H).items()
    }
    x = frames(cell)
    leaves, found = [x, *w.values()], scan(cell, x, w, lengths=LENGTHS, backend="plain")
    expected = everything(loop(cell, x, w, LENGTHS), leaves)
    assert all(bool(value.detach().abs().sum() > 0) for value in expected)
    torch.testing.assert_close(everything((found.outputs, found.state), leaves), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["mlstm-heads", "retention", "rwkv-6"])
def test_a_second_layer_is_given_values_that_do_not_grow_with_the_frames(name: str) -> None:
    cell, draw = every_cell()[name], torch.Generator().manual_seed(3)
    shapes = cell.parameters(D, H).items()
    w = {name: torch.randn(shape, generator=draw, dtype=torch.float64) for name, shape in shapes}
    outputs = scan(cell, 100 * frames(cell), w, backend="plain").outputs
    assert heads(outputs).square().mean(-1).max() < 1.001


def test_every_cell_of_the_shelves_has_its_loop() -> None:
    from cello.cells.zoo import gaps, memories, sized

    shelves = [each for shelf in (sized, memories, gaps) for each in vars(shelf).values() if isinstance(each, Cell)]
    assert sorted(each.name for each in shelves) == sorted(EAGER)


def test_cells_for_frames_with_parts_are_loaded_by_name_but_are_in_no_study_of_the_whole_zoo() -> None:
    apart = {*every_cell()} - {*zoo()}
    assert apart == {"gru-d", "t-lstm", "cfc-gaps"} == {name for name, cell in every_cell().items() if cell.parts}
    assert all(load_cell(name) is every_cell()[name] for name in apart)
    with pytest.raises(CellError, match="'gru-dd'"):
        load_cell("gru-dd")
