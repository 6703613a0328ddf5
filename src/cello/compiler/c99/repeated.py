"""Write what a step does several times as one loop in C99."""

from __future__ import annotations

from collections.abc import Container, Sequence

from cello.compiler.repeated import Alternating


class Pointers(Alternating):
    """The pointers of a step: to floats in ``scratch`` and to others that are only read, ``int8`` ones among them."""

    remark, loop, end = "    /* {} */", "    for (int turn = 0; turn < {}; turn++) {{", "    }"
    indent = "    "

    def __init__(self, scratch: Container[str], int8: Container[str]) -> None:
        self.scratch, self.int8 = scratch, int8

    def _type(self, texts: Sequence[str]) -> str:
        if all(text in self.int8 for text in texts):
            return "const int8_t *const"
        return "float *const" if all(text in self.scratch for text in texts) else "const float *const"

    def declared(self, name: str, texts: Sequence[str], value: str) -> str:
        return f"    {self._type(texts)} {name} = {value};"

    def in_table(self, name: str, texts: Sequence[str]) -> tuple[list[str], str]:
        table = f"    {self._type(texts)} {name}_of[] = {{{', '.join(texts)}}};"
        return [table], self.declared(name, texts, f"{name}_of[turn]")
