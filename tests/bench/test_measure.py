"""What hurts: a side timed more often or colder than another, a back end left out in silence, threads left changed."""

from __future__ import annotations

import pytest
import torch

from cello.bench import measure
from cello.bench.measure import WARM_UP, Step, alternate, cases, run
from cello.bench.peers import PEERS
from cello.bench.record import Record
from cello.bench.settings import BenchConfig, Size
from cello.cells.load import zoo
from cello.errors import CellError, ConfigError

ABOUT = {"processor": "any"}
TINY = Size(2, 3, 4, 5)


def test_sides_take_turns_and_none_is_always_first() -> None:
    calls: list[str] = []

    def step(name: str) -> Step:
        return lambda: calls.append(name) or torch.empty(0)  # type: ignore[func-returns-value]

    times = alternate({name: step(name) for name in "abc"}, rounds=9)
    turns = [calls[k : k + 3] for k in range(0, len(calls), 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert {turn[0] for turn in turns} == {"a", "b", "c"}
    assert len(turns) == WARM_UP + 9
    assert {name: len(found) for name, found in times.items()} == dict.fromkeys("abc", 9)


def test_a_cell_that_does_not_exist_stops_before_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(CellError, match="unknown cell 'gur'; did you mean "):
        run(BenchConfig(cells=("lstm", "gur")), ABOUT)


def test_matrices_that_the_machine_cannot_hold_are_refused_before_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hurts: a machine that swaps, or kills its largest process, for a size that an LSTM has room for."""
    large, cell = Size(128, 99, 39, 256), zoo()["delta-rule"]
    assert measure.matrices_kept(zoo()["lstm"], large) == 0
    assert measure.matrices_kept(cell, large) == 14 * 128 * 99 * 256 * 64
    monkeypatch.setattr(measure, "memory", lambda: 8e9)
    said = r"'delta-rule' at size 128×99×39×256 keeps matrices of 12 GB in plain evaluation, more than the 8 GB of this"
    with pytest.raises(ConfigError, match=said):
        cases(BenchConfig(cells=("lstm", "delta-rule"), sizes=(large,)))
    for there in (16e9, None):
        monkeypatch.setattr(measure, "memory", lambda there=there: there)
        assert len(cases(BenchConfig(cells=("lstm", "delta-rule"), sizes=(large,)))) == 2


def test_what_is_named_twice_is_measured_once() -> None:
    settings = BenchConfig(cells=("gru", "gru"), sizes=(TINY, TINY), threads=(1, 1), x_gradients=(True, True))
    assert len(cases(settings)) == 1


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    """Of an LSTM and a cell that torch has not, where one back end does not exist and nothing need be compiled."""
    monkeypatch.setattr(measure, "backend_names", lambda: ("auto", "abacus", "plain"))
    settings = BenchConfig(cells=("lstm", "lstm-peephole"), sizes=(TINY,), rounds=2, dtype="float64")
    return run(settings, ABOUT)


def test_a_back_end_that_is_not_there_is_named_with_the_reason(record: Record) -> None:
    assert record.unavailable.keys() == {"abacus"}
    assert "unknown back end 'abacus'" in record.unavailable["abacus"]
    assert record.reference == "plain"


def test_torchs_layer_is_beside_its_cell_only_and_agrees(record: Record) -> None:
    lstm, peephole = record.rows
    assert [side.name for side in lstm.sides] == ["plain", "nn.LSTM"]
    assert [side.name for side in peephole.sides] == ["plain"]
    assert record.without_peer == ("lstm-peephole",)
    assert lstm.sides[1].difference < 1e-12


def test_a_side_that_computes_something_else_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "backend_names", lambda: ("plain",))
    monkeypatch.setattr(measure, "peer", lambda _: PEERS["rnn"])
    (row,) = run(BenchConfig(cells=("rnn-relu",), sizes=(TINY,), rounds=1), ABOUT).rows
    assert row.sides[1].difference > 0.01


def test_threads_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(measure, "backend_names", lambda: ("plain",))
    monkeypatch.setattr(measure, "gemm_gflops", lambda _: seen.append(torch.get_num_threads()) or 1.0)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    run(BenchConfig(cells=("rnn",), sizes=(TINY,), rounds=1, threads=(3, 2)), ABOUT)
    assert seen == [3, 2]
    assert torch.get_num_threads() == before


def test_x_has_a_gradient_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd, "grad", lambda o, leaves, *a, **k: asked.append(len(leaves)) or real(o, leaves, *a, **k)
    )
    for case in cases(BenchConfig(cells=("rnn",), sizes=(TINY,), x_gradients=(False, True))):
        measure.sides(case, ("plain",), torch.float32)["plain"]()
    parameters = len(zoo()["rnn"].parameters(1, 1))
    assert asked == [parameters, parameters + 1]
