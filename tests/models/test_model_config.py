"""What hurts: a run that stands for equations that have changed since, a typo found after an hour."""

from __future__ import annotations

from pathlib import Path

import pytest

from cello.errors import CellError, ConfigError, ModelError
from cello.models.config import ModelConfig, resolve

OWN = """
from cello import cell, tanh

@cell
def mine(x, h, W, U, b):
    {name} = tanh(W @ x + U @ h {sign} b)
    return {name}
"""


def fingerprint(folder: Path, sign: str, name: str = "new") -> str:
    path = folder / "mine.py"
    path.write_text(OWN.format(sign=sign, name=name))
    return resolve(ModelConfig(cell=f"{path}:mine")).equations


def test_other_equations_under_the_same_name_are_another_model(tmp_path: Path) -> None:
    plus, minus, renamed = (fingerprint(tmp_path, *v) for v in (("+",), ("-",), ("+", "state")))
    assert plus == renamed != minus
    assert len(plus) == 16


@pytest.mark.parametrize("cell", ["lstm", "torch:gru"])
def test_cells_that_come_with_cello_stay_as_they_are(cell: str) -> None:
    assert resolve(ModelConfig(cell=cell)) == ModelConfig(cell=cell)


@pytest.mark.parametrize("cell", ["lstm", "torch:gru"])
def test_a_fingerprint_that_means_nothing_is_refused(cell: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.equations='abc' is set by Cello .* {cell!r} is not one; leave"):
        resolve(ModelConfig(cell=cell, equations="abc"))


def test_unknown_cells_are_named_with_their_neighbours() -> None:
    with pytest.raises(ModelError, match=r"unknown torch layer 'torch:gro'; did you mean 'torch:gru'"):
        resolve(ModelConfig(cell="torch:gro"))
    with pytest.raises(CellError, match=r"unknown cell 'lsmt'; did you mean 'lstm'"):
        resolve(ModelConfig(cell="lsmt"))


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("hidden", 0, "model.hidden=0 is invalid: it must be at least 1"),
        ("layers", -1, "model.layers=-1 is invalid: it must be at least 1"),
        ("frame_stacking", 0, "model.frame_stacking=0 is invalid: it must be at least 1"),
        ("forget_bias", float("nan"), r"model.forget_bias=nan is invalid: it must be finite \(0 is off\)"),
        ("dropout", 1.0, r"model.dropout=1.0 is invalid: it must be from 0 \(off\) to below 1"),
        ("zoneout", -0.1, r"model.zoneout=-0.1 is invalid: it must be from 0 \(off\) to below 1"),
        ("recurrent_dropout", 2.0, r"model.recurrent_dropout=2.0 is invalid: it must be from 0 \(off\) to below 1"),
    ],
)
def test_impossible_models_are_refused(field: str, value: float, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        ModelConfig(**{field: value})  # type: ignore[arg-type]


def test_noise_in_the_states_of_torchs_own_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"zoneout=0.1 .* 'torch:lstm' is PyTorch's layer; write model.cell='lstm'"):
        ModelConfig(cell="torch:lstm", zoneout=0.1)
