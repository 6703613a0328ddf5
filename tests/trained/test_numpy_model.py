"""The model in numpy: one wrong operation, and ``cello predict`` says other words than the study measured."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from cello.cells.graph import APPLY, MATRIX, POINTWISE, Graph, Node
from cello.cells.load import load_cell, zoo
from cello.errors import CellError
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.models.parts import Direction, parts_of
from cello.trained.numpy_model import NUMPY, NumpyDirection, NumpyModel
from sized_models import CELLS, meant, scores_meant, sized_parts

EVERY = [*sorted(zoo()), "torch:rnn", "torch:gru", "torch:lstm"]


def compare(config: ModelConfig, backend: str = "auto") -> None:
    model = Classifier(config, 5, 3, seed=4, backend=backend).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
        model.mean.copy_(torch.linspace(-1, 1, 5))
        model.deviation.copy_(torch.linspace(0.5, 2, 5))
    parts = parts_of(config, {name: value.detach().numpy() for name, value in model.state_dict().items()})
    frames = torch.randn(1, 9, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(model.standardise(frames, [9]), [9])[0].numpy()
    found = NumpyModel(parts).scores(frames[0].numpy())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", EVERY)
def test_every_cell_gives_torchs_scores(cell: str, layers: int) -> None:
    compare(ModelConfig(cell=cell, hidden=8, layers=layers), "plain")  # nothing to compile


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
def test_directions_stacking_pooling_and_zoneout_are_as_torch_has_them(pooling: str) -> None:
    more = {"bidirectional": True, "frame_stacking": 2, "pooling": pooling, "layers": 2}
    compare(ModelConfig(cell="gru", hidden=6, **more))  # type: ignore[arg-type]
    compare(ModelConfig(cell="lstm", hidden=6, zoneout=0.3, **more))  # type: ignore[arg-type]


def test_every_operation_of_cells_is_there() -> None:
    assert NUMPY.keys() == POINTWISE.keys() | MATRIX.keys() | {"product", APPLY}


def test_an_operation_that_is_not_there_is_named() -> None:
    lstm = load_cell("lstm")
    nodes = (Node("state", (), ("H",), "h"), Node("sine", (0,), ("H",)))
    strange = replace(lstm, graph=Graph(nodes, ("h",), (1,)))
    with pytest.raises(CellError, match="unknown operation of cells for numpy 'sine'"):
        NumpyDirection(Direction(strange, {}, False), 5, 6)


def test_a_run_is_used_without_torch() -> None:
    code = "import sys, cello; cello.load_model; print('torch' in sys.modules, 'scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("pooling", ["last", "attention"])
def test_cells_of_several_sizes_mean_what_their_equations_do(name: str, pooling: str) -> None:
    parts = sized_parts(CELLS[name], 7, 6, 3, pooling)
    frames = np.random.default_rng(0).normal(size=(9, 7)).astype(np.float32)
    np.testing.assert_allclose(NumpyModel(parts).scores(frames), scores_meant(parts, frames), atol=1e-5)
    x, direction = NumpyModel(parts).standardised(frames), parts.layers[0][0]
    _, states = NumpyModel(parts).layers[0][0].run(x, direction.first_states(7, 6))
    for found, expected in zip(states, meant(direction, x)[1], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
