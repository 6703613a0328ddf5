"""What hurts: models called equally large that are not, since they were counted otherwise than they are built."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cello.cells.load import zoo
from cello.cells.summed import summed
from cello.compiler.scan import scan
from cello.errors import CellError, ModelError
from cello.models.classifier import Classifier
from cello.models.config import TORCH_CELLS, ModelConfig
from cello.models.size import TORCH_GATES, ModelSize, check_cell

Kind = Literal["last", "mean", "attention"]


@pytest.mark.parametrize("cell", [*zoo(), *TORCH_CELLS])
@pytest.mark.parametrize(
    ("layers", "bidirectional", "pooling", "frame_stacking"),
    [(1, False, "attention", 1), (3, True, "last", 2), (2, True, "attention", 1)],
)
def test_parameters_are_those_of_the_model_that_is_built(
    cell: str, layers: int, bidirectional: bool, pooling: Kind, frame_stacking: int
) -> None:
    config = ModelConfig(
        cell=cell, hidden=4, layers=layers, bidirectional=bidirectional, pooling=pooling, frame_stacking=frame_stacking
    )
    built = Classifier(config, dimensions=5, classes=4).parameter_count
    assert ModelSize.of(config, 5).parameters(4) == built
    wider = msgspec.structs.replace(config, hidden=8)
    assert ModelSize.of(config, 5).parameters(4, hidden=8) == Classifier(wider, 5, 4).parameter_count


def test_a_frames_operations_are_its_share_of_a_step_of_stacked_frames() -> None:
    stacked = ModelSize.of(ModelConfig(cell="rnn", hidden=100, frame_stacking=4), dimensions=10)
    assert stacked.flops() == 2 * 100 * (40 + 100) // 4


def without_heads() -> list[str]:
    """The cells whose products torch counts: with matrices of heads they are sums over rows and columns."""
    sums = {"row_sum", "column_sum"}
    return [name for name, cell in zoo().items() if sums.isdisjoint(node.op for node in cell.graph.nodes)]


@pytest.mark.parametrize("name", without_heads())
def test_flops_of_a_frame_are_those_that_torch_counts(name: str) -> None:
    cell = summed(zoo()[name])  # as kernels compute it
    weights = {key: torch.full(shape, 0.1) for key, shape in cell.parameters(5, 4).items()}
    with FlopCounterMode(display=False) as counter:
        scan(cell, torch.ones(1, 1, 5), weights, backend="plain")
    assert ModelSize.of(ModelConfig(cell=name, hidden=4), 5).flops() == counter.get_total_flops()


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_torchs_layers_cost_what_the_same_equations_cost(kind: str) -> None:
    for layers, bidirectional in ((1, False), (3, True)):
        own, torchs = (
            ModelSize.of(ModelConfig(cell=cell, layers=layers, bidirectional=bidirectional), 39)
            for cell in (kind, f"torch:{kind}")
        )
        assert own.flops(17) == torchs.flops(17)


def test_every_layer_and_direction_is_counted() -> None:
    one = ModelSize.of(ModelConfig(cell="rnn", hidden=4), 4).flops()
    assert ModelSize.of(ModelConfig(cell="rnn", hidden=4, layers=3), 4).flops() == 3 * one
    assert ModelSize.of(ModelConfig(cell="rnn", hidden=4, bidirectional=True), 4).flops() == 2 * one
    # the second layer sees both directions of the first
    assert ModelSize.of(ModelConfig(cell="rnn", hidden=4, layers=2, bidirectional=True), 4).flops() == 5 * one


def test_matrices_among_the_states_of_every_layer_are_counted_and_bounded() -> None:
    two = ModelConfig(cell="mlstm-heads", hidden=64, layers=2, bidirectional=True)
    assert ModelSize.of(two, 39).matrix_elements() == 4 * 64 * 16
    assert ModelSize.of(two, 39).matrix_elements(128) == 4 * 128 * 32
    assert {ModelSize.of(ModelConfig(cell=cell), 39).matrix_elements() for cell in ("lstm", "torch:gru", "gru-d")} == {
        0
    }
    check_cell(ModelConfig(cell="retention", hidden=9_400), 39, steps=49)
    said = (
        r"hidden=20000 makes states of cell 'retention' matrices of 4,900,000,000 elements in a second of sound, 39 GB"
    )
    with pytest.raises(ModelError, match=said):
        check_cell(ModelConfig(cell="retention", hidden=20_000), 39, steps=49)


def test_all_of_torchs_layers_are_known_and_no_other_cell_passes() -> None:
    assert set(TORCH_GATES) == set(TORCH_CELLS)
    with pytest.raises(CellError, match="unknown cell 'lsmt'"):
        ModelSize.of(ModelConfig(cell="lsmt"), 39)
