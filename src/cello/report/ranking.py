"""Rank the models of each column and compare their pairs, in tables and sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cello.report.comparisons import ColumnComparisons
from cello.report.metrics import BY_KEY
from cello.report.results import StudyResults
from cello.report.speakers import random_effect, validity
from cello.report.surprise import Surprise
from cello.report.tables import ABSENT, FEW, Heading, Table, best_cell, by_column
from cello.report.visible import elided, names
from cello.statistics.comparisons import Comparison, in_points
from cello.statistics.means import CONFIDENCE, FEW_SEEDS
from cello.statistics.random_effects import Estimate
from cello.statistics.ranks import Ranking, friedman

LEAST_COLUMNS = 3
NAME = 24  # letters of a model in the matrix's head
MOST_PAIRS = 21  # seven models, each with each
MOST_IN_MATRIX, MOST_SENTENCES, MOST_FOLDED = 12, 12, 300
TOLD = "*"


def compared(results: StudyResults) -> tuple[ColumnComparisons, ...]:
    """The columns in which models could be compared."""
    return tuple(found for found in results.comparisons if found.comparisons)


def explanation(results: StudyResults) -> list[str]:
    """How to read the ranking, how far to trust it, and what could not be compared."""
    found = compared(results)
    texts = []
    if found:
        texts.append(
            f"Models in the order of their accuracy on the test clips. {validity(results)} Models that share a "
            "letter do not differ significantly (compact letter display): every pair is compared on the same clips, at "
            f"the {_level()} level, corrected for the number of pairs (Holm). This order "
            "chooses no model; the best one is named in the summary, by validation accuracy."
        )
    if any(model.indicative for column in found for model in column.standings):
        texts.append(
            f"Indicative only: fewer than {FEW_SEEDS} seeds stand behind the models marked {FEW}. A difference must be "
            "large to be seen with so few, and the intervals are themselves uncertain."
        )
    return texts + notes(results)


def _level() -> str:
    return f"{100 * (1 - CONFIDENCE):g} %"


def notes(results: StudyResults) -> list[str]:
    """What could not be compared and why; a reason that all columns share stands once."""
    said: dict[str, list[str]] = {}
    for column in results.comparisons:
        if column.note:
            said.setdefault(column.note, []).append(column.column)
    everywhere = len(results.comparisons)
    return [text if len(where) == everywhere else f"{', '.join(where)}: {text}" for text, where in said.items()]


def table(results: StudyResults) -> Table | None:
    """Each column's models, best test accuracy first, with intervals and letters; None where nothing was compared."""
    found = compared(results)
    if not found:
        return None
    rows = [
        (
            column.column,
            model.row,
            f"{100 * model.accuracy.value:.2f}",
            interval_text(model.accuracy),
            model.letters,
            f"{model.seeds} {FEW}" if model.indicative else f"{model.seeds}",
        )
        for column in found
        for model in column.standings
    ]
    few = all(model.indicative for column in found for model in column.standings)
    return by_column(
        results,
        key="ranking",
        title="Ranking by test accuracy" + (" (indicative only)" if few else ""),
        note="Models of one "
        + ("column" if results.columns != ("",) else "study")
        + " that share a letter do not differ significantly; "
        f"intervals treat seeds and {random_effect(results)} as random effects. "
        f"{FEW} marks fewer than {FEW_SEEDS} seeds: indicative only.",
        headings=[*map(Heading, ("Model", "test accuracy, %", "95 % interval", "letters", "seeds"))],
        rows=rows,
    )


def differences(results: StudyResults) -> Table | None:
    """The pairs that ``shown`` picks, with their figures; None where nothing was compared."""
    found = compared(results)
    if not found:
        return None
    rows = [
        (
            column.column,
            f"{pair.first} − {pair.second}",
            in_points(pair.difference.value),
            interval_text(pair.difference, -1.0),
            p_text(pair.p_holm),
            f"{pair.superiority:.2f}",
            "> 1,000" if pair.seeds_needed is None else f"{pair.seeds_needed:,}",
        )
        for column in found
        for pair in shown(column.comparisons)
    ]
    return by_column(
        results,
        key="differences",
        title="Differences in test accuracy",
        note=f"Points with their 95 % interval over seeds and {random_effect(results).rstrip(',')}; "
        "p is corrected for the number of pairs (Holm); "
        "P(better) is the probability that a run of the first beats one of the second; seeds needed: with which a true "
        "difference of this size would be seen in 80 % of studies.",
        headings=[*map(Heading, ("Pair", "points", "95 % interval", "p", "P(better)", "seeds needed"))],
        rows=rows,
    )


