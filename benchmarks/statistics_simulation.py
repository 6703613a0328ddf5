"""Simulate false alarms, power and coverage of the statistics.

    python benchmarks/statistics_simulation.py [--repetitions 5000] [--resamples 500] [--out FILE]

Made-up studies with the clips, speakers and variances of the committed ones (2,678 test clips of 243 speakers, 1 to 58
clips each). Run r of model m is right on clip k of speaker s where

    Φ⁻¹(accuracy) + seed[m, r] + speaker[s] + clip[k] + taste[m, s] + noise[m, r, k] > 0,

all normal, total variance 1 (but for the seeds' own share, which is added), so that the true accuracy is known exactly
and a difference can be planted exactly. Every repetition draws new speakers, clips and seeds: the models differ, or do
not, beyond these. Beside the library's test stand the ones it was chosen over. Writes benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
from scipy.special import chdtrc, ndtri
from scipy.stats import ttest_rel

from cello.files import write_whole
from cello.statistics.comparisons import detectable, holm, power
from cello.statistics.random_effects import (
    Components,
    components,
    hierarchical_bootstrap,
    hierarchical_draws,
    interval_estimate,
    p_value,
)

RESULTS = Path(__file__).parent / "results"
CLIPS, SPEAKER, NOISE = 2678, 0.28, 0.18
LEVEL = 0.05
TARGETS = (0.5, 0.8)


class World(NamedTuple):
    """One kind of study. ``seed_points`` are the two models' deviations between seeds that more clips would not take
    away, in percentage points; with the clips' share of 0.35 the runs of the first world vary by 0.4 points, as ours.
    ``taste`` is the share of variance by which a model is better for some speakers than for others, ``broadcast`` the
    deviation of the logarithm of their numbers of clips; 0.686 is that of the real ones, (Σ n)² / Σ n² = 0.63 S."""

    name: str
    seeds: int = 5
    speakers: int = 243
    accuracy: float = 0.925
    seed_points: tuple[float, float] = (0.2, 0.2)
    taste: float = 0.002
    spread: float = 0.686


WORLDS = (
    World("as measured"),
    World("three seeds", seeds=3),
    World("ten seeds", seeds=10),
    World("400 speakers", speakers=400),
    World("seeds differ more", seed_points=(0.8, 0.8)),
    World("seeds of one model differ more", seed_points=(0.1, 1.0)),
    World("speakers differ more", taste=0.1),
    World("nearly perfect", accuracy=0.985),
)


def speakers(world: World, rng: np.random.Generator) -> NDArray[np.int64]:
    """(K,) speakers of the clips, whose numbers of clips are log-normal."""
    if world.spread == 0:
        return np.arange(CLIPS) * world.speakers // CLIPS
    sizes = rng.lognormal(0, world.spread, world.speakers)
    sizes = 1 + rng.multinomial(CLIPS - world.speakers, sizes / sizes.sum())
    return np.repeat(np.arange(world.speakers), sizes)


def answers(
    world: World, place: NDArray[np.int64], rng: np.random.Generator, difference: float = 0.0, models: int = 2
) -> list[NDArray[np.bool_]]:
    """(R, K) right answers of each model; the first model's true accuracy is above the others' by ``difference``."""
    shared = math.sqrt(SPEAKER) * rng.normal(size=world.speakers)[place]
    shared += math.sqrt(1 - SPEAKER - NOISE - world.taste) * rng.normal(size=len(place))
    found = []
    for model in range(models):
        accuracy = world.accuracy + difference * (model == 0)
        middle = float(ndtri(accuracy))
        slope = math.exp(-(middle**2) / 2) / math.sqrt(2 * math.pi)
        deviation = world.seed_points[min(model, 1)] / 100 / slope
        # the seeds' share widens the latent distribution, so the middle moves to keep the accuracy exact
        mean = middle * math.sqrt(1 + deviation**2)
        seeds = mean + deviation * rng.normal(size=(world.seeds, 1))
        taste = math.sqrt(world.taste) * rng.normal(size=world.speakers)[place]
        noise = math.sqrt(NOISE) * rng.standard_normal((world.seeds, len(place)), dtype=np.float32)
        found.append(seeds + shared + taste + noise > 0)
    return found


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """p of McNemar's test on one run of each model: clips are all the chance that it knows."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    return float(chdtrc(1, (only_first - only_second) ** 2 / discordant)) if discordant else 1.0


def under_no_difference(world: World, rng: np.random.Generator, resamples: int) -> tuple[dict[str, bool], Components]:
    """What each test says of one study whose models do not differ, and whether intervals hold the true accuracy."""
    place = speakers(world, rng)
    first, second = answers(world, place, rng)
    found = components([first, second], place)
    widened = hierarchical_bootstrap([first, second], place, rng, resamples)
    draws = hierarchical_draws([first, second], place, rng, resamples)
    low, high = np.quantile(draws, [LEVEL / 2, 1 - LEVEL / 2])
    one = interval_estimate(components([first], place))
    one_widened = hierarchical_bootstrap([first], place, rng, resamples)
    return {
        "false alarm: Cello's test": p_value(found) < LEVEL,
        "false alarm: hierarchical bootstrap, widened": not widened.low <= 0 <= widened.high,
        "false alarm: hierarchical bootstrap, plain quantiles": not low <= 0 <= high,
        "false alarm: paired t over seeds": float(ttest_rel(first.mean(1), second.mean(1)).pvalue) < LEVEL,
        "false alarm: McNemar on one run each": mcnemar(first[0], second[0]) < LEVEL,
        "accuracy outside the interval": not one.low <= world.accuracy <= one.high,
        "accuracy outside the bootstrap interval": not one_widened.low <= world.accuracy <= one_widened.high,
    }, found


