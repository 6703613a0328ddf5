"""Write what a step does several times as one loop in JavaScript."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from cello.compiler.repeated import Alternating


class Turns(Alternating):
    """The arrays of a loop's turns, under names that are not ``taken``."""

    remark, loop, end = "// {}", "for (let turn = 0; turn < {}; turn++) {{", "}"
    indent = "  "

    def __init__(self, taken: Container[str]) -> None:
        self.taken = taken
        self.tables = self.names("t")

    def names(self, letter: str) -> Iterator[str]:
        return (name for name in super().names(letter) if name not in self.taken)

    def declared(self, name: str, texts: Sequence[str], value: str) -> str:
        return f"const {name} = {value};"

    def in_table(self, name: str, texts: Sequence[str]) -> tuple[list[str], str]:
        table = next(self.tables)
        return [f"const {table} = [{', '.join(texts)}];"], self.declared(name, texts, f"{table}[turn]")
