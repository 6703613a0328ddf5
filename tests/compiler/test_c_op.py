"""What hurts: a model that torch.compile or torch.export breaks or silently changes, a recurrence in half precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.compiler import c_op
from cello.compiler.c_build import compiler
from cello.compiler.c_scan import inputs_of
from cello.compiler.scan import scan
from cello.errors import BackendError, ModelError

pytestmark = [
    pytest.mark.skipif(compiler() is None, reason="there is no C compiler on PATH"),
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