def matrix(results: StudyResults) -> Table | None:
    """Every difference in one table: a row's model minus a column's, in points; None where nothing was compared."""
    found = compared(results)
    if not found:
        return None
    models = [row for row in results.rows if any(row == one.row for column in found for one in column.standings)]
    drawn = models[:MOST_IN_MATRIX]
    called = names(drawn, lambda name: elided(name, NAME))
    rows: list[tuple[str, ...]] = []
    strong = set()
    for column in found:
        pairs = {(pair.first, pair.second): pair for pair in column.comparisons}
        for row in (row for row in drawn if any(row == one.row for one in column.standings)):
            cells = [_difference(pairs, row, other) for other in drawn]
            named = results.columns != ("",)
            strong |= {(len(rows), k + 1 + named) for k, text in enumerate(cells) if text.endswith(TOLD)}
            rows.append((column.column, row, *cells))
    left = f" The first {len(drawn)} of {len(models):,} models stand here." if len(drawn) < len(models) else ""
    table = by_column(
        results,
        key="matrix",
        title="Which model is better than which",
        note=f"Points of test accuracy, a row’s model minus a column’s; + where the row’s is better. {TOLD} marks the "
        f"differences that are significant at the {_level()} level (random effects: seeds and "
        f"{random_effect(results).rstrip(',')}; corrected for the number of pairs). Each pair’s interval "
        f"and its verdict in a sentence stand in report.json.{left}",
        headings=[Heading("Model"), *(Heading(called[row], "minus") for row in drawn)],
        rows=rows,
    )
    return table._replace(strong=frozenset(strong))


def _difference(pairs: Mapping[tuple[str, str], Comparison], row: str, other: str) -> str:
    pair, sign = pairs.get((row, other)), 1
    if pair is None:
        pair, sign = pairs.get((other, row)), -1
    if pair is None:
        return "" if row == other else ABSENT
    return in_points(sign * pair.difference.value, signed=True) + (f" {TOLD}" if pair.differs else "")


def verdicts(results: StudyResults) -> list[str]:
    """How many pairs differ significantly, the verdict of each, and what surprises; of many pairs those that matter."""
    texts = []
    for column in compared(results):
        prefix = _prefix(results, column)
        texts.append(prefix + counted(column.comparisons))
        texts += [prefix + pair.verdict for pair in _told(results, column)]
        if column.surprise is not None:
            texts.append(prefix + surprise_text(column.surprise, results))
    return texts


def other_verdicts(results: StudyResults) -> list[str]:
    """The verdicts of all other pairs, up to as many as a page can hold."""
    texts = []
    for column in compared(results):
        said = _told(results, column)
        texts += [_prefix(results, column) + pair.verdict for pair in column.comparisons if pair not in said]
    return texts[:MOST_FOLDED]


def _told(results: StudyResults, column: ColumnComparisons) -> list[Comparison]:
    """The pairs whose verdicts stand open: those that matter, then, unless there are too many, all others."""
    first = _that_matter(results, column)
    if len(column.comparisons) > MOST_PAIRS:
        return first[:MOST_SENTENCES]
    return [*first, *(pair for pair in column.comparisons if pair not in first)]


def _prefix(results: StudyResults, column: ColumnComparisons) -> str:
    return f"{column.column}: " if len(results.columns) > 1 else ""


def _that_matter(results: StudyResults, column: ColumnComparisons) -> list[Comparison]:
    """The pairs of the model that validation chose, and those nothing can be said of.

    The latter differ in every run and for every speaker alike. Where that model was not compared, the first stands for
    it.
    """
    row, _ = best_cell(results)
    if not any(row in (pair.first, pair.second) for pair in column.comparisons):
        row = column.comparisons[0].first
    return [
        pair
        for pair in column.comparisons
        if row in (pair.first, pair.second) or (pair.difference.error == 0 and pair.difference.value)
    ]


