"""Simulate false alarms of the tests with few speakers, and in cross-validation.

    python benchmarks/statistics_few.py [--repetitions 2000] [--out FILE]

Studies as in statistics_simulation.py (2,678 test clips, 92.5 % right), by 2, 3, 6, 30 or 243 speakers with equally
many clips or log-normal numbers, whom the models suit alike or not (``taste``). Nothing differs in truth, so 5 % of the
studies should be called different. In cross-validation every fold's clips are predicted by runs of their own, and the
training set adds a deviation per model and fold, in percentage points. It correlates between two folds as their
training sets overlap, (k − 2)/(k − 1), if its examples act one by one. Writes benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy.special import ndtri
from statistics_simulation import CLIPS, LEVEL, NOISE, SPEAKER, World, answers, rate, speakers

from cello.files import write_whole
from cello.statistics.cross_validation import fold_components
from cello.statistics.random_effects import components, interval_estimate, p_value

OUT = Path(__file__).parent / "results" / f"{time.strftime('%Y-%m-%d')}-statistics-few.json"
SPEAKERS, SEEDS, TASTES, SPREADS = (2, 3, 6, 30, 243), (3, 5), (0.0, 0.002, 0.02, 0.1), (0.0, 0.686)


class Folds(NamedTuple):
    """One kind of cross-validation; ``training`` is the deviation that a training set brings to a model, in points."""

    folds: int
    speakers: int
    seeds: int = 3
    training: float = 0.0
    seed_points: float = 0.2
    taste: float = 0.002
    accuracy: float = 0.925


FOLDS = (
    *(Folds(5, 30, training=points) for points in (0.0, 0.3, 0.5, 1.0)),
    *(Folds(5, 243, training=points) for points in (0.0, 0.3, 0.5, 1.0)),
    *(Folds(10, 30, training=points) for points in (0.0, 0.3, 0.5, 1.0)),
    *(Folds(6, 6, training=points) for points in (0.0, 0.3, 0.5, 1.0)),  # leave one speaker out
    *(Folds(3, 3, training=points) for points in (0.0, 0.3, 0.5, 1.0)),
    Folds(5, 30, taste=0.1),
    Folds(5, 30, seeds=1),
    Folds(5, CLIPS),  # nobody is known, so each clip is its own speaker
    Folds(5, 30, seeds=10, training=0.3),
)


def few(world: World, repetitions: int, rng: np.random.Generator) -> dict[str, Any]:
    """What the crossed test says of two models that do not differ, and the interval of one."""
    alarms, outside = [], []
    for _ in range(repetitions):
        place = speakers(world, rng)
        first, second = answers(world, place, rng)
        alarms.append(p_value(components([first, second], place)) < LEVEL)
        one = interval_estimate(components([first], place))
        outside.append(not one.low <= world.accuracy <= one.high)
    return {**world._asdict(), "false alarms": rate(alarms), "accuracy outside": rate(outside)}


def predicted(world: Folds, rng: np.random.Generator) -> tuple[list[NDArray[np.bool_]], NDArray[np.int64], Any]:
    """(R, K) right answers of two equal models, (K,) speakers and folds; speakers keep to one fold."""
    sizes = rng.lognormal(0, 0.686, world.speakers)
    sizes = 1 + rng.multinomial(CLIPS - world.speakers, sizes / sizes.sum())
    place = np.repeat(np.arange(world.speakers), sizes)
    fold = (np.arange(world.speakers) % world.folds)[place]
    middle = float(ndtri(world.accuracy))
    slope = math.exp(-(middle**2) / 2) / math.sqrt(2 * math.pi)
    seed, training = world.seed_points / 100 / slope, world.training / 100 / slope
    mean = middle * math.sqrt(1 + seed**2 + training**2)
    overlap = (world.folds - 2) / (world.folds - 1)
    shared = math.sqrt(SPEAKER) * rng.normal(size=world.speakers)[place]
    shared += math.sqrt(1 - SPEAKER - NOISE - world.taste) * rng.normal(size=CLIPS)
    found = []
    for _ in range(2):
        taste = math.sqrt(world.taste) * rng.normal(size=world.speakers)[place]
        own = math.sqrt(overlap) * rng.normal() + math.sqrt(1 - overlap) * rng.normal(size=world.folds)
        by_run = mean + training * own + seed * rng.normal(size=(world.seeds, world.folds))
        noise = math.sqrt(NOISE) * rng.standard_normal((world.seeds, CLIPS), dtype=np.float32)
        found.append(by_run[:, fold] + shared + taste + noise > 0)
    return found, place, fold


def cross_validated(world: Folds, repetitions: int, rng: np.random.Generator) -> dict[str, Any]:
    """Three tests on each study: the corrected one, the same uncorrected, and seeds and speakers on pooled clips."""
    said: dict[str, list[bool]] = {"corrected": [], "uncorrected": [], "crossed": [], "outside": []}
    for _ in range(repetitions):
        both, place, fold = predicted(world, rng)
        found = fold_components(both, fold)
        said["corrected"].append(p_value(found) < LEVEL)
        said["uncorrected"].append(p_value(found._replace(inflation=1.0)) < LEVEL)
        if world.seeds > 1:
            said["crossed"].append(p_value(components(both, place)) < LEVEL)
        one = interval_estimate(fold_components(both[:1], fold))
        said["outside"].append(not one.low <= world.accuracy <= one.high)
    return {**world._asdict(), **{name: rate(hits) for name, hits in said.items() if hits}}


def few_worlds() -> Iterator[World]:
    """Every number of speakers with every number of seeds, taste and spread of clips."""
    for people, seeds, spread, taste in product(SPEAKERS, SEEDS, SPREADS, TASTES):
        yield World(f"{people} speakers", seeds, people, taste=taste, spread=spread)


def main() -> None:
    """Both parts, printed and written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    worlds = list(few_worlds())
    rows = [
        few(world, options.repetitions, np.random.default_rng([0, i])) for i, world in enumerate(track(worlds, "few"))
    ]
    folds = [
        cross_validated(world, options.repetitions, np.random.default_rng([1, i]))
        for i, world in enumerate(track(FOLDS, "folds"))
    ]
    for people, seeds in product(SPEAKERS, SEEDS):
        own = [row["false alarms"]["percent"] for row in rows if (row["speakers"], row["seeds"]) == (people, seeds)]
        print(f"{people} speakers, {seeds} seeds: {min(own):.1f} to {max(own):.1f} % false alarms")  # noqa: T201
    for row in folds:
        shares = {
            name: round(row[name]["percent"], 1) for name in ("corrected", "uncorrected", "crossed") if name in row
        }
        kind = f"{row['folds']} folds, {row['speakers']} speakers, {row['seeds']} seeds, taste {row['taste']:g}"
        print(f"{kind}, training set {row['training']:g} points: {shares}")  # noqa: T201
    command = f"python benchmarks/statistics_few.py --repetitions {options.repetitions}"
    document: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "command": command}
    document |= {"repetitions": options.repetitions, "few": rows, "folds": folds}
    write_whole(options.out, json.dumps(document, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
