"""Compare the test accuracies of one study in two precisions, as reports compare models, and pair by pair of runs.

    python benchmarks/precision_accuracy.py [--first DIR] [--second DIR] [--out FILE]

Both folders hold the same runs of one column, computed in another way. A model's two versions are compared on the same
clips, seeds and speakers being random effects (``cello.statistics.comparisons``), corrected for the number of models by
Holm. The pairs are runs of the same model and seed; their mean difference has a 95 % t-interval.

Writes benchmarks/results/DATE-precision-accuracy.json.
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from cello.files import write_whole
from cello.statistics.comparisons import holm, pairwise
from cello.statistics.means import t_interval
from cello.study.correctness import answers, speakers_of
from cello.study.store import Store

GATES = Path(__file__).parent.parent / "results" / "speech_commands_14"
OUT = Path(__file__).parent / "results" / f"{date.today()}-precision-accuracy.json"


def rows_of(first: Store, second: Store) -> list[dict[str, Any]]:
    """Of each model: accuracy in percent in both studies, difference in points with its interval, p."""
    column, speakers = first.results()[0].column, speakers_of(first)
    one, other = (answers(store, column).correct for store in (first, second))
    found = list[dict[str, Any]]()
    for row, correct in one.items():
        compared = pairwise({"second": other[row], "first": correct}, speakers)[0]
        difference = compared.difference
        found.append(
            {
                "model": row,
                "accuracy": [100 * float(table.mean()) for table in (correct, other[row])],
                "difference": 100 * difference.value,
                "interval_95": [100 * difference.low, 100 * difference.high],
                "p": compared.p,
                "pairs": [100 * float(d) for d in other[row].mean(axis=1) - correct.mean(axis=1)],
            }
        )
    for one_row, p in zip(found, holm([each["p"] for each in found]), strict=True):
        one_row["p_holm"] = p
    return found


def main() -> None:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=Path, default=GATES / "gates-fair")
    parser.add_argument("--second", type=Path, default=GATES / "gates-fair-bf16")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    stores = [Store.open(folder) for folder in (options.first, options.second)]
    precisions = ["/".join(sorted({run.result.precision for run in store.results()})) for store in stores]
    rows = rows_of(*stores)
    table = Table("model", *(f"{precision}, %" for precision in precisions), box=box.SIMPLE_HEAD)
    for column in ("difference, points", "95 % interval", "p (Holm)"):
        table.add_column(column, justify="right")
    for row in rows:
        low, high = row["interval_95"]
        accuracies = [f"{value:.2f}" for value in row["accuracy"]]
        table.add_row(row["model"], *accuracies, f"{row['difference']:+.2f}", f"{low:+.2f} to {high:+.2f}",
                      f"{row['p_holm']:.2f}")  # fmt: skip
    pairs = [each for row in rows for each in row["pairs"]]
    mean, half_width = t_interval(pairs)
    console = Console()
    console.print(table)
    console.print(f"{len(pairs)} pairs of runs: {mean:+.2f} ± {half_width or 0:.2f} points", highlight=False)
    overall = {"pairs": len(pairs), "mean": mean, "half_width_95": half_width}
    record = {"date": str(date.today()), "precisions": precisions, "rows": rows, "difference": overall}
    write_whole(options.out, json.dumps(record, indent=1).encode())
    console.print(options.out, soft_wrap=True)


if __name__ == "__main__":
    main()
