"""Say what a cell's frames hold of the features: those as they are, or named parts, and whether a model fits them."""

from __future__ import annotations

from functools import lru_cache

from cello.cells.definition import Cell
from cello.cells.fit import check_units
from cello.cells.sizes import size
from cello.errors import ModelError
from cello.models.config import ModelConfig

VALUE, MASK, GAP = "value", "mask", "gap"
"""Parts that frames of sound have: the features, 1 where they were seen and 0 where they were lost, and how many frames
before this one the last one was seen."""


def part_sizes(cell: Cell | None, features: int) -> tuple[tuple[str, int], ...]:
    """The parts of a cell's frames in order, each with its elements; none of a cell that takes features as they are.

    Raises:
        ModelError: a part that frames of sound do not have, or sizes that no number of features makes up.
    """
    return () if cell is None or not cell.parts else _part_sizes(cell, features)


@lru_cache(maxsize=256)
def _part_sizes(cell: Cell, features: int) -> tuple[tuple[str, int], ...]:
    names = [name for name, _ in cell.parts]
    legal = {VALUE: (features,), MASK: (features, 1), GAP: (features, 1)}
    if VALUE not in names or set(names) - set(legal):
        raise ModelError(
            f"cell {cell.name!r} takes frames of {', '.join(names)}, but frames of sound have value, mask and gap "
            f"(value always). Name its parts so, or run it with cello.Layer on frames of your own"
        )
    for inputs in range(features, len(names) * features + len(names)):
        found = tuple((name, size(text, inputs, 1)) for name, text in cell.parts)
        if sum(elements for _, elements in found) == inputs and all(n in legal[name] for name, n in found):
            return found
    texts = ", ".join(f"{name} ({text})" for name, text in cell.parts)
    raise ModelError(
        f"cell {cell.name!r} takes frames of {texts}, which {features} features do not make up. Give value as many "
        f"elements as there are features, and mask and gap as many or 1"
    )


def frame_size(cell: Cell | None, features: int) -> int:
    """D, the elements of a cell's frames of so many features.

    Raises:
        ModelError: as ``part_sizes``.
    """
    parts = part_sizes(cell, features)
    return sum(elements for _, elements in parts) if parts else features


def check_fit(config: ModelConfig, cell: Cell | None, features: int) -> None:
    """Refuse a model whose sizes its cell cannot have.

    Raises:
        ModelError: units that the cell does not divide, or layers, directions or stacked frames whose frames have not
            the parts that it takes.
    """
    if cell is None:
        return
    check_units(cell, config.hidden, "model.hidden")
    if not part_sizes(cell, features):
        return
    needed = f"but cell {config.cell!r} takes frames of {', '.join(name for name, _ in cell.parts)}"
    if config.layers > 1:
        raise ModelError(f"model.layers={config.layers}: a second layer reads outputs, {needed}; use model.layers=1")
    if config.frame_stacking > 1:
        raise ModelError(
            f"model.frame_stacking={config.frame_stacking} makes frames of several parts in turn, {needed}; use "
            "model.frame_stacking=1"
        )
    if config.bidirectional:
        raise ModelError(
            f"model.bidirectional=true: values are held and gaps counted forwards alone, {needed}; use "
            "model.bidirectional=false"
        )
