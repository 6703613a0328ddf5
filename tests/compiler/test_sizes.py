"""Values of several sizes: every back end that runs such cells gives what the equations mean."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from cello.cells.definition import Cell
from cello.cells.noise import with_noise
from cello.compiler.backends import TABLE, Backend
from cello.compiler.c.launch import compiled
from cello.compiler.reference import reference
from cello.compiler.scan import scan, step
from cello.errors import ModelError
from scans import Case, everything
from sized_cells import SIZED, Building

needs_compiler = pytest.mark.wants("cc")
each_cell = pytest.mark.parametrize("name", SIZED)


@pytest.fixture(autouse=True, scope="module")
def buffers_begin_with_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)  # which fills torch.empty with NaN
    yield
    torch.use_deterministic_algorithms(False)


def sized_case(
    cell: Cell, dtype: torch.dtype = torch.float64, inputs: int = 7, hidden: int = 6, batch: int = 4, steps: int = 5
) -> Case:
    """Frames, first states and weights, four clips of five frames."""
    draw = torch.Generator().manual_seed(0)

    def leaf(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=draw, dtype=torch.float64) * scale).to(dtype).requires_grad_()

    x, shapes = leaf(batch, steps, inputs), cell.parameters(inputs, hidden)
    weights = {name: leaf(*shape, scale=1 / max(2, hidden**0.5)) for name, shape in shapes.items()}
    return x, tuple(leaf(batch, *sizes, scale=0.5) for sizes in cell.state_sizes(inputs, hidden)), weights


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float, atol: float) -> None:
    for what, value in expected.items():
        torch.testing.assert_close(
            found[what], value, rtol=rtol, atol=atol, msg=lambda text, what=what: f"{what}: {text}"
        )


@each_cell
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("backend", ["plain", pytest.param("c", marks=needs_compiler)])
def test_a_cell_of_several_sizes_is_the_reference(
    name: str, reverse: bool, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TABLE, "reference", Backend("reference", reference))
    case = sized_case(SIZED[name])
    more = {"lengths": [5, 0, 3, 1], "reverse": reverse}
    expected = everything(SIZED[name], case, "reference", **more)
    tolerance = 1e-12 if backend == "plain" else 1e-10
    assert_same(everything(SIZED[name], case, backend, **more), expected, tolerance, tolerance)


@each_cell
@needs_compiler
@pytest.mark.parametrize(
    "sizes", [(1, 1, 3, 2), (1, 9, 5, 34), (100, 2, 7, 20), (3, 4, 41, 72), (2, 3, 7, 16), (2, 2, 3, 64)], ids=str
)
def test_sizes_that_fit_no_vector_and_those_that_do(name: str, sizes: tuple[int, int, int, int]) -> None:
    batch, steps, inputs, hidden = sizes
    case = sized_case(SIZED[name], inputs=inputs, hidden=hidden, batch=batch, steps=steps)
    lengths = [(clip * 7 + steps) % (steps + 1) for clip in range(batch)]
    for more in ({}, {"lengths": lengths, "reverse": True}):
        plain, c = (everything(SIZED[name], case, backend, **more) for backend in ("plain", "c"))
        assert_same(c, plain, rtol=1e-9, atol=1e-10)
        with torch.no_grad():
            unkept = scan(SIZED[name], case[0], case[2], state=case[1], backend="c", **more)
        assert torch.equal(unkept.outputs, c["outputs"])
        for number, last in enumerate(unkept.state):
            assert torch.equal(last, c[f"last {number}"])


@each_cell
@needs_compiler
def test_single_precision_is_double_within_rounding(name: str) -> None:
    exact, single = (sized_case(SIZED[name], dtype, 39, 64, 35, 6) for dtype in (torch.float64, torch.float32))
    expected = everything(SIZED[name], exact, "plain")
    for key, value in everything(SIZED[name], single, "c").items():
        error, scale = (value.double() - expected[key]).abs().max(), expected[key].abs().max()
        assert error <= 2e-5 * scale, f"{key}: {error / scale:.1e}"


@each_cell
@needs_compiler
def test_the_number_of_threads_changes_no_bit(name: str) -> None:
    case, before = sized_case(SIZED[name], torch.float32, 5, 6, 300, 3), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            found.append(everything(SIZED[name], case, "c", lengths=[clip % 4 for clip in range(300)]))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert_same(other, found[0], rtol=0, atol=0)


@each_cell
@needs_compiler
def test_a_clip_alone_is_the_clip_among_others_to_the_bit(name: str) -> None:
    x, state, weights = sized_case(SIZED[name], torch.float32, 39, 34, 17, 9)
    with torch.no_grad():
        whole = scan(SIZED[name], x, weights, state=state, backend="c")
        for count in (1, 2, 7):
            part = scan(SIZED[name], x[:count], weights, state=[each[:count] for each in state], backend="c")
            assert torch.equal(part.outputs, whole.outputs[:count]), count


class Layer(nn.Module):
    """A cell over time, between operations of torch."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.cell = cell
        for name, value in sized_case(cell, torch.float32)[2].items():
            self.register_parameter(name.replace(".", "_"), nn.Parameter(value.detach()))

    def forward(self, x: Tensor) -> Tensor:
        weights = {name: self.get_parameter(name.replace(".", "_")) for name in self.cell.parameters(7, 6)}
        result = scan(self.cell, x * 2, weights)
        return result.outputs.sin().sum(1) + result.state[-1].flatten(1).sum(1, keepdim=True)


