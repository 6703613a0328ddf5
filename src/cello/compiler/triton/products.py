"""Write how a vector comes to its products: gathered from the programs that share it, multiplied in slices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cello.compiler.step_names import indented
from cello.compiler.triton.names import Names
from cello.compiler.triton.spaces import Key, Space


@dataclass(frozen=True)
class Gathered:
    """How every program of some clips comes to all elements of vectors: lines after which each has left its part to the
    others, and for each vector the line that takes it, best right before its products, so that registers hold one."""

    left: list[str]
    taken: dict[str, str]

    @property
    def lines(self) -> list[str]:
        return [*self.left, *self.taken.values()]


def all_gather(names: Names, vectors: Mapping[str, tuple[str, int, Space]], slots: Sequence[int]) -> Gathered:
    """Gather vectors, each a value, its tiles and their space, in slots of the memory that programs share."""
    left, taken = list[str](), dict[str, str]()
    for slot, (name, (value, count, here)) in zip(slots, vectors.items(), strict=True):
        if here.common:
            taken[name] = f"{name} = {value if here.once else f'masked({value}, {count}, {here.elements})'}"
            continue
        place = f"others + {slot} * ROWS * WIDEST"
        sizes = f"{count}, {here.elements}, {here.units}, {here.own}"
        left.append(f"store_part({place}, {value}, {here.part}, {sizes}, ROWS, meeting)")
        taken[name] = f"{name} = whole({place}, {value}, {count}, {here.elements}, {here.units}, ROWS, SPLIT, meeting)"
    if not left:
        return Gathered(left, taken)
    apart = ["meeting += 1", *left, "meet()"]
    others = f"others = workspace + (group * 2 + meeting % 2) * {names.slots} * ROWS * WIDEST"
    return Gathered([others, "if SPLIT > 1:", *indented(apart)], taken)


def exact_products(into: Sequence[str], totals: Iterable[str], whole: str, slices: Iterable[str]) -> str:
    """The line that adds to totals the products of one vector with several matrices, slice by slice."""
    found = f"exact_products(({', '.join(totals)},), {whole}, ({', '.join(slices)},))"
    return f"{', '.join(into)} = {found}{'' if len(into) > 1 else '[0]'}"


def different(groups: Sequence[tuple[Sequence[str], Key]]) -> list[tuple[Sequence[str], Key]]:
    """As many of these as have no variable of an earlier one."""
    found, known = list[tuple[Sequence[str], Key]](), set[str]()
    for variables, what in groups:
        if known & {*variables}:
            break
        known |= {*variables}
        found.append((variables, what))
    return found
