"""Write what a step does several times as one loop in C99."""

from __future__ import annotations

from collections.abc import Container, Sequence

from cello.cells.arrays import Real
from cello.compiler.repeated import Alternating


class Pointers(Alternating):
    """The pointers of a step: to ``scratch``, to ``weights`` (floats, some ``int8``) and to what it is given."""

    remark, loop, end = "    /* {} */", "    for (int turn = 0; turn < {}; turn++) {{", "    }"
    indent = "    "

    def __init__(
        self, scratch: Container[str], weights: Container[str], int8: Container[str], real: Real = "float"
    ) -> None:
        self.scratch, self.weights, self.int8, self.real = scratch, weights, int8, real
        self.tables = self.names("t")

    def _type(self, texts: Sequence[str]) -> str:
        if all(text in self.int8 for text in texts):
            return "const int8_t *const"
        if all(text in self.weights for text in texts):
            return "const float *const"
        return f"{'' if all(text in self.scratch for text in texts) else 'const '}{self.real} *const"

    def declared(self, name: str, texts: Sequence[str], value: str) -> str:
        return f"    {self._type(texts)} {name} = {value};"

    def in_table(self, name: str, texts: Sequence[str]) -> tuple[list[str], str]:
        table, static = next(self.tables), "static " if all(text in self.weights for text in texts) else ""
        line = f"    {static}{self._type(texts)} {table}[] = {{{', '.join(texts)}}};"
        return [line], self.declared(name, texts, f"{table}[turn]")
