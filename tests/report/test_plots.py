from __future__ import annotations

import io
import itertools
import xml.etree.ElementTree as ET

import matplotlib as mpl
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from cello.report import diagrams, picture_limits, plot_axes, plot_style, plots
from cello.report.results import StudyResults

# Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def _lab(colour: str, kind: str) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(BLINDNESS[kind]) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", BLINDNESS)
def test_series_differ_for_colour_blind_readers_and_stand_out_on_paper(kind: str) -> None:
    for a, b in itertools.combinations(plot_style.SERIES, 2):
        assert np.linalg.norm(_lab(a, kind) - _lab(b, kind)) > 20, (a, b)
    assert all(_lab(colour, "none")[0] < 62 for colour in plot_style.SERIES)


def test_drawing_leaves_the_readers_matplotlib_alone(windows: StudyResults) -> None:
    before = dict(mpl.rcParams)
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30}):
        inside = plots.png(plots.accuracy(windows))
    assert dict(mpl.rcParams) == before
    assert inside == plots.png(plots.accuracy(windows))


DRAWERS = (plots.accuracy, plots.cost, plots.curves, plots.confusions, diagrams.forest, diagrams.order)


@pytest.mark.parametrize("draw", DRAWERS)
def test_every_picture_is_a_png_and_a_readable_svg(draw: object, windows: StudyResults) -> None:
    panels = draw(windows)[:2]  # type: ignore[operator]
    picture = image.imread(io.BytesIO(plots.png(panels, 2)))
    assert picture[..., :3].std() > 0.01
    svg = ET.fromstring(plots.svg(panels[0], "x"))
    texts = {"".join(t.itertext()) for t in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert panels[0].title in texts
    assert "height" not in svg.attrib
    assert svg.attrib["viewBox"]


def test_svg_inks_follow_the_page(gates: StudyResults) -> None:
    svg = plots.svg(plots.curves(gates)[0], "x")
    assert f"var(--series-1, {plot_style.SERIES[0]})" in svg
    assert "var(--ink, " in svg


def test_svg_is_the_same_each_time(gates: StudyResults) -> None:
    assert plots.svg(plots.confusions(gates)[0], "x") == plots.svg(plots.confusions(gates)[0], "x")


def test_confusion_rows_add_up_in_the_picture(gates: StudyResults) -> None:
    """A label nobody said must not divide by zero (warnings are errors)."""
    confusion = ((0, 0), (1, 3))
    result = msgspec.structs.replace(gates.runs[0].result, confusion=confusion, labels=("sí", "no"))
    study = msgspec.structs.replace(gates, runs=(msgspec.structs.replace(gates.runs[0], result=result),))
    svg = plots.svg(plots.confusions(study)[0], "x")
    assert ">75<" in svg
    assert ">25<" in svg


def test_a_diverged_run_does_not_break_the_pictures(windows: StudyResults) -> None:
    def diverge(run: object) -> object:
        nan = float("nan")
        history = tuple(
            msgspec.structs.replace(e, train_accuracy=nan, validation_accuracy=nan) for e in run.result.history
        )  # type: ignore[attr-defined]
        return msgspec.structs.replace(run, result=msgspec.structs.replace(run.result, history=history))  # type: ignore[attr-defined, type-var]

    study = msgspec.structs.replace(windows, runs=tuple(map(diverge, windows.runs[:2])))
    assert plots.png(plots.curves(study))


def test_thirty_models_are_drawn_and_told_apart(gates: StudyResults) -> None:
    rows = tuple(f"model {k}" for k in range(24))
    runs = tuple(msgspec.structs.replace(gates.runs[0], row=row) for row in rows)
    study = msgspec.structs.replace(gates, rows=rows, runs=runs)
    looks = {plot_style.look(study, row) for row in rows}
    assert len(looks) == len(rows)
    assert plots.png([*plots.cost(study), *plots.accuracy(study)], 3)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_spread_labels_keep_their_order_and_distance(targets: list[float]) -> None:
    heights = picture_limits.spread(sorted(targets), 5.0, 0.0, 100.0)
    assert len(heights) == len(targets)
    assert all(b - a >= 5.0 - 1e-6 for a, b in itertools.pairwise(heights))


def test_a_dollar_in_a_name_is_no_mathematics(windows: StudyResults) -> None:
    name = r"a $x_1$ <b> $\nosuch{ & عربي 门"
    runs = tuple(msgspec.structs.replace(r, row=name) if r.row == "gru" else r for r in windows.runs)
    rows = tuple(name if row == "gru" else row for row in windows.rows)
    study = msgspec.structs.replace(windows, rows=rows, runs=runs)
    svg = ET.fromstring(plots.svg(plots.accuracy(study)[0], "x"))
    assert name in {"".join(t.itertext()) for t in svg.iter("{http://www.w3.org/2000/svg}text")}


def test_a_long_title_is_broken_and_not_cut_off(windows: StudyResults) -> None:
    panel = plots.curves(windows, [("gru", "40 ms")])[0]._replace(title=" ".join(["peephole"] * 9))
    svg = ET.fromstring(plots.svg(panel, "x"))
    lines = ["".join(t.itertext()) for t in svg.iter("{http://www.w3.org/2000/svg}text")]
    titles = [line for line in lines if line.startswith("peephole")]
    assert " ".join(titles) == panel.title
    assert len(titles) > 2


def test_a_title_over_axes_that_long_names_make_narrow_is_not_cut_off(windows: StudyResults) -> None:
    new = {row: f"{row} and a rather long name of many words" for row in windows.rows}
    runs = tuple(msgspec.structs.replace(run, row=new[run.row]) for run in windows.runs)
    (panel, *_) = plots.accuracy(
        msgspec.structs.replace(windows, rows=tuple(new.values()), columns=("40 ms",), runs=runs)
    )
    with plots._style(), plots._quiet():
        figure = plots._figure([panel], 1)
        figure.draw_without_rendering()
        (ax,) = figure.axes
        box = ax._left_title.get_window_extent()
        assert len(ax.get_yticklabels()[0].get_text()) > 30
        assert box.x1 <= figure.bbox.width


@pytest.mark.parametrize("accuracies", [(0.8, 0.95), (0.1, 0.3), (0.25, 0.92), (0.05, 0.16), (0.5, 0.6)], ids=str)
def test_the_names_of_curves_stand_where_no_curve_is(gates: StudyResults, accuracies: tuple[float, float]) -> None:
    train, validation = accuracies
    epoch = gates.runs[0].result.history[0]
    flat = [
        msgspec.structs.replace(epoch, epoch=number, train_accuracy=train, validation_accuracy=validation)
        for number in range(1, 9)
    ]
    ax = Figure().add_subplot()
    plot_axes.curve(ax, [msgspec.structs.replace(gates.runs[0].result, history=tuple(flat))], (0.0, 101.0))
    heights = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert heights.keys() == {"train", "validation"}
    for name, height in heights.items():
        assert all(abs(height - share / 1.01) > 0.05 for share in accuracies), name
