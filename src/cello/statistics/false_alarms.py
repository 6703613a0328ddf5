"""State the false-positive rates that simulations found for few speakers, seeds or folds."""

from __future__ import annotations

from collections.abc import Mapping

PROMISED, WITHIN = 5.0, 1.0  # per cent: a level of 0.05, and how far from it needs no word
TOO_NARROW = 2.5  # the intervals of many speakers' accuracies miss up to 7 %, as docs/statistics.md says
Range = tuple[float, float]

# seeds → test speakers → per cent of simulated studies, least and most over the worlds of benchmarks/statistics_few.py:
# equal models called different
BY_SPEAKERS: dict[int, dict[int, Range]] = {
    3: {2: (1.4, 5.3), 3: (1.1, 2.5), 6: (1.1, 2.2), 30: (2.2, 5.5), 243: (3.2, 5.1)},
    5: {2: (1.6, 6.3), 3: (1.4, 3.6), 6: (1.8, 2.8), 30: (2.7, 4.7), 243: (4.0, 4.9)},
}
# the true accuracy of one model outside its interval
OUTSIDE: dict[int, dict[int, Range]] = {
    3: {2: (8.2, 16.8), 3: (10.7, 20.2), 6: (12.1, 17.1), 30: (7.2, 12.8), 243: (4.8, 7.0)},
    5: {2: (7.6, 15.9), 3: (9.8, 18.8), 6: (12.5, 17.3), 30: (7.8, 12.0), 243: (5.0, 6.7)},
}
# folds → the corrected test, where the training set brings nothing, and 0.5 points, to a model's accuracy on a fold
BY_FOLDS: dict[int, Range] = {5: (1.1, 10.1), 10: (0.8, 9.0)}
ONE_SPEAKER_A_FOLD: dict[int, Range] = {3: (0.6, 0.8), 6: (0.4, 1.1)}
ONE_SPEAKER_OUTSIDE: dict[int, Range] = {3: (5.0, 5.9), 6: (6.3, 8.0)}


def caution(speakers: int, seeds: int, folds: int | None = None, unit: str = "speakers") -> str:
    """What to know of the test at this number of test speakers and of seeds a model, or of folds; else empty.

    Where clips are taken for speakers, ``speakers`` is their number and ``unit`` "clips". Numbers between two simulated
    ones get the range of both. No estimate of a variance over overlapping training sets is unbiased (Bengio &
    Grandvalet 2004, JMLR 5:1089), so with folds there is always something to say.

    >>> caution(243, 5)
    ''
    """
    if folds is not None:
        alone = speakers <= folds <= max(ONE_SPEAKER_A_FOLD)
        low, high = _between(ONE_SPEAKER_A_FOLD if alone else BY_FOLDS, folds)
        outside = ONE_SPEAKER_OUTSIDE[folds] if alone and folds in ONE_SPEAKER_OUTSIDE else (0.0, 0.0)
        text = (
            f"Training sets of {folds} folds overlap: the corrected test (Nadeau & Bengio) called equal models "
            f"different in {low:.1f} % of simulated studies where training sets hardly matter and in {high:.1f} % "
            f"where they bring 0.5 points each, {PROMISED:g} % being allowed; nothing in one study tells which it is."
        )
        return " ".join(filter(None, (text, _of_intervals(outside))))
    simulated = min(BY_SPEAKERS, key=lambda n: (abs(n - seeds), n))
    alarms, outside = _between(BY_SPEAKERS[simulated], speakers), _between(OUTSIDE[simulated], speakers)
    return " ".join(filter(None, (_of_alarms(f"{speakers:,} test {unit}", seeds, alarms), _of_intervals(outside))))


def _of_alarms(units: str, seeds: int, share: Range) -> str:
    if share[0] >= PROMISED - WITHIN and share[1] <= PROMISED + WITHIN:
        return ""
    effect = "it misses more real differences than it could"
    if share[1] > PROMISED + WITHIN:
        effect = "take its word with care"
    return (
        f"With {units} and {seeds} seeds the test called equal models different in {_range(share)} "
        f"of simulated studies, {PROMISED:g} % being allowed: {effect}."
    )


def _of_intervals(share: Range) -> str:
    if share[1] <= PROMISED + TOO_NARROW:
        return ""
    return (
        f"The interval of one model's accuracy is too narrow: it missed the truth in {_range(share)} of simulated "
        f"studies, not in {PROMISED:g} %."
    )


def _range(share: Range) -> str:
    return f"{share[0]:.1f} to {share[1]:.1f} %"


def _between(known: Mapping[int, Range], number: int) -> Range:
    below = [n for n in known if n <= number]
    above = [n for n in known if n >= number]
    near = [known[n] for n in {max(below, default=min(known)), min(above, default=max(known))}]
    return min(low for low, _ in near), max(high for _, high in near)