@each_cell
@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*lru_cache.*:UserWarning")
def test_a_compiled_model_is_the_model(name: str) -> None:
    layer = Layer(SIZED[name])
    found = []
    for run in (layer, torch.compile(layer, backend="aot_eager", fullgraph=True)):
        x = sized_case(SIZED[name], torch.float32)[0].detach().requires_grad_()
        outputs = run(x)
        found.append((outputs, *torch.autograd.grad((outputs**2).sum(), [x, *layer.parameters()])))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


@needs_compiler
def test_what_is_not_trained_is_left_out_and_changes_no_other_derivative() -> None:
    cell, grads = SIZED["normalised"], {}
    for trained in (("U.u", "zeta"), ("x", "first 0", "W.u", "U.u", "W.g", "g", "b", "zeta")):
        x, state, weights = sized_case(cell, torch.float32)
        leaves = {"x": x, "first 0": state[0], **weights}
        leaves = {name: value.detach().requires_grad_(name in trained) for name, value in leaves.items()}
        result = scan(
            cell, leaves["x"], {name: leaves[name] for name in weights}, state=[leaves["first 0"]], backend="c"
        )
        result.outputs.square().sum().backward()
        grads[trained] = {name: value.grad for name, value in leaves.items()}
    few, whole = grads.values()
    for name, value in few.items():
        assert torch.equal(value, whole[name]) if name in ("U.u", "zeta") else value is None


@needs_compiler
def test_masks_of_states_of_any_size() -> None:
    for name, states in (("projected", ("h", "c")), ("heads", ("S",))):
        cell = with_noise(SIZED[name], zoneout=states)
        case = sized_case(cell)
        sizes = dict(zip(cell.states, cell.state_sizes(7, 6), strict=True))
        draw = torch.Generator().manual_seed(1)
        masks = {f"zoneout_{s}": torch.rand(4, 5, *sizes[s], generator=draw, dtype=torch.float64) for s in states}
        plain, c = (everything(cell, case, backend, masks=masks) for backend in ("plain", "c"))
        assert_same(c, plain, rtol=1e-10, atol=1e-10)


