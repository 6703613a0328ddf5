"""Writes what README shows of the committed studies from their stores: tables between markers, two pictures, notebooks.

Run from the repository's root: ``python benchmarks/show_results.py``. It trains nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

from cello.files import write_whole
from cello.report import markdown, plots, tables
from cello.report.metrics import BY_KEY
from cello.report.results import StudyResults, load_results
from cello.report.write import write_report

STORES = Path("results/speech_commands_12")
NOTEBOOKS = Path("notebooks")
IMAGES = Path("docs/images")
SHOWN = ("train_accuracy", "validation_accuracy", "test_accuracy", "seconds_per_epoch")


def windows(results: StudyResults) -> str:
    """Test accuracy, models × windows."""
    return markdown.table(tables.overview(results, BY_KEY["test_accuracy"]))


def gates(results: StudyResults) -> str:
    """Train, validation and test accuracy of each cell, beside what the published study wrote."""
    return markdown.table(tables.details(results, [BY_KEY[key] for key in SHOWN]))


def state(results: StudyResults) -> str:
    """One line that says what the table is of."""
    finished = f"{len(results.runs)} of {len(results.planned)} runs finished"
    return f"`{results.name}`, protocol `{results.protocol}`: {finished}."


def main() -> None:
    """Everything that can be shown of the stores that are there."""
    parts = []
    for name, table, picture in (("windows", windows, plots.accuracy), ("gates", gates, plots.accuracy)):
        for protocol in ("fair", "published"):
            folder = STORES / f"{name}-{protocol}"
            if not any((folder / "runs").glob("*/result.json")):
                continue
            results = load_results(folder)
            parts.append(f"{state(results)}\n\n{table(results)}")
            write_report(folder, formats=("md", "csv"))
            if protocol == "fair":
                IMAGES.mkdir(parents=True, exist_ok=True)
                write_whole(IMAGES / f"{name}.png", plots.png(picture(results), dpi=130))
                write_report(folder, formats=("notebook",), out=NOTEBOOKS)
    readme = Path("README.md")
    shown = "\n\n".join(parts)
    pattern = re.compile(r"(<!-- results -->\n).*?(<!-- end of results -->)", re.DOTALL)
    text = pattern.sub(lambda m: f"{m[1]}\n{shown}\n\n{m[2]}", readme.read_text("utf-8"))
    write_whole(readme, text.encode())


if __name__ == "__main__":
    main()
