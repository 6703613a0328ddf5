"""Write vectors, products and steps again, for a program that asks its processor how many floats it takes at once.

Everything is renamed: what ends in ``_16`` or ``_8`` is the same computation with ``LANES`` of so many, and gives the
same bits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

WIDER = {16: "avx512f", 8: "avx2"}
"""Floats at once, and what a processor that takes them has; the widest first."""
DEFINED = re.compile(r"^(?:typedef \w+|LOCAL \w+|#define) (?=[a-zC])(\w+)(?= __attribute__|\()", re.MULTILINE)
"""The name that a line of the vectors' text defines."""
COMMENTS = re.compile(r"^[ ]*/\*.*?\*/\n|[ ]*/\*.*?\*/", re.MULTILINE | re.DOTALL)
PLAIN = re.compile(r"#if LANES > 1\n(.*?)#else\n.*?#endif\n", re.DOTALL)
FUNCTION = re.compile(r"^(?:static|LOCAL) void (\w+)\(")


class Wider:
    """The same text for more floats at once, as many as stand in a block of rows; ``vectors`` is that of a few."""

    def __init__(self, vectors: str, rows: int) -> None:
        self.lanes = tuple(lanes for lanes in WIDER if lanes <= rows)
        self._names = [*sorted(set(DEFINED.findall(vectors))), "add_product"]
        self._vectors = re.sub(r"\n{2,}", "\n", COMMENTS.sub("", PLAIN.sub(r"\1", vectors))).strip("\n")

    def vectors(self) -> list[str]:
        """The text of the vectors and their functions, without comments."""
        lines = []
        for lanes in self.lanes:
            text = self._renamed(self._vectors, lanes).replace("LOCAL ", f"{WIDER[lanes].upper()} LOCAL ")
            lines += [
                f"#if ASKED >= {lanes}",
                f"/* As above, for {lanes} floats at once. */",
                *text.split("\n"),
                "#endif",
                "",
            ]
        return lines

    def function(self, lines: Sequence[str]) -> list[str]:
        """The ``lines`` of a function, and before it its wider forms, which it calls if it can."""
        start, name = next((k, found[1]) for k, line in enumerate(lines) if (found := FUNCTION.match(line)))
        end = next(k for k, line in enumerate(lines) if k >= start and line.endswith("{"))
        given = ", ".join(re.findall(r"(\w+)[,)]", " ".join(lines[start : end + 1])))
        body = re.sub(rf"\b{name}\(", f"{name}_LANES(", COMMENTS.sub("", "\n".join(lines[start:])), count=1)
        wider, asked = list[str](), list[str]()
        for lanes in self.lanes:
            text = self._renamed(body, lanes).replace("_LANES(", f"_{lanes}(", 1)
            wider += [f"#if ASKED >= {lanes}", *f"{WIDER[lanes].upper()} {text}".split("\n"), "#endif"]
            asked += [
                f"#if ASKED >= {lanes}",
                f'    if (__builtin_cpu_supports("{WIDER[lanes]}")) {{',
                f"        {name}_{lanes}({given});",
                "        return;",
                "    }",
                "#endif",
            ]
        return [*wider, *lines[: end + 1], *asked, *lines[end + 1 :]]

    def _renamed(self, text: str, lanes: int) -> str:
        named = re.sub(rf"\b({'|'.join(self._names)})\b", rf"\1_{lanes}", text)
        return re.sub(r"\bLANES\b", str(lanes), named)
