"""Compare the gates study on the plain and the C back end: wall time, s/epoch, accuracies.

    python benchmarks/gates_speed.py --corpus folder:CLIPS [--seeds 3] [--workers 2] --out DIR

Two studies, one after the other, equal but for model.backend; both resume. A study's time is the wall time of its runs
added up, over the number of workers. Prints a table and writes benchmarks/results/DATE-gates-speed.json.
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path
from statistics import fmean, stdev

from scipy.stats import t as student

from cello.audio.open import open_corpus
from cello.execution.run import run_study
from cello.files import write_whole
from cello.machine import hardware, versions
from cello.study.overrides import override
from cello.study.study_file import load_study

OUT = Path(__file__).parent / "results" / f"{date.today()}-gates-speed.json"
BACKENDS = ("plain", "c")


def half_width(values: list[float]) -> float:
    """Half the 95 % t-interval of a mean."""
    return float(student.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def study_seconds(folder: Path, runs: set[str], workers: int) -> float:
    """Wall time of these runs, from their last start to their end, by the store's journal."""
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text("utf-8").splitlines()]
    times = {(event["event"], event["run"]): event["time"] for event in events}
    return sum(times["finished", run] - times["started", run] for run in runs) / workers


def main() -> None:
    """Run, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    open_corpus(options.corpus)  # decoded beforehand, so that neither side pays for it
    wall: dict[str, float] = {}
    found: dict[str, dict[tuple[str, int], tuple[float, float]]] = {}
    for backend in BACKENDS:
        settings = {"model.backend": backend}
        study = override(load_study("gates", "fair"), seeds=range(options.seeds), settings=settings)
        store = run_study(study, options.corpus, options.out / backend, workers=options.workers)
        finished = [run for run in store.results() if run.seed < options.seeds]
        wall[backend] = study_seconds(options.out / backend, {run.result.run for run in finished}, options.workers)
        found[backend] = {
            (run.row, run.seed): (run.result.seconds_per_epoch, 100 * run.result.test.accuracy) for run in finished
        }
    rows, all_differences = [], list[float]()
    for row in dict.fromkeys(row for row, _ in found["c"]):
        seeds = [seed for name, seed in found["c"] if name == row]
        seconds = {b: fmean(found[b][row, seed][0] for seed in seeds) for b in BACKENDS}
        differences = [found["c"][row, seed][1] - found["plain"][row, seed][1] for seed in seeds]
        all_differences += differences
        rows.append(
            {
                "cell": row,
                "seconds_per_epoch": seconds,
                "ratio": seconds["plain"] / seconds["c"],
                "test_accuracy": {b: fmean(found[b][row, seed][1] for seed in seeds) for b in BACKENDS},
                "difference": fmean(differences),
            }
        )
        print(  # noqa: T201
            f"{row:18}{seconds['plain']:7.2f}{seconds['c']:7.2f} s/epoch{rows[-1]['ratio']:6.2f}×   "
            f"c − plain {rows[-1]['difference']:+.2f} points"
        )
    print({name: round(value) for name, value in wall.items()}, "s in all")  # noqa: T201
    about = {**hardware(), **versions(), "date": str(date.today()), "workers": options.workers, "seeds": options.seeds}
    overall = {
        "pairs": len(all_differences),
        "mean": fmean(all_differences),
        "half_width_95": half_width(all_differences),
    }
    found_all = {"machine": about, "study_seconds": wall, "difference": overall, "rows": rows}
    print(f"c − plain over all pairs: {overall['mean']:+.2f} ± {overall['half_width_95']:.2f} points")  # noqa: T201
    write_whole(OUT, json.dumps(found_all, indent=1).encode())


if __name__ == "__main__":
    main()
