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

    def names(self) -> Iterator[str]:
        return (name for name in super().names() if name not in self.taken and f"{name}_of" not in self.taken)

    def declared(self, name: str, texts: Sequence[str], value: str) -> str:
        return f"const {name} = {value};"

    def in_table(self, name: str, texts: Sequence[str]) -> tuple[list[str], str]:
        return [f"const {name}_of = [{', '.join(texts)}];"], self.declared(name, texts, f"{name}_of[turn]")
