"""The comparison of exported forms: what hurts is a cell of the zoo that was never compared on real clips."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from cello.cells.load import zoo

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NOT_YET = {
    *("lstm-projected", "fastgrnn-low-rank", "mogrifier-lstm", "gru-heads", "qrnn-3", "rnn-window-attention"),
    *("mlstm-heads", "linear-attention", "retention", "delta-rule", "rwkv-6"),
}
"""Cells of several sizes: tests of each form compare them on made sound, what is stored holds no real clips of them."""


def test_every_cell_of_the_zoo_is_compared_with_one_layer_and_with_two() -> None:
    study = tomllib.loads((BENCHMARKS / "exits.toml").read_text(encoding="utf-8"))
    assert {row["model"]["cell"] for row in study["rows"]} == set(zoo())
    stored = json.loads((BENCHMARKS / "results" / "2026-11-26-exits.json").read_text(encoding="utf-8"))
    compared = {(run["row"], run["column"]) for run in stored["runs"]}
    assert compared == {(cell, layers) for cell in zoo().keys() - NOT_YET for layers in ("one layer", "two layers")}
    forms = [run["forms"][name] for run in stored["runs"] for name in ("ONNX", "C99", "JavaScript")]
    assert not any(form["decided_differently"] for form in forms)
