"""Values of several sizes: every back end that runs such cells gives what the equations mean."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from cello.cells.definition import Cell
from cello.cells.noise import with_noise
from cello.compiler.backends import TABLE, Backend
from cello.compiler.c.launch import compiled
from cello.compiler.kernel import kernel
from cello.compiler.reference import reference
from cello.compiler.scan import scan
from cello.errors import ModelError
from scans import Case, everything
from sized_cells import SIZED, Building, at_random

needs_compiler = pytest.mark.wants("cc")
quickly = pytest.mark.usefixtures("compiled_quickly")
each_cell = pytest.mark.parametrize("name", SIZED)
OPTIMISED = {"projected", "normalised", "multiplied"}
"""Of products, of sums over units, of matrices that are multiplied: their kernels are compiled as users have them."""


@pytest.fixture
def optimised_for_some(name: str, request: pytest.FixtureRequest) -> None:
    if name not in OPTIMISED:
        request.getfixturevalue("compiled_quickly")


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


@quickly
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


@quickly
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
def test_single_precision_is_double_within_rounding(name: str, optimised_for_some: None) -> None:
    exact, single = (sized_case(SIZED[name], dtype, 39, 64, 35, 6) for dtype in (torch.float64, torch.float32))
    expected = everything(SIZED[name], exact, "plain")
    for key, value in everything(SIZED[name], single, "c").items():
        error, scale = (value.double() - expected[key]).abs().max(), expected[key].abs().max()
        assert error <= 2e-5 * scale, f"{key}: {error / scale:.1e}"


@each_cell
@needs_compiler
def test_the_number_of_threads_changes_no_bit(name: str, optimised_for_some: None) -> None:
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
def test_a_clip_alone_is_the_clip_among_others_to_the_bit(name: str, optimised_for_some: None) -> None:
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


@pytest.mark.parametrize("name", ["projected", "gaps", "columns", "multiplied"])
@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*lru_cache.*:UserWarning")
def test_a_compiled_model_is_the_model(name: str, optimised_for_some: None) -> None:
    torch._dynamo.reset()  # which compiles one function for eight cells at most
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


@quickly
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
    keys = b("add", p, b.to("broadcast", b.learned("s", "1"), "H"))
    new = b("mul", b("add", S, b.learned("A", "H,H/2")), b.to("columns", b("tanh", keys), "H,H/2"))
    new = b("mul", b("div", b.learned("zeta", ""), b.leaf("size", "H/2", "")), new)
    read = b("row_sum", new)
    most = b("largest", b("mul", b.learned("zeta", ""), h))
    mean = b("div", b("total", read), b("sqrt", b.leaf("size", "H", "")))
    u = b("add", b("product", b.learned("U.u", "H,H"), read), b("product", b.learned("V", "H,1"), mean))
    gate = b("mul", b.to("broadcast", b("stop", most), "H"), b("tanh", b("add", u, b.to("broadcast", most, "H"))))
    m = b("sub", mean, b("product", b.learned("R", "1,H"), gate))
    return b.cell("crossing", {"h": b("column_sum", new), "m": m, "S": new}, "W A U V R s zeta")


@quickly
@needs_compiler
@pytest.mark.parametrize("hidden", [6, 34])
def test_sums_as_states_and_as_vectors_of_products(hidden: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE, "reference", Backend("reference", reference))
    cell = crossing()
    case = sized_case(cell, hidden=hidden)
    expected, found = (everything(cell, case, backend, lengths=[5, 0, 3, 1]) for backend in ("reference", "c"))
    assert_same(found, expected, rtol=1e-9, atol=1e-10)


def repeating() -> Cell:
    """What repeats a number or a vector: multiplied by a matrix, returned as a state, read again in another stage."""
    b = Building()
    x, h, m, S = b.x(), b.state("h"), b.state("m", "1"), b.state("S", "H,H/3")
    number = b("maximum", b("mul", m, m), m)
    gate = b("add", b("product", b.learned("U", "H,H"), b.to("broadcast", number, "H")), h)
    gate = b("tanh", b("add", gate, b("product", b.learned("W", "H,D"), x)))
    rest = b("mul", b("sigmoid", b.to("rows", gate, "H,H/3")), S)
    h = b("add", b.to("broadcast", b("tanh", b.to("broadcast", number, "1")), "H"), b("row_sum", rest))
    states = {"h": h, "m": b("total", gate), "S": b.to("columns", gate, "H,H/3"), "before": x}
    return b.cell("repeating", states, "W U")


@quickly
@needs_compiler
def test_what_repeats_a_value_is_read_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE, "reference", Backend("reference", reference))
    case = sized_case(repeating(), hidden=18)
    expected, found = (everything(repeating(), case, backend, lengths=[5, 0, 3, 1]) for backend in ("reference", "c"))
    assert_same(found, expected, rtol=1e-9, atol=1e-10)


@quickly
@needs_compiler
@pytest.mark.parametrize("seed", range(6))
def test_random_cells_of_several_sizes_are_those_of_plain_evaluation(seed: int) -> None:
    cell = at_random(seed)
    case = sized_case(cell, hidden=(6, 18, 24, 36)[seed % 4], batch=(3, 40)[seed % 2], steps=3)
    more = {"lengths": [clip % 4 for clip in range(len(case[0]))], "reverse": bool(seed % 3)}
    plain, c = (everything(cell, case, backend, **more) for backend in ("plain", "c"))
    assert_same(c, plain, rtol=1e-8, atol=1e-9)


def test_what_repeats_elements_does_so_as_late_as_it_can() -> None:
    nodes = kernel(SIZED["heads"]).graph.nodes
    assert {node.shape for node in nodes if node.op == "sigmoid"} == {("H",)}
    nodes = kernel(SIZED["normalised"]).graph.nodes
    assert {node.shape for node in nodes if node.op == "div"} == {("1",)}


@needs_compiler
@quickly
def test_memory_for_backward_is_what_is_asked_for() -> None:
    for name, cell in SIZED.items():
        code = compiled(cell, torch.float32)
        unit = code.library.vec_length()
        history, _ = code.largest_saved(2, 3, 7, 6)
        states = sum(-(-sizes[0] // unit) * unit * (sizes[1] if sizes[1:] else 1) for sizes in cell.state_sizes(7, 6))
        assert history == 4 * 2 * states, name


@needs_compiler
def test_sizes_that_cannot_be_divided_are_refused_before_memory_is_read() -> None:
    x, state, weights = sized_case(SIZED["heads"], hidden=7, inputs=3)
    with pytest.raises(ModelError, match="H=7 does not fit cell 'heads', which divides its units into 2 equal parts"):
        scan(SIZED["heads"], x, weights, state=state, backend="c")
    x, state, weights = sized_case(SIZED["gaps"], inputs=6)
    with pytest.raises(ModelError, match="D=6 does not fit cell 'gaps', whose frames consist of value"):
        scan(SIZED["gaps"], x, weights, state=state, backend="c")
