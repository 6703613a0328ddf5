"""Write the report as JSON for other programs.

The format is versioned; ``docs/report-json.md`` describes each field.

Formats so far: 1, the first.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from cello import __version__
from cello.report import paper, ranking, references, robustness, speakers
from cello.report.clips import PerClipCorrectness
from cello.report.comparisons import ColumnComparisons
from cello.report.metrics import METRICS, Interval
from cello.report.results import Run, StudyResults
from cello.report.tables import best_cell
from cello.statistics.means import CONFIDENCE
from cello.statistics.random_effects import Estimate
from cello.training.result import Epoch, RunResult

FORMAT = 1
OF_CLIPS = (
    "test_speakers",
    "test_names",
    "speaker_names",
    "columns",
    "folds",
    "test_folds",
)  # what they say stands by clip and by group
AS_THEY_ARE = (
    "chosen_epoch",
    "parameters",
    "backend",
    "seconds_per_epoch",
    "wall_seconds_per_epoch",
    "clips_per_second",
    "epoch_seconds",
    "epoch_cpu_seconds",
    "epoch_clips_per_second",
)


def document(results: StudyResults) -> dict[str, object]:
    """The whole report as plain values; values that are not finite become null when written."""
    return _around_runs(results) | {"runs": [_run(run) for run in results.runs]}


def _around_runs(results: StudyResults) -> dict[str, object]:
    row, column = best_cell(results)
    return {
        "format": FORMAT,
        "cello": __version__,
        "study": {
            "name": results.name,
            "title": results.title,
            "stage": results.reference_figures.name if results.reference_figures else None,
            "protocol": results.protocol,
            "rows": results.rows,
            "columns": results.columns,
            "seeds": results.seeds,
            "tuned": msgspec.to_builtins(results.tuned),
            "planned": len(results.planned),
            "finished": len(results.runs),
            "growth": msgspec.to_builtins(results.growth),
        },
        "corpus": {k: v for k, v in msgspec.to_builtins(results.corpus).items() if k not in OF_CLIPS},
        "best": {"row": row, "column": column, "chosen_by": "validation_accuracy"},
        "confidence": CONFIDENCE,
        "cells": [_cell(results, *place) for place in results.cells()],
        "evidence": [_comparisons(column) for column in results.comparisons],
        "order": _order(results),
        "groups": msgspec.to_builtins(results.clips.groups) if results.clips else [],
        "wrong_clips": _wrong(results.clips) if results.clips else [],
        "own_cells": [cell._asdict() for cell in results.own_cells],
        "methods": paper.paragraph(results),
        "methods_unrecorded": paper.unrecorded(results),
        "references": [
            {"key": found.key, "cells": found.cells, "bibtex": found.bibtex} for found in references.used(results)
        ],
        "runs": [],
        "cross_validation": _cross_validation(results),
        "failures": msgspec.to_builtins(results.failures),
    }


def report(results: StudyResults) -> str:
    """The document as indented JSON text."""
    return b"".join(pieces(results)).decode()


def pieces(results: StudyResults) -> Iterator[bytes]:
    """The text of ``report`` piece by piece, one run at a time: that of thousands of runs fills memory."""
    before, runs, after = _text(_around_runs(results)).partition(b'\n "runs": [')
    yield before + runs
    for number, run in enumerate(results.runs):
        yield (b"," if number else b"") + b"\n  " + _text(_run(run)).replace(b"\n", b"\n  ")
    yield (b"\n " if results.runs else b"") + after + b"\n"


def _text(tree: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(tree), indent=1)


def _cell(results: StudyResults, row: str, column: str) -> dict[str, object]:
    runs = results.cell(row, column)
    figures = {metric.key: metric.over(runs) for metric in METRICS}
    return {
        "row": row,
        "column": column,
        "seeds": len(runs),
        "planned_seeds": results.planned_seeds(row, column),
        "parameters": runs[0].parameters,
        "conditions": [
            {"kind": kind.key, "value": value, "test_accuracy": _figure(found)}
            for kind in robustness.KINDS
            for value in robustness.values(results, kind)
            if (found := robustness.accuracy(runs, kind, value)) is not None
        ],
        **{key: _figure(figure) for key, figure in figures.items()},
    }


def _figure(found: Interval) -> dict[str, object]:
    return {"mean": found.mean, "half_width": found.half, "indicative": found.indicative}


def _comparisons(found: ColumnComparisons) -> dict[str, object]:
    standings = [
        {
            "row": model.row,
            **_estimate("accuracy", model.accuracy, 0.0),
            "letters": model.letters,
            "seeds": model.seeds,
            "indicative": model.indicative,
        }
        for model in found.standings
    ]
    comparisons = [
        {
            "first": pair.first,
            "second": pair.second,
            **_estimate("difference", pair.difference, -1.0),
            "p": pair.p,
            "p_holm": pair.p_holm,
            "differs": pair.differs,
            "superiority": pair.superiority,
            "seeds_needed": pair.seeds_needed,
            "detectable": 100 * pair.detectable,
            "indicative": pair.indicative,
            "verdict": pair.verdict,
        }
        for pair in found.comparisons
    ]
    return {
        "column": found.column,
        "note": found.note or None,
        "ranking": standings,
        "comparisons": comparisons,
        "surprise": msgspec.to_builtins(found.surprise),
    }


def _cross_validation(results: StudyResults) -> dict[str, object] | None:
    """The folds and each finished run of one; the document's other runs are those of all folds together."""
    folds = results.corpus.folds
    if not folds:
        return None
    return {
        "rule": speakers.rule(results),
        "folds": [{"name": fold.name, "clips": fold.test.clips, "speakers": fold.test.speakers} for fold in folds],
        "runs": msgspec.to_builtins(results.fold_runs),
    }


def _wrong(found: PerClipCorrectness) -> list[dict[str, object]]:
    """The clips that a run had wrong, the most often wrong first."""
    fields = ("name", "label", "speaker", "runs", "wrong", "taken_for", "taken")
    return [
        {
            **{name: getattr(clip, name) for name in fields},
            "columns": dict(zip(found.columns, clip.values, strict=True)),
        }
        for clip in found.wrong()
    ]


def _estimate(name: str, found: Estimate, least: float) -> dict[str, float]:
    """In per cent or points, the interval as far as such a figure can be."""
    low, high = (100 * min(max(value, least), 1.0) for value in (found.low, found.high))
    return {name: 100 * found.value, "low": low, "high": high}


def _order(results: StudyResults) -> dict[str, object] | None:
    found = ranking.order(results)
    if found is None:
        return None
    names = ("blocks", "chi2", "p_chi2", "p", "critical_difference", "ranks", "letters")
    return {name: getattr(found, name) for name in names}


def _run(run: Run) -> dict[str, object]:
    result: RunResult = run.result
    return {
        "row": run.row,
        "column": run.column,
        "seed": run.seed,
        "run": result.run,
        **{name: getattr(result, name) for name in AS_THEY_ARE},
        "total_seconds": result.total_seconds,
        "train": msgspec.to_builtins(result.train),
        "validation": msgspec.to_builtins(result.validation),
        "test": msgspec.to_builtins(result.test),
        "conditions": msgspec.to_builtins(result.conditions),
        "confusion": result.confusion,
        "labels": result.labels,
        "history": {name: [getattr(epoch, name) for epoch in result.history] for name in Epoch.__struct_fields__},
        "config": msgspec.to_builtins(result.config),
        "hardware": result.hardware,
        "versions": result.versions,
    }