def crossing() -> Cell:
    """Reductions as new states and as vectors of products, read late and often; values that are spread while static."""
    b = Building()
    x, h, m, S = b.x(), b.state("h"), b.state("m", "1"), b.state("S", "H,H/2")
    p = b("product", b.learned("W.p", "H,D"), x)
    keys = b("add", p, b.to("spread", b.learned("s", "1"), "H"))
    new = b("mul", b("add", S, b.learned("A", "H,H/2")), b.to("columns", b("tanh", keys), "H,H/2"))
    new = b("mul", b("div", b.learned("zeta", ""), b.leaf("size", "H/2", "")), new)
    read = b("row_sum", new)
    most = b("largest", b("mul", b.learned("zeta", ""), h))
    mean = b("div", b("total", read), b("sqrt", b.leaf("size", "H", "")))
    u = b("add", b("product", b.learned("U.u", "H,H"), read), b("product", b.learned("V", "H,1"), mean))
    gate = b("mul", b.to("spread", b("stop", most), "H"), b("tanh", b("add", u, b.to("spread", most, "H"))))
    m = b("sub", mean, b("product", b.learned("R", "1,H"), gate))
    return b.cell("crossing", {"h": b("column_sum", new), "m": m, "S": new}, "W A U V R s zeta")


@needs_compiler
@pytest.mark.parametrize("hidden", [6, 34])
def test_sums_as_states_and_as_vectors_of_products(hidden: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE, "reference", Backend("reference", reference))
    cell = crossing()
    case = sized_case(cell, hidden=hidden)
    expected, found = (everything(cell, case, backend, lengths=[5, 0, 3, 1]) for backend in ("reference", "c"))
    assert_same(found, expected, rtol=1e-9, atol=1e-10)


