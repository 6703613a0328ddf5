"""Simulate false alarms of the test for two models with normal runs, clips and speakers.

    python benchmarks/statistics_components.py [--draws 20000] [--out FILE]

Unlike statistics_simulation.py this draws the variance components themselves, from the distributions that normal data
would give them, so that each world takes a second and its error is 0.15 points. Without a true difference 5 % of the
draws should be called one.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product
from pathlib import Path

import numpy as np
from rich.progress import track

from cello.files import write_whole
from cello.statistics.random_effects import Components, p_value

OUT = Path(__file__).parent / "results" / f"{time.strftime('%Y-%m-%d')}-statistics-components.json"
SPEAKERS = 152.0
SEEDS, BETWEEN, SHARED = (3, 5), (0.0, 0.2, 1.0, 4.0), (0.0, 0.3, 1.0, 3.0)


def false_alarms(seeds: int, between: float, shared: float, draws: int, rng: np.random.Generator) -> float:
    """The share of draws that are called a difference.

    ``between`` is the variance between seeds, ``shared`` that of the speakers on whom all runs agree, both in units of
    the noise of one run on its clips.
    """
    free = SPEAKERS - 1
    run = (between + 1) * rng.chisquare(seeds - 1, (draws, 2)) / (seeds - 1)
    cells = rng.chisquare(free * (seeds - 1), (draws, 2)) / (free * (seeds - 1))
    seen = (shared + 2 / seeds) * rng.chisquare(free, draws) / free
    value = rng.normal(0, np.sqrt(2 * (between + 1) / seeds + shared), draws)
    found = (
        Components(v, tuple(r), tuple(c), (seeds, seeds), s, SPEAKERS)
        for v, r, c, s in zip(value.tolist(), run.tolist(), cells.tolist(), seen.tolist(), strict=True)
    )
    return sum(p_value(parts) < 0.05 for parts in found) / draws


def main() -> None:
    """Every world, printed and written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = [
        {
            "seeds": seeds,
            "between": between,
            "shared": shared,
            "false_alarms": false_alarms(seeds, between, shared, options.draws, rng),
        }
        for seeds, between, shared in track(list(product(SEEDS, BETWEEN, SHARED)), "worlds")
    ]
    for seeds in SEEDS:
        found = [100 * row["false_alarms"] for row in rows if row["seeds"] == seeds]
        print(f"{seeds} seeds: {min(found):.1f} to {max(found):.1f} % false alarms in {len(found)} worlds")  # noqa: T201
    write_whole(options.out, json.dumps({"draws": options.draws, "worlds": rows}, indent=1).encode())


if __name__ == "__main__":
    main()
