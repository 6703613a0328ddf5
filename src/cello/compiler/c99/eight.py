"""Write vectors and steps a second time, for a program that asks its processor whether it takes eight floats at once.

Everything is renamed: what ends in ``_8`` is the same computation with ``LANES`` of 8, and gives the same bits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

DEFINED = re.compile(r"^(?:typedef \w+|LOCAL \w+|#define) (?=[a-zC])(\w+)(?= __attribute__|\()", re.MULTILINE)
"""The name that a line of the vectors' text defines."""
COMMENTS = re.compile(r"^[ ]*/\*.*?\*/\n|[ ]*/\*.*?\*/", re.MULTILINE | re.DOTALL)
PLAIN = re.compile(r"#if LANES > 1\n(.*?)#else\n.*?#endif\n", re.DOTALL)


def eight_vectors(vectors: str) -> list[str]:
    """The text of the vectors and their functions for eight floats, without comments."""
    text = re.sub(r"\n{2,}", "\n", COMMENTS.sub("", PLAIN.sub(r"\1", vectors))).strip("\n")
    title = "/* As above, for eight floats at once. */"
    return ["#if ASKED", title, *_renamed(text, vectors).replace("LOCAL ", "AVX2 LOCAL ").split("\n"), "#endif", ""]


def eight_step(lines: Sequence[str], name: str, vectors: str) -> list[str]:
    """The ``lines`` of the function ``name``, and before it the same for eight floats, which it calls if it can."""
    start = next(k for k, line in enumerate(lines) if line.startswith("static void "))
    function = COMMENTS.sub("", "\n".join(lines[start:])).replace(f"static void {name}(", f"AVX2 static void {name}_8(")
    function = _renamed(function, vectors).replace("add_product(", "add_product_avx2(")
    end = next(k for k, line in enumerate(lines) if k >= start and line.endswith("{"))
    given = re.findall(r"(\w+)[,)]", " ".join(lines[start : end + 1]))
    ask = [
        "#if ASKED",
        '    if (__builtin_cpu_supports("avx2")) {',
        f"        {name}_8({', '.join(given)});",
        "        return;",
        "    }",
        "#endif",
    ]
    return ["#if ASKED", *function.split("\n"), "#endif", *lines[: end + 1], *ask, *lines[end + 1 :]]


def _renamed(text: str, vectors: str) -> str:
    names = "|".join(sorted(set(DEFINED.findall(vectors))))
    return re.sub(r"\bLANES\b", "8", re.sub(rf"\b({names})\b", r"\1_8", text))
