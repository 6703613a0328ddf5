"""A cell compiled to C is the cell: outputs, last states and every gradient, at sizes that fit no vector."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.definition import cell as make_cell
from cello.cells.functions import exp, log, maximum, minimum, relu, sigmoid, softplus, sqrt, tanh, where
from cello.cells.graph import one_size
from cello.cells.load import zoo
from cello.cells.noise import with_noise
from cello.cells.signature import Scalar
from cello.compiler.c.launch import BatchLayout, Call, by_length, compiled, inputs_of
from cello.compiler.scan import scan
from cello.errors import BackendError, ModelError
from scans import Case, covering, everything, kinds
from units import units

pytestmark = pytest.mark.wants("cc")


SIZED = ("lstm-projected", "rnn-window-attention", "mlstm-heads", "rwkv-6")
"""Of cells of several sizes: a projection, sums over units, matrices of heads multiplied by rows and by columns."""


JUMPS = {"lif", "lsnn", "exprnn", "phased-lstm"}
"""Cells with a step somewhere: near it rounding decides, and a surrogate's derivative is no finite difference."""
KINDS = [
    *(cell for cell in kinds(cell for cell in zoo().values() if one_size(cell.graph)) if cell.name not in JUMPS),
    *(zoo()[name] for name in SIZED),
]
"""Every cell's kernel in double precision is compared with the reference, gradients too, in ``test_reference``."""
OPTIMISED = covering(KINDS, longest=True)
each_kind = pytest.mark.parametrize("cell", KINDS, ids=lambda cell: cell.name)


@pytest.fixture
def optimised_for_each_operation(cell: Cell, request: pytest.FixtureRequest) -> None:
    """Some cells as users have them, the others without optimisation."""
    if cell.name not in OPTIMISED:
        request.getfixturevalue("compiled_quickly")


@pytest.fixture(autouse=True, scope="module")
def buffers_begin_with_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)  # which fills torch.empty with NaN
    yield
    torch.use_deterministic_algorithms(False)


def case(cell: Cell, sizes: tuple[int, int, int, int], dtype: torch.dtype = torch.float64) -> Case:
    """Frames, first states and weights for B, T, D, H, or the next larger H that the cell's heads divide."""
    batch, steps, inputs, hidden = *sizes[:3], units(cell, sizes[3])
    draw = torch.Generator().manual_seed(0)

    def leaf(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=draw, dtype=torch.float64) * scale).to(dtype).requires_grad_()

    states = cell.state_sizes(inputs, hidden)
    state = tuple((leaf(batch, *each).detach().abs() + 0.1).requires_grad_() for each in states)
    shapes = cell.parameters(inputs, hidden).items()
    x, weights = leaf(batch, steps, inputs), {name: leaf(*shape, scale=0.7 / hidden**0.5) for name, shape in shapes}
    for one in (one for one in cell.declared if one.bounded):
        value = torch.as_tensor(one.bounded_value(weights[one.name].detach().numpy()))
        weights[one.name] = value.to(dtype).requires_grad_()
    return x, state, weights


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float, atol: float) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


@make_cell
def frame_last(x: Any, h: Any, c: Any, W: Any, U: Any, V: Any) -> tuple[Any, Any]:
    """A sum whose product of the frame comes last, one with two of the frame, one with nothing else."""
    c = sigmoid(W.a @ x + W.b @ x + U @ h) * c + tanh(W.c @ x)
    return tanh(U @ c + V @ x), c


@pytest.mark.parametrize(
    "cell", [zoo()["lstm"], zoo()["gru-original"], zoo()["lstm-peephole-full"], frame_last], ids=str
)
@pytest.mark.parametrize(("inputs", "hidden"), [(39, 64), (5, 33), (70, 144)])
def test_a_clip_alone_is_the_clip_among_others_to_the_bit(cell: Cell, inputs: int, hidden: int) -> None:
    for steps in (1, 2, 37):
        x, state, weights = case(cell, (17, steps, inputs, hidden), torch.float32)
        x = x.detach()
        with torch.no_grad():
            whole = scan(cell, x, weights, state=state, backend="c")
            for count in (1, 2, 3, 7, 8):
                some = [part[:count] for part in state]
                part = scan(cell, x[:count], weights, state=some, backend="c")
                assert torch.equal(part.outputs, whole.outputs[:count]), (steps, count)
                for last, expected in zip(part.state, whole.state, strict=True):
                    assert torch.equal(last, expected[:count]), (steps, count)


