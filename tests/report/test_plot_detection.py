"""A DET plot must show its operating point and its intervals, also where a logarithmic axis has no place for zero."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from cello.report.plot_detection import Detection, detection
from cello.report.plots import png, svg_file
from cello.statistics.detection import Counted, Kind, Rates, rates

SPEAKERS = list("aabbccdd")


def at(threshold: float, hits: int, alarms: int) -> Rates:
    kinds: tuple[Kind, ...] = ("noise",) * alarms
    return rates(threshold, Counted(np.arange(8) < hits, np.full(hits, 0.2), kinds), SPEAKERS, 0.5)


CURVE = (at(0.3, 8, 9), at(0.6, 6, 2), at(0.9, 1, 0))


@pytest.mark.parametrize("chosen", [None, *CURVE])
def test_any_operating_point_is_drawn_with_what_it_is_a_rate_of(chosen: Rates | None) -> None:
    panel = detection(Detection(CURVE, chosen, 0.5, 8, 4, "tones"))
    drawn = svg_file(panel).decode()
    assert drawn.startswith("<?xml")
    assert "nan" not in drawn
    assert png([panel]).startswith(b"\x89PNG")
    assert "8 words, 0.50 hours of noise and other words; the band is the 95 % interval over speakers" in (
        panel.description
    )


def test_without_speakers_or_without_false_alarms_there_is_a_plot_too() -> None:
    alone = rates(0.5, Counted(np.array([False]), np.array([]), ()), ["a"], 0.5)
    assert b"<svg" in svg_file(detection(Detection((alone,), alone, 0.5, 1, 0, "one")))


def test_the_curve_has_the_height_of_its_picture() -> None:
    """A legend far below the axes would squeeze them."""
    figure = Figure(figsize=(5.2, 4.0), layout="constrained")
    ax = figure.add_subplot()
    detection(Detection(CURVE, CURVE[1], 0.5, 8, 4, "tones")).draw(ax)
    figure.draw_without_rendering()
    assert ax.get_position().height > 0.6
