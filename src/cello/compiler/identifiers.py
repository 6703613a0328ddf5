"""Turn a user's names and text into C identifiers that cannot clash, and safe comments.

A name of the equations is kept as it is if it is one letter, with members of one letter (``f``, ``W_i``): no header
makes such a name a macro, and the generated code's own are few. Any other name is followed by its node's number
(``gate_12``), so that it is no keyword, no macro (``NAN``, ``linux``), no function and no name that the generated code
makes up from another.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Sequence

from cello.cells.graph import Graph
from cello.compiler.expression import value_names

PLAIN = re.compile(r"(?!d_)[A-Za-z](_[a-z]){0,2}")
"""Names that are kept; d_f is the derivative of f."""
LONGEST_NAME, LONGEST_COMMENT = 40, 1000


def identifiers(graph: Graph, sums: Container[int], reserved: Container[str]) -> dict[int, str]:
    """A C identifier of its own for each node of the step: an equation's name, a named value's sum, or a number.

    ``sums`` are the nodes of sums of products, ``reserved`` the single letters that mean something else there.
    """
    known, found = value_names(graph), dict[int, str]()
    new = {k: s for s, k in zip(graph.states, graph.outputs, strict=True)}
    readers: dict[int, list[int]] = {}
    for k, node in enumerate(graph.nodes):
        for arg in node.args:
            readers.setdefault(arg, []).append(k)

    def named(k: int) -> tuple[str, str]:
        """The name in the equations and what follows it in C."""
        return (new[k], "_next") if k in new else (known.get(k) or graph.nodes[k].name or "", "")

    taken = set[str]()
    for k in range(len(graph.nodes)):
        name, suffix = named(k)
        if not name and k in sums and len(readers.get(k, [])) == 1:
            name, suffix = named(readers[k][0])
            suffix += "_sum"
        wanted = _plain(name, suffix, reserved)
        found[k] = wanted if wanted and wanted not in taken else _numbered(name, suffix, k)
        taken.add(found[k])
    return found


def state_parts(states: Sequence[str]) -> tuple[str, ...]:
    """The states' names as parts of identifiers: the c of ``old_c``, ``new_c``."""
    return tuple(name if PLAIN.fullmatch(name) else f"{_letters(name)}_s{n}" for n, name in enumerate(states))


def _plain(name: str, suffix: str, reserved: Container[str]) -> str:
    """The name as it is, if it can be kept."""
    kept = name.replace(".", "_")
    if not PLAIN.fullmatch(kept):
        return ""
    return f"{kept}_own" if kept in reserved and not suffix else f"{kept}{suffix}"


def _numbered(name: str, suffix: str, k: int) -> str:
    return f"{_letters(name)}{suffix}_{k}" if name else f"_{k}"


def _letters(name: str) -> str:
    """A name in ASCII letters, digits and underscores; not of its own, and perhaps cut."""
    found = []
    for char in unicodedata.normalize("NFKD", name):
        called = unicodedata.name(char, "")
        if char.isascii():
            found.append(char)
        elif called.startswith("GREEK"):
            found.append(called.rsplit(" ", 1)[-1].lower())
        elif not unicodedata.combining(char):
            found.append(f"u{ord(char):x}")
    text = re.sub(r"\W", "_", "".join(found), flags=re.ASCII).strip("_")[:LONGEST_NAME]
    return f"v{text}" if not text or text[0].isdigit() else text


def comment(text: str) -> str:
    """Text that can stand in a comment of either kind.

    >>> comment("U */ W; a line that goes on?" + chr(92))
    'U * / W; a line that goes on?'
    """
    printed = "".join(char if char.isprintable() else " " for char in text[:LONGEST_COMMENT])
    apart = printed.replace("*/", "* /").replace("/*", "/ *")
    return re.sub(r"\?(?=\?)", "? ", apart).rstrip("\\ ")