@pytest.mark.usefixtures("optimised_for_each_operation")
@each_kind
def test_single_precision_is_double_within_rounding(cell: Cell) -> None:
    exact = case(cell, (35, 9, 39, 64))
    x, state, weights = exact
    single = (
        x.detach().float().requires_grad_(),
        tuple(part.detach().float().requires_grad_() for part in state),
        {key: value.detach().float().requires_grad_() for key, value in weights.items()},
    )
    expected, torchs = everything(cell, exact, "plain"), dict[str, Tensor]()
    for key, value in everything(cell, single, "c").items():
        error, scale = (value.double() - expected[key]).abs().max(), expected[key].abs().max()
        if error > 1e-5 * scale:  # a difference of nearly equal values, which torch rounds as much
            torchs = torchs or everything(cell, single, "plain")
            theirs = (torchs[key].double() - expected[key]).abs().max()
            assert error <= 2 * theirs, f"{key}: {error / scale:.1e}, in torch {theirs / scale:.1e}"


@pytest.mark.parametrize(
    "sizes",
    [
        (1, 1, 1, 1),
        (9, 1, 40, 33),
        (2, 3, 2, 2),
        (3, 45, 2, 70),
        (17, 19, 3, 520),
        (63, 2, 3, 65),
        (65, 3, 65, 63),
        (33, 1, 63, 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["lstm", "gru-original"])
def test_sizes_that_fit_no_vector(name: str, sizes: tuple[int, int, int, int]) -> None:
    given_case = case(zoo()[name], sizes)
    plain, c = (everything(zoo()[name], given_case, backend) for backend in ("plain", "c"))
    assert_same(c, plain, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", ["lstm", "gru-original"])
@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=40), padding=st.integers(0, 2), reverse=st.booleans())
def test_ragged_clips(name: str, lengths: list[int], padding: int, reverse: bool) -> None:
    cell, ends = zoo()[name], torch.tensor(lengths)
    x, state, weights = case(cell, (len(lengths), max(lengths) + padding, 2, 3))
    with torch.no_grad():
        for clip, length in enumerate(lengths):
            x[clip, length:] = torch.nan
    plain, c = (everything(cell, (x, state, weights), b, lengths=ends, reverse=reverse) for b in ("plain", "c"))
    assert_same(c, plain, rtol=1e-10, atol=1e-11)


@pytest.mark.usefixtures("compiled_quickly")  # test_reference compares kernels in double as users have them
@each_kind
def test_gradients_are_those_of_finite_differences(cell: Cell) -> None:
    x, state, weights = case(cell, (2, 3, 2, 3))

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(weights, rest[len(state) :], strict=True))
        ends = torch.tensor([3, 1])
        result = scan(cell, x, values, state=rest[: len(state)], lengths=ends, backend="c")
        return (result.outputs, *result.state)

    assert torch.autograd.gradcheck(run, (x, *state, *weights.values()), fast_mode=True)


@pytest.mark.parametrize("name", ["lstm", "gru-original"])
def test_a_thousand_units(name: str) -> None:
    given_case = case(zoo()[name], (2, 2, 5, 1024))
    plain, c = (everything(zoo()[name], given_case, backend) for backend in ("plain", "c"))
    assert_same(c, plain, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("lengths", [None, torch.arange(0, 300) % 7], ids=["whole", "ragged"])
def test_the_number_of_threads_changes_no_bit(lengths: Tensor | None) -> None:
    cell = zoo()["lstm-peephole-full"]
    given_case, before = case(cell, (300, 6, 3, 5), torch.float32), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 8, 20):
            torch.set_num_threads(threads)
            found.append(everything(cell, given_case, "c", lengths=lengths))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert_same(other, found[0], rtol=0, atol=0)


@pytest.mark.usefixtures("compiled_quickly")
def test_zoneout_of_everything_keeps_the_first_states() -> None:
    cell = with_noise(zoo()["lstm"], zoneout=("h", "c"))
    x, state, weights = case(cell, (3, 4, 2, 5))
    masks = {name: torch.ones(1, 1, 1, dtype=torch.float64) for name in ("zoneout_h", "zoneout_c")}
    for backend in ("plain", "c"):
        last = scan(cell, x, weights, state=state, masks=masks, backend=backend).state
        torch.testing.assert_close(last, state, rtol=0, atol=0)


