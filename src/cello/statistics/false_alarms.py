"""State the false-positive rates that simulations found for few speakers, seeds or folds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
    ones get the range of both, and the text says which were simulated. No estimate of a variance over overlapping
    training sets is unbiased (Bengio & Grandvalet 2004, JMLR 5:1089), so with folds there is always something to say.

    >>> caution(243, 5)
    ''
    """
    if folds is not None:
        return _of_folds(speakers, folds)
    simulated, people = _beside(BY_SPEAKERS, seeds), _beside(BY_SPEAKERS[min(BY_SPEAKERS)], speakers)
    alarms, outside = (_whole([table[n][k] for n in simulated for k in people]) for table in (BY_SPEAKERS, OUTSIDE))
    told = [text for text in (_of_alarms(alarms), _of_intervals(outside)) if text]
    if not told:
        return ""
    own = f"{speakers:,}" if unit == "speakers" else f"{speakers:,} {unit}, each taken for a speaker,"
    here = f" (this one has {own} and {seeds})" * (own != f"{people[0]}" or [seeds] != simulated)
    studies = f"In simulated studies with {_counted(people, 'and')} test speakers and {_counted(simulated, 'or')} seeds"
    return f"{studies}{here} {' '.join([told[0], *(text[0].upper() + text[1:] for text in told[1:])])}"


def _of_folds(speakers: int, folds: int) -> str:
    alone = speakers <= folds <= max(ONE_SPEAKER_A_FOLD)
    table = ONE_SPEAKER_A_FOLD if alone else BY_FOLDS
    simulated = _beside(table, folds)
    low, high = _whole([table[n] for n in simulated])
    outside = ONE_SPEAKER_OUTSIDE[folds] if alone and folds in ONE_SPEAKER_OUTSIDE else (0.0, 0.0)
    here = f" (this one has {folds})" * (simulated != [folds])
    text = (
        f"Training sets of {folds} folds overlap. In simulated studies with {_counted(simulated, 'and')} "
        f"folds{' of one speaker each' * alone}{here} the corrected test (Nadeau & Bengio) called equal models "
        f"different in {low:.1f} % where training sets hardly matter and in {high:.1f} % where they bring 0.5 points "
        f"each, {PROMISED:g} % being allowed; nothing in one study tells which it is."
    )
    interval = _of_intervals(outside)
    return f"{text} There {interval}" if interval else text


def _of_alarms(share: Range) -> str:
    if share[0] >= PROMISED - WITHIN and share[1] <= PROMISED + WITHIN:
        return ""
    effect = "below that, it misses more real differences than a test at that level would"
    if share[1] > PROMISED + WITHIN:
        effect = "a significant difference may be none more often than the level says"
    return f"the test called equal models different in {_range(share)}, {PROMISED:g} % being allowed: {effect}."


def _of_intervals(share: Range) -> str:
    if share[1] <= PROMISED + TOO_NARROW:
        return ""
    return (
        f"the interval of one model's accuracy missed the truth in {_range(share)}, not in {PROMISED:g} %: it is too "
        "narrow."
    )


def _counted(numbers: Sequence[int], last: str) -> str:
    return f" {last} ".join(map(str, numbers))


def _range(share: Range) -> str:
    return f"{share[0]:.1f} to {share[1]:.1f} %"


def _beside(known: Iterable[int], number: int) -> list[int]:
    """The simulated numbers next to one: itself, or the one below and the one above where they are."""
    numbers = sorted(known)
    below, above = [n for n in numbers if n <= number][-1:], [n for n in numbers if n >= number][:1]
    return sorted({*below, *above})


def _whole(ranges: Sequence[Range]) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)
