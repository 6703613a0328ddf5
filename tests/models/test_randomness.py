"""What hurts: a replicate that drops other units than it would alone, or draws that are not even."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cello.cells.load import zoo
from cello.models.direction import CellLayer
from cello.models.randomness import CounterRandom, Dropout, drawing_from

KEYS = torch.tensor([3, 1 << 61, -1])
LIKE = torch.zeros(())


def test_numbers_are_splitmix64s() -> None:
    """The first outputs of the generator, as its authors' Java gives them for seed 1234567, shown by their top bit."""
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    found = CounterRandom(torch.tensor(1234567)).bernoulli((1, 5), 0.5, LIKE)
    assert found.tolist() == [[float(number < 1 << 63) for number in known]]


def test_a_share_is_drawn_evenly_and_neighbours_know_nothing_of_each_other() -> None:
    drawn = CounterRandom(torch.tensor(77)).bernoulli((64, 100, 64), 0.3, LIKE)
    assert float(drawn.mean()) == pytest.approx(0.3, abs=3e-3)
    for axis in range(3):
        both = drawn.narrow(axis, 1, drawn.shape[axis] - 1) * drawn.narrow(axis, 0, drawn.shape[axis] - 1)
        assert float(both.mean()) == pytest.approx(0.09, abs=2e-3)
    one, other = (CounterRandom(torch.tensor(key)).bernoulli((999, 64), 0.5, LIKE) for key in (77, 78))
    assert float((one == other).float().mean()) == pytest.approx(0.5, abs=0.01)


def test_calls_draw_anew_and_as_many_as_there_are() -> None:
    draws = CounterRandom(torch.tensor(1))
    found = [draws.bernoulli((4, 32), 0.5, LIKE) for _ in range(9)]
    assert len({tuple(one.flatten().tolist()) for one in found}) == 9


def test_padding_and_more_clips_change_nothing() -> None:
    small = CounterRandom(torch.tensor(9)).bernoulli((2, 5, 7), 0.5, LIKE)
    large = CounterRandom(torch.tensor(9)).bernoulli((3, 8, 7), 0.5, LIKE)
    assert torch.equal(large[:2, :5], small)


def noisy(x: Tensor, layer: nn.Module, dropout: nn.Module, key: Tensor) -> Tensor:
    with drawing_from(key):
        return dropout(layer(dropout(x), None)[0])  # type: ignore[no-any-return]


def test_vmap_draws_for_each_replicate_as_alone() -> None:
    layer = CellLayer(zoo()["gru"], 5, 6, zoneout=0.3, recurrent_dropout=0.3, backend="plain")
    for weight in layer.parameters():
        nn.init.uniform_(weight, -0.5, 0.5)
    x, dropout = torch.randn(3, 4, 7, 5), Dropout(0.4)
    many = torch.vmap(lambda x, key: noisy(x, layer, dropout, key))(x, KEYS)
    for row in range(3):
        torch.testing.assert_close(many[row], noisy(x[row], layer, dropout, KEYS[row]))
    assert not torch.equal(noisy(x[0], layer, dropout, KEYS[0]), noisy(x[0], layer, dropout, KEYS[1]))


def test_without_counters_dropout_is_torchs() -> None:
    x = torch.ones(4, 5)
    torch.manual_seed(0)
    own = Dropout(0.5)(x)
    torch.manual_seed(0)
    assert torch.equal(own, nn.Dropout(0.5)(x))
    with drawing_from(KEYS[0]):
        assert torch.equal(Dropout(0.5).eval()(x), x)
        assert set(Dropout(0.5)(x).flatten().tolist()) == {0.0, 2.0}