def test_masks_that_do_not_fit_are_named() -> None:
    cell = with_noise(zoo()["rnn"], zoneout=("h",))
    x, _, weights = case(cell, (2, 3, 2, 4))
    with pytest.raises(ModelError, match=r"'rnn' got masks none; it needs zoneout_h"):
        scan(cell, x, weights)
    with pytest.raises(ModelError, match=r"mask zoneout_h is \(2, 4\) of torch.float64; it must expand to \(B, T, H\)"):
        scan(cell, x, weights, masks={"zoneout_h": torch.ones(2, 4, dtype=torch.float64)})


def test_tensors_in_any_layout() -> None:
    cell = zoo()["lstm"]
    x, state, weights = case(cell, (5, 4, 3, 6))
    turned = (
        x.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_(),
        tuple(part.detach().t().contiguous().t().requires_grad_() for part in state),
        {name: value.detach().t().contiguous().t().requires_grad_() for name, value in weights.items()},
    )
    assert_same(everything(cell, turned, "c"), everything(cell, (x, state, weights), "plain"), rtol=1e-10, atol=1e-11)


def test_without_gradients_nothing_is_kept_and_the_numbers_are_the_same() -> None:
    cell = zoo()["lstm-peephole-full"]
    x, state, weights = case(cell, (35, 4, 3, 5))
    result = scan(cell, x, weights, state=state, backend="c")
    with torch.no_grad():
        alone = scan(cell, x, weights, state=state, backend="c")
    assert result.outputs.grad_fn is not None
    torch.testing.assert_close((alone.outputs, alone.state), (result.outputs, result.state), rtol=0, atol=0)


def test_what_the_kernel_cannot_do_is_refused() -> None:
    cell = zoo()["rnn"]
    x, _, weights = case(cell, (1, 1, 2, 2), torch.float16)
    with pytest.raises(BackendError, match=r"runs float32 and float64 on the CPU, not torch\.float16 on cpu"):
        scan(cell, x, weights, backend="c")
    x, _, weights = case(cell, (1, 2, 2, 2))
    loss = scan(cell, x, weights, backend="c").outputs.sum()
    with pytest.raises(BackendError, match=r'no second derivatives \(create_graph=True\); use backend="plain"'):
        torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(ModelError, match="'rnn' has no weights for U"):
        scan(cell, x, {"W": weights["W"], "b": weights["b"]}, backend="c")


@pytest.mark.usefixtures("compiled_quickly")
def test_names_of_c_and_of_the_kernel_may_be_a_cells_names() -> None:
    @make_cell
    def odd(x: Any, old: Any, t: Any, row: Any, double: Any, a: Any, n: Any, P: Scalar) -> tuple[Any, Any]:
        j = row @ x + double @ old
        load = sigmoid(j * P) * n
        old_0 = d_old = tanh(j - load * t)  # noqa: F841
        struct = a * t + load * load
        return old_0, struct

    given_case = case(odd, (2, 3, 2, 3))
    assert_same(everything(odd, given_case, "c"), everything(odd, given_case, "plain"), rtol=1e-10, atol=1e-11)


@make_cell
def swapping(x: Any, h: Any, g: Any, m: Any, W: Any, U: Any, s: Scalar) -> tuple[Any, Any, Any]:
    """New states that are old states, values of the frame and products; a matrix used twice; a number shared."""
    q = U @ h
    return g + s, relu(W.a @ x) * s, q + U @ (q * tanh(m)) + W.b @ x


@make_cell
def exchanging(x: Any, h: Any, c: Any, e: Any, W: Any, U: Any) -> tuple[Any, Any, Any]:
    """An old state, a product and a map of the frame, each a new state as it is."""
    return c, U @ h, W @ x + e * 0.5


@make_cell
def functions(x: Any, h: Any, W: Any, U: Any, p: Any, s: Scalar) -> Any:
    """Every function of the language."""
    v = U @ h + W @ x
    u = sqrt(1 + v * v) + log(2 + abs(v)) + softplus(v - s) + minimum(v, p) + maximum(v, 0.5) + minimum(0.1, v)
    return where(u > p, relu(v) - exp(-abs(u)), maximum(u, p * h) / (1 + u * u)) - where(v <= 0.0, v * s, tanh(u))


