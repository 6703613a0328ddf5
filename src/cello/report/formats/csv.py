"""Write the report as CSV: one row a run, one column a figure or setting."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from cello.audio.corpus import SPLITS
from cello.report.results import Run, StudyResults
from cello.report.spreadsheet import written
from cello.study.config import StudyConfig
from cello.training.config import RunConfig, flat

FIGURES = (
    "chosen_epoch",
    "parameters",
    "seconds_per_epoch",
    "wall_seconds_per_epoch",
    "clips_per_second",
    "epoch_seconds",
    "epoch_cpu_seconds",
    "epoch_clips_per_second",
    "total_seconds",
)


def record(study: StudyResults | StudyConfig, run: Run) -> dict[str, object]:
    """One run as a flat row; accuracies in [0, 1], losses in nats, times in seconds, every setting as ``config.…``."""
    result = run.result
    beside = study.reference_figures
    row: dict[str, object] = {"study": study.name, "stage": beside.name if beside else "", "protocol": study.protocol}
    row |= {"row": run.row, "column": run.column, "seed": run.seed, "run": result.run, "backend": result.backend}
    row |= {name: getattr(result, name) for name in FIGURES}
    for split in SPLITS:
        row |= {f"{split}_{name}": value for name, value in msgspec.structs.asdict(getattr(result, split)).items()}
    row |= {f"test_{c.kind}={c.value:g}_accuracy": c.test.accuracy for c in result.conditions}
    row |= {f"hardware.{name}": value for name, value in result.hardware.items()}
    row |= {f"versions.{name}": value for name, value in result.versions.items()}
    return row | _settings(msgspec.structs.replace(result.config, seed=0)) | {"config.seed": result.config.seed}


@lru_cache(maxsize=1024)
def _settings(config: RunConfig) -> dict[str, object]:
    """Kept, for the runs of a table cell share all settings but the seed."""
    return {f"config.{name}": value for name, value in flat(msgspec.to_builtins(config))}


def report(results: StudyResults) -> str:
    """All finished runs in the plan's order, one header line; an absent figure is an empty field.

    A text that a spreadsheet would compute begins with an apostrophe.
    """
    place = {(r, c): (k, j) for k, r in enumerate(results.rows) for j, c in enumerate(results.columns)}
    runs = sorted(results.runs, key=lambda r: (place.get((r.row, r.column), (len(place), 0)), r.seed))
    rows = [record(results, run) for run in runs]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return written(names, ([row.get(name, "") for name in names] for row in rows))


def clips(results: StudyResults) -> str:
    """All test clips in the corpus's order, one a row; empty where the store does not name them."""
    found = results.clips
    if found is None:
        return ""
    heads = ["clip", "label", "speaker", "runs", "wrong", "taken_for", "taken"]
    rows = ([c.name, c.label, c.speaker, c.runs, c.wrong, c.taken_for, c.taken, *c.values] for c in found.clips)
    return written([*heads, *(f"column.{name}" for name in found.columns)], rows)


def groups(results: StudyResults) -> str:
    """Accuracies in [0, 1] by speaker and by the table's columns; empty where nothing is grouped."""
    if results.clips is None or not results.clips.groups:
        return ""
    heads = ["by", "value", "clips", "best_model_accuracy", "all_models_accuracy"]
    return written(heads, ([g.by, g.value, g.clips, g.best, g.every] for g in results.clips.groups))
