"""Find which settings runs share, and which models or columns differ in the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from cello.report.results import StudyResults
from cello.training.config import RunConfig

LISTED = 4


class Kind(NamedTuple):
    """Runs that differ in their seed alone."""

    row: str
    column: str
    config: RunConfig


class ValueGroup(NamedTuple):
    """A value as text, and the models or columns that have it; no names where neither decides, or all have it."""

    text: str
    names: tuple[str, ...] = ()
    decides: str = ""


class StudySettings(NamedTuple):
    """Every kind of run that is finished, in the plan's order; ``column`` is what sentences call a column."""

    kinds: tuple[Kind, ...]
    column: str

    @property
    def rows(self) -> tuple[str, ...]:
        """The models that have a finished run."""
        return tuple(dict.fromkeys(kind.row for kind in self.kinds))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that have a finished run."""
        return tuple(dict.fromkeys(kind.column for kind in self.kinds))

    def values(self, value: Callable[[RunConfig], object]) -> list[object]:
        """Every value once."""
        return list(dict.fromkeys(value(kind.config) for kind in self.kinds))

    def groups(self, value: Callable[[RunConfig], object]) -> tuple[ValueGroup, ...]:
        """The values, each with the rows that have it, or with the columns where rows do not decide."""
        found = [(kind.row, kind.column, text_of(value(kind.config))) for kind in self.kinds]
        texts = tuple(dict.fromkeys(text for *_, text in found))
        if len(texts) == 1:
            return (ValueGroup(texts[0]),)
        for part, decides in enumerate(("model", self.column)):
            pairs = dict.fromkeys((place[part], place[2]) for place in found)
            if len(pairs) == len({name for name, _ in pairs}):
                return tuple(
                    ValueGroup(text, tuple(name for name, has in pairs if has == text), decides) for text in texts
                )
        return tuple(ValueGroup(text, (), f"model and {self.column}") for text in texts)

    def told(self, value: Callable[[RunConfig], object]) -> str:
        """What a setting is or, where it differs, what it takes and where; of many numbers, from where to where."""
        groups = self.groups(value)
        if len(groups) == 1:
            return groups[0].text
        if all(len(group.names) == 1 and group.names[0].startswith(group.text) for group in groups):
            return listed([group.text for group in groups], "or")
        if len(groups) > LISTED or not groups[0].names:
            return f"{span(self.values(value))} (by {groups[0].decides})"
        most = max(groups, key=lambda group: len(group.names))
        return listed([f"{group.text} ({names_of(group, group is most)})" for group in groups], "or")


def settings(results: StudyResults) -> StudySettings:
    """The kinds of runs of a study."""
    kinds: dict[tuple[object, ...], Kind] = {}
    for run in results.runs:
        config = run.result.config
        same = (run.row, run.column, config.features, config.augment, config.model, config.optimiser, config.data)
        if same not in kinds:
            kinds[same] = Kind(run.row, run.column, msgspec.structs.replace(config, seed=0))
    rows, columns = ({name: k for k, name in enumerate(names)} for names in (results.rows, results.columns))
    column = "window" if results.column_title == "Window" else "condition"
    return StudySettings(tuple(sorted(kinds.values(), key=lambda kind: (columns[kind.column], rows[kind.row]))), column)


def names_of(group: ValueGroup, most: bool = False) -> str:
    """Who has a value; the largest group, where it is too large to be listed, is what the others leave."""
    if most and len(group.names) > LISTED:
        return f"the other {len(group.names)}"
    return ("; " if any("," in name for name in group.names) else ", ").join(group.names)


def text_of(value: object) -> str:
    """A value as sentences have it.

    >>> text_of(0.0005), text_of(None), text_of(64)
    ('0.0005', 'none', '64')
    """
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else f"{value}"


def span(values: Sequence[object]) -> str:
    """Values as a list, or from the least to the greatest where they are many numbers.

    >>> span([0.004, 0.0015]), span(range(9)), span(["a", "b", "c"])
    ('0.004 or 0.0015', '0 to 8', 'a, b or c')
    """
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(values) > LISTED and len(numbers) == len(values):
        return f"{text_of(min(numbers))} to {text_of(max(numbers))}"
    return listed(map(text_of, values), "or")


def listed(texts: Iterable[str], last: str = "and") -> str:
    """A list in words.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"], "or")
    ('a', 'a and b', 'a, b or c')
    """
    *first, end = texts
    return f"{', '.join(first)} {last} {end}" if first else end
