"""Match models by width, parameters or FLOPs: choose their hidden sizes. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from cello.errors import StudyError
from cello.models.size import ModelSize
from cello.training.config import RunConfig

Match = Literal["width", "parameters", "flops"]


def closest(count: Callable[[int], int], target: int, unit: int = 1) -> int:
    """The size whose count is nearest to the target, the smaller of two that are equally near; a multiple of ``unit``.

    ``count`` must grow with the size.

    >>> closest(lambda size: size * size, 83), closest(lambda size: size * size, 83, unit=4)
    (9, 8)
    """
    high = 1
    while count(high * unit) < target:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle * unit) < target else (low, middle)
    nearer = low and target - count(low * unit) <= count(high * unit) - target
    return unit * (low if nearer else high)


def unit_of(config: RunConfig) -> int:
    """What a model's hidden size must be a multiple of: where its cell has heads, their number."""
    cell = ModelSize.of(config.model, config.features.dimensions).cell
    return 1 if cell is None else cell.multiple


def counter(match: Match, config: RunConfig, labels: int | None) -> Callable[[int], int]:
    """What is matched, as a function of the hidden size.

    Raises:
        StudyError: parameters are to be counted, and nobody knows for how many labels.
    """
    size = ModelSize.of(config.model, config.features.dimensions)
    if match == "width":
        return lambda hidden: hidden
    if match == "flops":
        return size.flops
    if labels is None:
        raise StudyError(
            'match = "parameters" counts the head too, whose size depends on how many labels the corpus has; give the '
            "number of labels, as in plan(study, corpus, labels=12)"
        )
    known = labels
    return lambda hidden: size.parameters(known, hidden)


def matched(
    rows: Mapping[str, RunConfig], reference: str, match: Match, labels: int | None, where: str
) -> dict[str, RunConfig]:
    """One column's rows with the hidden sizes that bring them nearest to the reference row at its own.

    Sizes are such as the rows' cells can have, and the reference keeps the one that it states.

    Raises:
        StudyError: a row that states a hidden size of its own; ``where`` names the study and the column.
    """
    if match == "width":
        return dict(rows)
    own = rows[reference].model.hidden
    target = counter(match, rows[reference], labels)(own)
    found = {reference: rows[reference]}
    for row, config in rows.items():
        if config.model.hidden != own:
            raise StudyError(
                f"{where}, row {row!r}: model.hidden={config.model.hidden} is stated, but match = {match!r} chooses it "
                f"(the reference {reference!r} has {own}); leave it out there, or write match = 'width'"
            )
        if row != reference:
            hidden = closest(counter(match, config, labels), target, unit_of(config))
            model = msgspec.structs.replace(config.model, hidden=hidden)
            found[row] = msgspec.structs.replace(config, model=model)
    return {row: found[row] for row in rows}
