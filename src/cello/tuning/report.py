"""Write what a tuning found: every trial, the best of each row, and the tuned study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from cello.errors import StudyError
from cello.files import write_whole
from cello.study.config import StudyConfig
from cello.study.folder import naming
from cello.study.former import as_begun
from cello.study.settings import SECTIONS, merge, shown_name
from cello.study.space import Tuned
from cello.tuning.trials import Trial, importance
from cello.tuning.tune import Tuning

TUNED = "tuned"
"""What is added to the protocol that a study states, and is it where none is stated."""
NO_TEST = "Chosen by validation accuracy alone: all trials trained without evaluating the test set."


def write_tuning(tuning: Tuning) -> list[Path]:
    """Write ``tuned.toml``, ``trials.jsonl``, ``tuning.json`` and ``tuning.md`` into the tuning's folder; their paths.

    Raises:
        StoreError: the folder cannot be written.
    """
    facts = findings(tuning)
    origin = f"# {tuning.header.study.name}, tuned: {tuning.header.tune.trials} trials a row. {NO_TEST}\n"
    contents = {
        "tuned.toml": origin + tomli_w.dumps(_plain(tuned_study(tuning))),
        "trials.jsonl": "".join(msgspec.json.encode(trial).decode() + "\n" for trial in tuning.trials),
        "tuning.json": msgspec.json.format(msgspec.json.encode(facts)).decode() + "\n",
        "tuning.md": _markdown(tuning, facts),
    }
    with naming(tuning.folder):
        for name, text in contents.items():
            write_whole(tuning.folder / name, text.encode())
    return [tuning.folder / name for name in contents]


def tuned_study(tuning: Tuning) -> StudyConfig:
    """The study with each row's best values written in; a row whose trials all diverged stays as it was."""
    header = tuning.header
    study = as_begun(header.study, header.study, header.rows)  # the defaults that its trials were run with
    tune, first = header.tune, header.rows[0]
    rows = []
    for row in study.rows:
        best = tuning.best(row.name)
        settings: dict[str, dict[str, Any]] = {}
        for name, value in (best.values if best else {}).items():
            section, _, field = name.partition(".")
            settings.setdefault(section, {})[field] = value
        rows.append(msgspec.structs.replace(row, **merge(row.settings, settings)))
    # another protocol, so that it goes to another folder than the study that was not tuned
    protocol = f"{study.protocol}-{TUNED}" if study.protocol else TUNED
    tuned = Tuned(
        trials=tune.trials,
        epochs=first.config.optimiser.epochs,
        seed=tune.seed,
        column=first.column or None,
        space=tune.space,
        match=study.match,
    )
    return msgspec.structs.replace(study, rows=tuple(rows), protocol=protocol, tuned=tuned)


def findings(tuning: Tuning) -> dict[str, Any]:
    """What ``tuning.json`` says; ``importance`` by row, and under ``all`` over all rows with the row as a setting."""
    header, tune = tuning.header, tuning.header.tune
    names = [run.row for run in header.rows]
    first = header.rows[0]
    shares: dict[str, dict[str, float]] = {}
    unknown = ""
    try:
        shares = {name: importance(tuning.of(name), tune.space) for name in names}
        if len(names) > 1:
            shares["all"] = importance(tuning.trials, tune.space, names)
    except StudyError as error:
        unknown = str(error)
    return {
        "study": header.study.name,
        "protocol": header.study.protocol,
        "corpus": msgspec.to_builtins(header.corpus),
        "column": first.column,
        "trials": tune.trials,
        "epochs": first.config.optimiser.epochs,
        "seed": tune.seed,
        "space": msgspec.to_builtins(tune.space),
        "chosen_by": NO_TEST,
        "rows": [_row(name, tuning.of(name), tuning.best(name)) for name in names],
        "importance": shares,
        "importance_missing": unknown,
    }


def _row(name: str, trials: list[Trial], best: Trial | None) -> dict[str, Any]:
    return {
        "row": name,
        "trials": len(trials),
        "diverged": sum(trial.state == "diverged" for trial in trials),
        "best": None if best is None else msgspec.to_builtins(best),
    }


def _markdown(tuning: Tuning, facts: Mapping[str, Any]) -> str:
    tune = tuning.header.tune
    names = sorted(tune.space)
    column = f" in column {facts['column']}" if facts["column"] else ""
    lines = [
        f"# {facts['study']}: tuned with equal budgets",
        "",
        f"{facts['trials']} trials of each row{column}, {facts['epochs']} epochs each, seed {facts['seed']}, on "
        f"{facts['corpus']['name']}. {NO_TEST} The best of many trials is an optimistic figure: run `tuned.toml` "
        f"for one to report.",
        "",
        "## What was tried",
        "",
        *_table(("setting", "values"), ((shown_name(name), str(tune.space[name])) for name in names)),
        "",
        "## The best of each row",
        "",
        *_table(("row", "validation", "trial", "diverged", *map(shown_name, names)), _best_lines(facts, names)),
        "",
        "## What mattered",
        "",
        *_importance_lines(facts, names),
        "",
        "## Every trial",
        "",
        *_table(
            ("row", "trial", "validation", *map(shown_name, names)),
            (
                (trial.row, str(trial.number), _percent(trial.accuracy), *_values(trial.values, names))
                for trial in tuning.trials
            ),
        ),
    ]
    return "\n".join(lines) + "\n"


def _best_lines(facts: Mapping[str, Any], names: list[str]) -> Iterable[tuple[str, ...]]:
    for row in facts["rows"]:
        best = row["best"] or {"accuracy": None, "number": "none", "values": {}}
        values = _values(best["values"], names)
        yield (row["row"], _percent(best["accuracy"]), str(best["number"]), str(row["diverged"]), *values)


def _importance_lines(facts: Mapping[str, Any], names: list[str]) -> list[str]:
    if facts["importance_missing"]:
        return [f"Not computed: {facts['importance_missing']}."]
    head = ("trials of", *map(shown_name, names), "row")
    lines = (
        (where, *(f"{shares[name]:.2f}" if name in shares else "" for name in (*names, "row")))
        for where, shares in facts["importance"].items()
        if shares
    )
    return [
        "The share of the differences between trials, in validation accuracy, that each setting explains by itself "
        "(fANOVA).",
        "",
        *_table(head, lines),
    ]


def _values(values: Mapping[str, Any], names: list[str]) -> list[str]:
    return [f"{values[n]:.4g}" if isinstance(values.get(n), float) else str(values.get(n, "")) for n in names]


def _percent(accuracy: float | None) -> str:
    return "diverged" if accuracy is None else f"{100 * accuracy:.2f} %"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _plain(study: StudyConfig) -> dict[str, Any]:
    """The study as TOML has it: without what is not stated."""
    table = msgspec.to_builtins(study)
    for part in (table["base"], *table["columns"], *table["rows"]):
        for section in part.keys() & SECTIONS.keys():
            own = part[section].items()
            part[section] = {shown_name(f"{section}.{key}").removeprefix(f"{section}."): value for key, value in own}
    return {name: value for name, value in table.items() if value not in (None, {}, [], ())}