def typical(found: list[Components]) -> Components:
    """The components that the power is computed from: means over the studies."""
    return Components(
        value=0.0,
        runs=tuple(np.mean([f.runs for f in found], axis=0).tolist()),
        cells=tuple(np.mean([f.cells for f in found], axis=0).tolist()),
        seeds=found[0].seeds,
        speakers=float(np.mean([f.speakers for f in found])),
        effective=float(np.mean([f.effective for f in found])),
    )


def rate(hits: list[bool]) -> dict[str, float]:
    """Share in per cent, with the standard error of the simulation itself."""
    share = float(np.mean(hits))
    return {"percent": 100 * share, "error": 100 * math.sqrt(share * (1 - share) / len(hits))}


def simulate(world: World, rng: np.random.Generator, options: argparse.Namespace, bar: Progress) -> dict[str, Any]:
    """One world: false alarms and coverage, then power at differences that the library says have power 0.5 and 0.8."""
    task = bar.add_task(world.name, total=options.repetitions * (1 + len(TARGETS)))
    said: dict[str, list[bool]] = defaultdict(list)
    seen = []
    for _ in range(options.repetitions):
        verdicts, found = under_no_difference(world, rng, options.resamples)
        for name, verdict in verdicts.items():
            said[name].append(verdict)
        seen.append(found)
        bar.advance(task)
    usual = typical(seen)
    powers = []
    for target in TARGETS:
        difference, hits = detectable(usual, target=target), []
        for _ in range(options.repetitions):
            place = speakers(world, rng)
            hits.append(p_value(components(answers(world, place, rng, difference), place)) < LEVEL)
            bar.advance(task)
        powers.append(
            {"points": 100 * difference, "computed percent": 100 * power(usual, difference), "seen": rate(hits)}
        )
    return {
        "world": world._asdict(),
        "typical": usual._asdict(),
        "between runs, points": [100 * math.sqrt(r) for r in usual.runs],
        "no difference": {name: rate(hits) for name, hits in said.items()},
        "power": powers,
    }


def family(world: World, rng: np.random.Generator, options: argparse.Namespace, bar: Progress) -> dict[str, Any]:
    """How often at least one of 15 pairs of six equal models is called different, Holm's correction made or not."""
    task = bar.add_task("six equal models", total=options.repetitions)
    plain, corrected = [], []
    for _ in range(options.repetitions):
        place = speakers(world, rng)
        models = answers(world, place, rng, models=6)
        raw = [p_value(components(pair, place)) for pair in combinations(models, 2)]
        plain.append(min(raw) < LEVEL)
        corrected.append(min(holm(raw)) < LEVEL)
        bar.advance(task)
    return {"world": world._asdict(), "uncorrected": rate(plain), "Holm": rate(corrected)}


def summary(worlds: list[dict[str, Any]], six: dict[str, Any]) -> str:
    """What matters of it, in lines."""
    lines = []
    for found in worlds:
        lines.append(f"\n{found['world']['name']}")
        for name, share in found["no difference"].items():
            lines.append(f"  {name}: {share['percent']:.1f} ± {share['error']:.1f} %")
        lines += [
            f"  power at {planted['points']:.2f} points: computed {planted['computed percent']:.1f}, "
            f"seen {planted['seen']['percent']:.1f} ± {planted['seen']['error']:.1f} %"
            for planted in found["power"]
        ]
    plain, corrected = six["uncorrected"]["percent"], six["Holm"]["percent"]
    lines.append(f"\nsix equal models, any of 15 pairs: {plain:.1f} % uncorrected, {corrected:.1f} % Holm")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Every world, then the family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5000)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{time.strftime('%Y-%m-%d')}-statistics.json")
    options = parser.parse_args()
    started = time.process_time()
    with Progress() as bar:
        worlds = [
            simulate(world, np.random.default_rng([options.seed, index]), options, bar)
            for index, world in enumerate(WORLDS)
        ]
        six = family(WORLDS[0], np.random.default_rng([options.seed, len(WORLDS)]), options, bar)
    document = {
        "repetitions": options.repetitions,
        "resamples": options.resamples,
        "seed": options.seed,
        "cpu_seconds": time.process_time() - started,
        "worlds": worlds,
        "family": six,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.out, json.dumps(document, indent=1).encode() + b"\n")
    sys.stdout.write(f"{summary(worlds, six)}{options.out}\n")


if __name__ == "__main__":
    main()
