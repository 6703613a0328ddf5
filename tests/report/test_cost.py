"""What hurts: a front that holds what another cell beats, or leaves out what none does."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cello.report import cost, plots
from cello.report.cost import Point
from cello.report.results import StudyResults

small_numbers = st.integers(0, 6).map(float)


def beats(one: Point, other: Point) -> bool:
    return one.cost <= other.cost and one.accuracy >= other.accuracy and one[2:] != other[2:]


@given(st.lists(st.tuples(small_numbers, small_numbers), max_size=12))
def test_the_front_is_what_no_cell_beats(values: list[tuple[float, float]]) -> None:
    points = [Point(f"{k}", "", *value) for k, value in enumerate(values)]
    front = cost.front(points)
    assert set(front) == {point for point in points if not any(beats(other, point) for other in points)}
    assert [point.cost for point in front] == sorted(point.cost for point in front)


def test_what_lies_within_its_own_spread_makes_no_cell_better() -> None:
    cheap, right = Point("cheap", "", 0.0553, 95.0, 0.01), Point("right", "", 0.0555, 97.0, 0.01)
    assert cost.front([cheap, right]) == [right]
    alike = Point("alike", "", 0.0600, 96.5, 0.01, 0.6)
    assert cost.front([cheap, right, alike]) == [right, alike]
    clearly = cheap._replace(cost=0.03)
    assert cost.front([clearly, right]) == [clearly, right]


@given(st.lists(st.tuples(small_numbers, small_numbers, small_numbers, small_numbers), min_size=1, max_size=12))
def test_no_spreads_leave_the_front_empty(values: list[tuple[float, float, float, float]]) -> None:
    assert cost.front([Point(f"{k}", "", *value) for k, value in enumerate(values)])


def test_what_models_were_matched_by_is_no_axis(gates: StudyResults) -> None:
    matched = msgspec.structs.replace(gates, match="parameters", match_to="lstm")
    seconds, _, said, _ = cost.sentences(matched)
    assert seconds.startswith("Pareto front of test accuracy against seconds per epoch")
    assert (
        said == "Parameters are no axis here: the models were matched by them, and what still differs is a remainder."
    )
    assert [panel.title for panel in plots.cost(matched)] == ["Test accuracy by seconds per epoch"]
    assert len(plots.cost(gates)) == 2


def test_a_diverged_cell_is_on_no_front() -> None:
    assert cost.front([Point("a", "", 1.0, float("nan")), Point("b", "", 2.0, 50.0)]) == [Point("b", "", 2.0, 50.0)]


def test_the_front_is_named_with_its_figures(gates: StudyResults, windows: StudyResults) -> None:
    seconds, parameters, caution, _ = cost.sentences(gates)
    assert "against parameters, cheapest first: lstm-coupled (61,452 parameters" in parameters
    assert "lstm-no-input" not in parameters
    assert seconds.startswith("Pareto front of test accuracy against seconds per epoch")
    assert "count as none; other differences may still not be significant." in caution
    assert "rnn, 120 ms (" in cost.sentences(windows)[0]


def test_what_waits_for_sound_is_said_beside_what_trains(gates: StudyResults) -> None:
    def timed(whole: float) -> StudyResults:
        runs = [
            msgspec.structs.replace(
                run,
                result=msgspec.structs.replace(
                    run.result,
                    epoch_seconds=whole * (2 if run.row == "lstm" else 1),
                    wall_seconds_per_epoch=1.0,
                    history=(),
                ),
            )
            for run in gates.runs
        ]
        return msgspec.structs.replace(gates, runs=tuple(runs))

    assert cost.sentences(timed(2.0))[-1] == (
        "A whole epoch, with augmentation, features and validation, takes 2.00 to 4.00 s; its training steps are "
        "25 to 50 % of that (wall times)."
    )
    assert len(cost.sentences(timed(0.0))) == 3  # nobody recorded it
    assert cost.whole_epochs(timed(0.0)) == cost.whole_epochs(timed(float("inf"))) == []


def test_one_cell_alone_has_no_front(gates: StudyResults) -> None:
    alone = msgspec.structs.replace(gates, runs=gates.runs[:5])
    assert len(alone.cells()) == 1
    assert cost.sentences(alone) == []
