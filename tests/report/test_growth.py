from __future__ import annotations

import msgspec

from cello.report import findings, growth, paper
from cello.report.formats import json
from cello.report.results import StudyResults
from cello.study.growth import Growth

NOON = 1_795_780_800  # 2026-11-27, 12:00 UTC


def test_a_study_that_grew_after_a_look_says_so_in_summary_methods_and_json(windows: StudyResults) -> None:
    late = Growth(time=NOON, finished=24, rows=("gru",), seeds=(3, 4))
    grown = msgspec.structs.replace(windows, growth=(late,))
    said = "Added on 2026-11-27, when 24 runs had finished: model gru and seeds 3 and 4."
    assert growth.added(grown) == said
    (caution,) = growth.cautions(grown)
    assert caution in findings.summary(grown)
    assert caution.startswith(said)
    assert "p-values are too small" in caution
    assert said in paper.paragraph(grown)
    assert json.document(grown)["study"]["growth"] == (  # type: ignore[index]
        {"time": NOON, "finished": 24, "rows": ("gru",), "columns": (), "seeds": (3, 4)},
    )


def test_a_study_planned_whole_says_nothing_of_growth(windows: StudyResults) -> None:
    assert growth.cautions(windows) == []
    assert "Added on" not in paper.paragraph(windows)


def test_many_added_seeds_are_counted(windows: StudyResults) -> None:
    late = Growth(time=NOON, finished=1, columns=("20 ms",), seeds=tuple(range(20)))
    said = growth.added(msgspec.structs.replace(windows, growth=(late,)))
    assert said.startswith("Added on 2026-11-27, when 1 run had finished: window 20 ms and seeds 0, 1, 2,")
    assert said.endswith("and 8 more.")
