"""What hurts: a comparison with a layer that computes something else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cello.bench.peers import PEERS, peer
from cello.cells.load import load_cell, zoo
from cello.compiler.scan import scan


@pytest.mark.parametrize("name", PEERS)
def test_torchs_layer_computes_the_cell(name: str) -> None:
    cell, draw = zoo()[name], torch.Generator().manual_seed(0)
    shapes = cell.parameters(4, 5).items()
    weights = {key: torch.randn(shape, generator=draw, dtype=torch.float64) for key, shape in shapes}
    x = torch.randn(3, 6, 4, generator=draw, dtype=torch.float64)
    own = peer(cell)
    assert own is not None
    torch.testing.assert_close(own.loaded(weights)(x)[0].detach(), scan(cell, x, weights, backend="plain").outputs)


def test_every_other_cell_of_the_zoo_has_none() -> None:
    assert {name for name, cell in zoo().items() if peer(cell)} == {*PEERS, "np", "lstm-chrono"}  # LSTMs again


def test_the_equations_decide_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from cello import cell, tanh\n"
        "@cell\ndef mine(x, h, W, U, b):\n    return tanh(W @ x + U @ h + b)\n"
        "@cell\ndef rnn(x, h, W, U, b):\n    return tanh(W @ x - U @ h + b)\n"
    )
    found = peer(load_cell(f"{tmp_path}/mine.py:mine"))
    assert found is not None
    assert found.name == "nn.RNN"
    assert peer(load_cell(f"{tmp_path}/mine.py:rnn")) is None
