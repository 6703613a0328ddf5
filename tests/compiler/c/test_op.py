"""What hurts: a model that torch.compile or torch.export breaks or silently changes, a recurrence in half precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.compiler.c import op as c_op
from cello.compiler.c.launch import inputs_of
from cello.compiler.scan import scan
from cello.errors import BackendError, ModelError

pytestmark = [
    pytest.mark.wants("cc"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch's own tracer
    pytest.mark.filterwarnings("ignore:.*lru_cache.*:UserWarning"),
]


class Layer(nn.Module):
    """A cell over time, between operations of torch."""

    def __init__(self, cell: Cell, backend: str = "auto") -> None:
        super().__init__()
        self.cell, self.backend = cell, backend
        draw = torch.Generator().manual_seed(0)
        for name, shape in cell.parameters(3, 5).items():
            self.register_parameter(name.replace(".", "_"), nn.Parameter(torch.randn(shape, generator=draw) * 0.4))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        weights = {name: self.get_parameter(name.replace(".", "_")) for name in self.cell.parameters(3, 5)}
        result = scan(self.cell, x * 2, weights, lengths=lengths, backend=self.backend)
        return result.outputs.sin().sum(1) + result.state[-1]


def frames() -> Tensor:
    return torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("lengths", [None, torch.tensor([6, 1, 4, 0])], ids=["whole", "ragged"])
@pytest.mark.parametrize("name", ["lstm", "fastgrnn"])
def test_a_compiled_model_is_the_model_and_one_graph(name: str, lengths: Tensor | None) -> None:
    layer = Layer(zoo()[name])
    found = []
    for run in (layer, torch.compile(layer, backend="aot_eager", fullgraph=True)):
        x = frames().requires_grad_()
        outputs = run(x, lengths)
        found.append((outputs, *torch.autograd.grad((outputs**2).sum(), [x, *layer.parameters()])))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


def test_lengths_beyond_the_frames_are_refused_when_a_compiled_model_runs() -> None:
    run = torch.compile(Layer(zoo()["rnn"]), backend="aot_eager", fullgraph=True)
    with pytest.raises(ModelError, match=r"lengths go from 1 to 7, but the frames allow 0 to T=6"):
        run(frames(), torch.tensor([7, 1, 2, 3]))


def test_an_exported_model_is_the_model() -> None:
    layer = Layer(zoo()["gru-original"]).eval()
    exported = torch.export.export(layer, (frames(),))
    assert [node.target for node in exported.graph.nodes].count(torch.ops.cello.scan.default) == 1
    torch.testing.assert_close(exported.module()(frames()), layer(frames()), rtol=0, atol=0)


def test_a_graph_of_a_cell_that_is_not_there_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    exported = torch.export.export(Layer(zoo()["rnn"]).eval(), (frames(),)).module()
    monkeypatch.setattr(c_op, "CELLS", {})
    with pytest.raises(
        BackendError, match=r"the cell 'rnn:\w+', which this process has not seen; import the cell and call"
    ):
        exported(frames())


@pytest.mark.parametrize("backend", ["plain", "c"])
def test_autocast_leaves_a_recurrence_in_the_precision_of_its_weights(backend: str) -> None:
    layer = Layer(zoo()["lstm"], backend)
    expected = layer(frames())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(frames())
        from_half = scan(
            zoo()["rnn"], frames().bfloat16(), {k: torch.zeros(s) for k, s in zoo()["rnn"].parameters(3, 5).items()}
        )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert from_half.outputs.dtype == torch.float32


@pytest.mark.usefixtures("compiled_quickly")
def test_the_operations_keep_torchs_rules() -> None:
    cell = zoo()["lstm"]
    weights = {n: torch.randn(s, dtype=torch.float64) for n, s in cell.parameters(3, 5).items()}
    state = (torch.zeros(4, 5, dtype=torch.float64), torch.zeros(4, 5, dtype=torch.float64))
    given = [value.requires_grad_() for value in inputs_of(cell, weights, {}, state)]
    x = frames().double().requires_grad_()
    torch.library.opcheck(
        c_op.scan_op,
        (x, given, torch.tensor([6, 1, 4, 0]), c_op.traced(cell), 5, False),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_a_traced_scan_serves_other_sizes_and_lengths(reverse: bool) -> None:
    cell = zoo()["gru"]
    weights = {name: torch.randn(shape) * 0.4 for name, shape in cell.parameters(3, 5).items()}

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        return scan(cell, x, weights, lengths=lengths, reverse=reverse).outputs

    program = torch.jit.trace(run, (frames(), torch.tensor([6, 1, 4, 0])))
    for x, ends in ((frames(), torch.tensor([1, 6, 2, 5])), (torch.randn(2, 9, 3), torch.tensor([9, 0]))):
        torch.testing.assert_close(program(x, ends), run(x, ends), rtol=0, atol=0)
    with pytest.raises(RuntimeError, match=r"lengths go from 1 to 7, but the frames allow 0 to T=6"):
        program(frames(), torch.tensor([7, 1, 1, 1]))


def test_a_recorded_function_computes_from_what_it_is_given() -> None:
    layer = Layer(zoo()["lstm"])
    graph = make_fx(layer)(frames())
    x = frames() + 1
    torch.testing.assert_close(graph(x), layer(x), rtol=0, atol=0)


@pytest.mark.parametrize("lengths", [None, torch.tensor([6, 1, 4, 0])], ids=["whole", "ragged"])
def test_a_model_exported_for_any_batch_and_time_is_the_model(lengths: Tensor | None) -> None:
    layer = Layer(zoo()["gru"]).eval()
    batch, steps = torch.export.Dim("batch"), torch.export.Dim("steps")
    dynamic = ({0: batch, 1: steps}, None if lengths is None else {0: batch})
    program = torch.export.export(layer, (frames(), lengths), dynamic_shapes=dynamic).module()
    for size in ((4, 6), (2, 9), (7, 3), (1, 5)):
        x, ends = torch.randn(*size, 3), None if lengths is None else torch.arange(size[0]) % (size[1] + 1)
        torch.testing.assert_close(program(x, ends), layer(x, ends), rtol=0, atol=0)


def test_plain_evaluation_is_exported_with_lengths() -> None:
    layer, lengths = Layer(zoo()["gru"], "plain").eval(), torch.tensor([6, 1, 4, 0])
    dynamic = ({0: torch.export.Dim("batch")}, {0: torch.export.Dim("batch")})
    program = torch.export.export(layer, (frames(), lengths), dynamic_shapes=dynamic).module()
    x, ends = torch.randn(3, 6, 3), torch.tensor([0, 6, 3])
    x[0], x[2, 3:] = torch.nan, torch.nan
    torch.testing.assert_close(program(x, ends), layer(x, ends), rtol=1e-5, atol=1e-6)


def test_an_exported_model_has_no_second_derivatives_and_says_so() -> None:
    program, x = torch.export.export(Layer(zoo()["rnn"]).eval(), (frames(),)).module(), frames().requires_grad_()
    with pytest.raises(BackendError, match=r"has no second derivatives \(create_graph=True\)"):
        torch.autograd.grad(program(x).sum(), x, create_graph=True)


def test_tensors_of_other_shapes_are_refused_by_the_operation() -> None:
    cell = zoo()["rnn"]
    weights = {name: torch.randn(shape) for name, shape in cell.parameters(3, 5).items()}
    given = inputs_of(cell, weights, {}, (torch.zeros(4, 5),))
    for wrong in (given[:-1], [given[0].t(), *given[1:]], [*given[:-1], torch.zeros(3, 5)]):
        with pytest.raises(BackendError, match=r"the graph gives cell 'rnn:\w+' tensors of shapes \(.*; it needs \["):
            c_op.scan_op(frames(), wrong, None, c_op.traced(cell), 5, False)
    with pytest.raises(BackendError, match=r"torch.float64 on cpu; it needs torch.float32 on the CPU"):
        c_op.scan_op(frames(), [given[0].double(), *given[1:]], None, c_op.traced(cell), 5, False)


@pytest.mark.parametrize("shape", [(0, 6), (4, 0)], ids=str)
def test_no_clips_and_no_frames_in_a_program(shape: tuple[int, int]) -> None:
    cell = zoo()["lstm"]
    weights = {name: torch.randn(shape) for name, shape in cell.parameters(3, 5).items()}
    state = tuple(torch.randn(shape[0], 5).requires_grad_() for _ in cell.states)
    given = inputs_of(cell, weights, {}, state)
    outputs, *last, _, _ = c_op.scan_op(torch.zeros(*shape, 3), given, None, c_op.traced(cell), 5, False)
    assert outputs.shape == (*shape, 5)
    torch.testing.assert_close(last, list(state))
    assert torch.equal(torch.autograd.grad(last[0].sum(), state[0])[0], torch.ones(shape[0], 5))