@needs_compiler
def test_memory_for_backward_is_what_is_asked_for() -> None:
    for name, cell in SIZED.items():
        code = compiled(cell, torch.float32)
        unit = code.library.vec_length()
        history, _ = code.largest_saved(2, 3, 7, 6)
        states = sum(-(-sizes[0] // unit) * unit * (sizes[1] if sizes[1:] else 1) for sizes in cell.state_sizes(7, 6))
        assert history == 4 * 2 * states, name


def masks_of(cell: Cell, batch: int = 4, steps: int = 5) -> dict[str, Tensor]:
    """Zoneout of every state, of its own shape."""
    sizes = zip(cell.states, cell.state_sizes(7, 6), strict=True)
    torch.manual_seed(1)
    return {f"zoneout_{name}": torch.rand(batch, steps, *own, dtype=torch.float64).round() for name, own in sizes}


@each_cell
def test_derivatives_of_several_sizes_can_be_differentiated_again(name: str) -> None:
    cell = SIZED[name]
    x, _, weights = sized_case(cell)
    names, few = [*weights], x[:2, :2].detach().requires_grad_()

    def outputs(x: Tensor, *values: Tensor) -> Tensor:
        return scan(cell, x, dict(zip(names, values, strict=True)), lengths=[2, 1], backend="plain").outputs

    assert torch.autograd.gradcheck(outputs, (few, *weights.values()), fast_mode=True)
    assert torch.autograd.gradgradcheck(outputs, (few, *weights.values()), fast_mode=True)


@each_cell
def test_gradients_of_each_clip_by_torch_func_are_those_of_the_batch(name: str) -> None:
    cell, lengths = SIZED[name], [5, 0, 3, 1]
    x, _, weights = sized_case(cell)

    def of_one(clip: Tensor, length: Tensor) -> dict[str, Tensor]:
        def loss(values: dict[str, Tensor]) -> Tensor:
            return scan(cell, clip[None], values, lengths=length[None]).outputs.sum()

        return torch.func.grad(loss)({key: value.detach() for key, value in weights.items()})

    found = torch.vmap(of_one)(x.detach(), torch.tensor(lengths))
    whole = scan(cell, x, weights, lengths=lengths, backend="plain").outputs.sum()
    for key, grad in zip(weights, torch.autograd.grad(whole, list(weights.values())), strict=True):
        torch.testing.assert_close(found[key].sum(0), grad, msg=f"{name}: {key}")


@each_cell
@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_that_are_not_known_yet_give_what_known_ones_do(name: str, reverse: bool) -> None:
    cell = with_noise(SIZED[name], SIZED[name].states)
    x, _, weights = sized_case(SIZED[name])
    fixed = {key: value.detach() for key, value in weights.items()}
    masks, lengths = masks_of(SIZED[name]), torch.tensor([5, 0, 3, 1])

    def run(x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        result = scan(cell, x, fixed, masks=masks, lengths=lengths, reverse=reverse, backend="plain")
        return (result.outputs, *result.state)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(run, (x.detach(), torch.tensor([5, 5, 5, 5])), check_trace=False)
    torch.testing.assert_close(traced(x.detach(), lengths), run(x.detach(), lengths))


@pytest.mark.filterwarnings("ignore:.*lru_cache.*:UserWarning")
@pytest.mark.parametrize("name", ["projected", "heads"])
def test_torch_compile_takes_several_sizes_in_one_graph(name: str) -> None:
    cell = SIZED[name]
    x, _, weights = sized_case(cell)
    names = [*weights]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return scan(cell, x, dict(zip(names, values, strict=True)), backend="plain").outputs

    compiled = torch.compile(run, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, *weights.values()), run(x, *weights.values()))


@each_cell
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near_single(name: str, dtype: torch.dtype) -> None:
    cell = SIZED[name]
    x, _, weights = sized_case(cell, torch.float32)
    exact = scan(cell, x, weights, backend="plain").outputs
    half = scan(cell, x.to(dtype), {key: value.to(dtype) for key, value in weights.items()}, backend="plain").outputs
    assert half.dtype is dtype
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=0.05)


@each_cell
def test_steps_of_several_sizes_are_the_scan_and_nothing_gives_empty_outputs(name: str) -> None:
    cell = SIZED[name]
    x, state, weights = sized_case(cell)
    expected = scan(cell, x, weights, state=state, backend="plain").state
    for t in range(x.shape[1]):
        state = step(cell, x[:, t], state, weights)
    torch.testing.assert_close(state, expected)
    size = cell.output_size(7, 6)
    for few in (x[:0], x[:, :0]):
        assert scan(cell, few, weights, backend="plain").outputs.shape == (*few.shape[:2], size)


def test_a_root_of_a_size_is_a_number() -> None:
    b = Building()
    x, h = b.x(), b.state("h")
    scale = b("sqrt", b.leaf("size", "H", ""))
    total = b("div", b("product", b.learned("U", "H,H"), h), scale)
    cell = b.cell("scaled", {"h": b("tanh", b("add", b("product", b.learned("W", "H,D"), x), total))}, "W U")
    x_, _, weights = sized_case(cell)
    found = scan(cell, x_, weights, backend="plain").outputs[:, 1]
    before = scan(cell, x_[:, :1], weights, backend="plain").state[0]
    torch.testing.assert_close(found, torch.tanh(x_[:, 1] @ weights["W"].T + before @ weights["U"].T / 6**0.5))


def test_sizes_that_a_cell_cannot_have_are_refused_with_the_nearest() -> None:
    for name, inputs, hidden, message in (
        ("heads", 7, 5, "H=5 does not fit cell 'heads', which divides its units into 2 equal parts; use 4 or 6"),
        (
            "gaps",
            8,
            6,
            r"D=8 does not fit .* value \(\(D-1\)/2\), mask \(\(D-1\)/2\), gap \(1\); give frames of 7 or 9",
        ),
    ):
        cell = SIZED[name]
        weights = {key: torch.zeros(shape) for key, shape in cell.parameters(inputs, hidden).items()}
        with pytest.raises(ModelError, match=message):
            scan(cell, torch.zeros(1, 2, inputs), weights)