@make_cell
def stacked(x: Any, h: Any, W: Any, U: Any, V: Any, b: Any) -> Any:
    """Matrices that multiply bare products and sums of products, one of them read again."""
    n = U @ h + b
    return tanh(V.a @ (V.b @ n) + V.c @ (W @ x) + V.b @ (n + h)) + V.a @ n


@pytest.mark.parametrize("cell", [swapping, exchanging, functions, stacked], ids=lambda cell: cell.name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_cells_unlike_those_of_the_zoo(cell: Cell, dtype: torch.dtype, request: pytest.FixtureRequest) -> None:
    if cell is not functions:
        request.getfixturevalue("compiled_quickly")
    given_case = case(cell, (3, 4, 2, 3), dtype)
    rtol, atol = (1e-10, 1e-11) if dtype == torch.float64 else (1e-4, 1e-5)
    assert_same(everything(cell, given_case, "c"), everything(cell, given_case, "plain"), rtol, atol)


@make_cell
def gates(x: Any, h: Any, k: Any, m: Any, n: Any, o: Any, W: Any) -> tuple[Any, ...]:
    """New states that are functions of the old ones."""
    return sigmoid(h) + W @ x, tanh(k), relu(m), softplus(n), exp(o)


@make_cell
def others(x: Any, h: Any, k: Any, m: Any, W: Any) -> tuple[Any, ...]:
    """The other functions of one value."""
    return log(h) + W @ x, sqrt(k), abs(m)


@make_cell
def choices(x: Any, h: Any, k: Any, m: Any, W: Any, p: Any) -> tuple[Any, ...]:
    """Each choice between an old state and a parameter."""
    return minimum(h, p) + W @ x, maximum(k, p), where(m > p, m, p)


def last_states(cell: Cell, values: Tensor, weights: dict[str, Tensor]) -> list[tuple[Tensor, ...]]:
    """After one step from these states: last states in C, gradients in C, both by plain evaluation; for each state."""
    first = tuple(values.clone().requires_grad_() for _ in cell.states)
    x, found = values.new_zeros(len(values), 1, 1), []
    for backend in ("c", "plain"):
        last = scan(cell, x, weights, state=first, backend=backend).state
        found += [last, torch.autograd.grad([part.sum() for part in last], first)]
    return [*zip(*found, strict=True)]


@pytest.mark.parametrize("cell", [gates, others], ids=lambda cell: cell.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_functions_of_extreme_values_are_those_of_plain_evaluation(cell: Cell, dtype: torch.dtype) -> None:
    info = torch.finfo(dtype)
    odd = [0.0, info.tiny, info.tiny / 8, 1e-20, info.max, torch.inf]
    values = [torch.tensor([*odd, *(-v for v in odd), torch.nan], dtype=dtype)]
    values += [torch.linspace(-end, end, 5001).to(dtype) for end in (800, 110, 1)]
    given_states = torch.cat(values).view(-1, 1)
    for name, (c, d_c, plain, d_plain) in zip(
        cell.states, last_states(cell, given_states, {"W": torch.zeros(1, 1, dtype=dtype)}), strict=True
    ):
        least = 2 * info.smallest_normal * info.eps
        torch.testing.assert_close(c, plain, rtol=3 * info.eps, atol=least, equal_nan=True, msg=f"new {name}")
        assert cell is gates or torch.equal((1 / c)[plain == 0], (1 / plain)[plain == 0]), f"new {name}: the sign of 0"
        known = ~given_states.isnan()  # of max(NaN, 0) torch's derivative is 1; a kernel's is NaN
        torch.testing.assert_close(d_c[known], d_plain[known], rtol=1e-5, atol=4 * info.eps, equal_nan=True)


def test_choices_among_extreme_values_are_those_of_plain_evaluation() -> None:
    values = torch.tensor([0.0, -0.0, 1.0, -1.0, torch.inf, -torch.inf, torch.nan])
    weights = {"W": torch.zeros(7, 1), "p": values}
    for c, d_c, plain, d_plain in last_states(choices, values.repeat(7, 1).t().contiguous(), weights):
        torch.testing.assert_close(c, plain, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(d_c[~c.isnan()], d_plain[~c.isnan()], rtol=0, atol=0)


@make_cell
def numbers(x: Any, h: Any, k: Any, W: Any) -> tuple[Any, Any]:
    """Numbers beyond float32 wherever one can stand, and one below it."""
    v = W @ x + h
    u = minimum(v, 1e300) + maximum(-1e300, v) + where(v > 1e300, 1e300, v) + where(v > -(10**40), v * 1e-300, 1e300)
    return u + where(k > 1e39, 2.0, 1e-3), where(v > 0, 1e300, -1e300) + 123456789012345678901234567890 * k


def test_numbers_too_large_for_the_dtype_are_infinite_in_both() -> None:
    for dtype in (torch.float32, torch.float64):
        x, state, weights = case(numbers, (3, 2, 2, 5), dtype)
        c, plain = (scan(numbers, x, weights, state=state, backend=backend) for backend in ("c", "plain"))
        torch.testing.assert_close((c.outputs, *c.state), (plain.outputs, *plain.state), equal_nan=True)


def test_the_time_does_not_grow_faster_than_the_batch() -> None:
    cell, taken, before = zoo()["rnn"], {}, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for batch in (32, 100_000, 800_000):
            x, _, weights = case(cell, (batch, 1, 1, 1), torch.float32)
            start = time.process_time()
            scan(cell, x.detach(), weights, backend="c").outputs.sum().backward()
            taken[batch] = time.process_time() - start
    finally:
        torch.set_num_threads(before)
    assert taken[800_000] < 20 * taken[100_000]


def test_the_memory_of_gradients_does_not_grow_with_the_batch() -> None:
    cell, before = zoo()["lstm"], torch.get_num_threads()
    code, sizes = compiled(cell, torch.float32), {}
    torch.set_num_threads(1)
    try:
        for batch in (32, 64, 800):
            x, state, weights = case(cell, (batch, 1, 2, 70), torch.float32)
            layout = BatchLayout(*by_length(x, None), 70, reverse=False)
            call = Call(code, layout, x, inputs_of(cell, weights, {}, state))
            sizes[batch] = call.known.d_packed
    finally:
        torch.set_num_threads(before)
    assert sizes[800] == sizes[64] == 2 * sizes[32]  # one group at work, and all that are done


def frozen_gradients(cell: Cell, given_case: Case, trained: tuple[str, ...]) -> dict[str, Tensor | None]:
    """The gradients of all leaves when only these are trained."""
    x, state, weights = given_case
    leaves = {"x": x, **{f"first {n}": part for n, part in enumerate(state)}, **weights}
    leaves = {name: value.detach().clone().requires_grad_(name in trained) for name, value in leaves.items()}
    first = [leaves[f"first {n}"] for n in range(len(state))]
    found = scan(cell, leaves["x"], {name: leaves[name] for name in weights}, state=first, backend="c")
    (found.outputs**2).sum().backward()
    return {name: value.grad for name, value in leaves.items()}


@pytest.mark.parametrize(
    "trained",
    [("x",), ("first 0",), ("W.i",), ("U.f", "b.o"), ("V.o", "x"), ("b.i",), ("W.g", "U.g", "V.f", "b.g")],
    ids=str,
)
def test_gradients_beside_frozen_parameters_are_the_same_to_the_bit(trained: tuple[str, ...]) -> None:
    cell = zoo()["lstm-peephole-full"]
    given_case = case(cell, (70, 5, 6, 9), torch.float32)
    everything_trained = ("x", "first 0", "first 1", *given_case[2])
    whole = frozen_gradients(cell, given_case, everything_trained)
    for name, found in frozen_gradients(cell, given_case, trained).items():
        expected = whole[name] if name in trained else None
        assert (found is None) == (expected is None), name
        assert found is None or torch.equal(found, expected), name


def test_frozen_matrices_take_no_time_in_backward() -> None:
    cell, taken = zoo()["lstm"], {}
    x, state, weights = case(cell, (32, 20, 128, 128), torch.float32)
    outputs = {}
    for trained in ("b.i", "all"):
        own = {name: value.detach().requires_grad_(trained in ("all", name)) for name, value in weights.items()}
        outputs[trained] = scan(cell, x.detach(), own, state=[part.detach() for part in state], backend="c").outputs
    for trained in ("all", "b.i") * 5:
        start = time.process_time()
        outputs[trained].backward(torch.ones_like(outputs[trained]), retain_graph=True)
        taken[trained] = min(time.process_time() - start, taken.get(trained, 1e9))
    assert taken["b.i"] < 0.6 * taken["all"]