def surprise_text(found: Surprise, results: StudyResults) -> str:
    """Why a larger difference is not significant and a smaller one is."""
    larger, smaller = (" over ".join(pair) for pair in (found.larger, found.smaller))
    sizes = [f"{100 * value:.2f}" for value in found.differences]
    errors = " against ".join(f"{100 * error:.2f}" for error in found.errors)
    others = "speakers" if random_effect(results) == "speakers" else "clips"
    why = {
        "seeds": f"the larger one varies more between seeds (standard error {errors} points), most with "
        f"{found.varying}; more seeds would help",
        "speakers": f"the larger one varies more between {others} (standard error {errors} points); more {others} in "
        "the test would help",
        "few": f"the standard error of the larger one ({errors} points) rests on fewer seeds or {others} and is itself "
        "uncertain; more of them would help",
        "constant": f"the larger one is the same in every run and for all {others}, so that its "
        "variability cannot be estimated",
    }[found.reason]
    return (
        f"The larger difference of {larger} ({sizes[0]} points) is not significant, the smaller one of {smaller} "
        f"({sizes[1]} points) is: {why}."
    )


def counted(pairs: Sequence[Comparison]) -> str:
    """How many pairs differ significantly.

    >>> counted([])
    'Of 0 pairs, 0 differ significantly.'
    """
    significant = sum(pair.differs for pair in pairs)
    verb = "differs" if significant == 1 else "differ"
    return f"Of {len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'}, {significant} {verb} significantly."


def shown(pairs: Sequence[Comparison]) -> list[Comparison]:
    """All pairs, or, of more than can be read, the first model's with each other model."""
    return [pair for pair in pairs if len(pairs) <= MOST_PAIRS or pair.first == pairs[0].first]


def order(results: StudyResults) -> Ranking | None:
    """Friedman's ranks of the models that are finished in every column; None below three columns or two models."""
    finished = {column for _, column in results.cells()}
    columns = [column for column in results.columns if column in finished]
    scores = {row: [results.cell(row, column) for column in columns] for row in results.rows}
    test = BY_KEY["test_accuracy"]
    means = {row: [test.over(runs).mean for runs in cells] for row, cells in scores.items() if all(cells)}
    finite = {row: values for row, values in means.items() if all(map(math.isfinite, values))}
    return friedman(finite) if len(columns) >= LEAST_COLUMNS and len(finite) > 1 else None


def order_sentences(results: StudyResults) -> list[str]:
    """Whether the models keep their order over the columns, and how sure that is; empty where ``order`` is None."""
    found = order(results)
    if found is None:
        return []
    columns = f"{found.blocks} {results.column_title.lower()}s"
    verdict = (
        f"The models keep a significant order over the {columns}"
        if found.p < 1 - CONFIDENCE
        else f"The models keep no significant order over the {columns}"
    )
    p = p_text(found.p) if found.p < 0.001 else f"= {p_text(found.p)}"
    out = [row for row in results.rows if row not in found.ranks]
    left = f" Left out, for they are not finished in all columns: {', '.join(out)}." if out else ""
    return [
        f"{verdict} (Friedman’s test, p {p}). Ranks are of mean test accuracy, 1 the best; two models differ over the "
        f"columns if their mean ranks are at least {found.critical_difference:.2f} apart (Nemenyi). The columns share "
        f"their test clips, so this is about this corpus.{left}"
    ]


def interval_text(found: Estimate, least: float = 0.0) -> str:
    """An interval in per cent or points, as far as an accuracy, or the difference of two, can be.

    >>> interval_text(Estimate(0.01, -0.005, 0.025, 0.007, 20.0), -1.0)
    '−0.50 to 2.50'
    >>> interval_text(Estimate(0.98, 0.93, 1.03, 0.02, 4.0))
    '93.00 to 100.00'
    """
    low, high = (in_points(min(max(value, least), 1.0)) for value in (found.low, found.high))
    return f"{low} to {high}"


def p_text(p: float) -> str:
    """A p-value with what digits it deserves.

    >>> p_text(0.0312), p_text(0.00001), p_text(1.0)
    ('0.031', '< 0.001', '1.000')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
