"""Turn a cell's names and texts into JavaScript identifiers, strings and comments that cannot clash or break out.

A name of plain letters, digits and underscores is kept unless JavaScript or the step's own text means something else by
it; any other is spelled in such letters and followed by its node's number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from cello.cells.graph import Graph
from cello.compiler.expression import value_names

LONGEST_NAME, LONGEST_COMMENT = 40, 1000
_PLAIN = re.compile(r"[A-Za-z]\w*", re.ASCII)
_LANGUAGE = """
arguments async await break case catch class const continue debugger default delete do else enum eval export extends
false finally for function get if implements import in instanceof interface let new null of package private protected
public return set static super switch this throw true try typeof undefined var void while with yield"""
_STEP = """
Array Float32Array Infinity Math NaN Object D H dot errorFunction j modulo roundEven sigmoid signOf softplus states step
turn weights"""
RESERVED = frozenset((*_LANGUAGE.split(), *_STEP.split()))
"""What a name cannot be: the language's words, and those that the step is written with."""


SIZED = frozenset(["at", "col", "columnSum", "greatest", "row", "rowSum", "size", "total"])
"""What else the step of a cell with values of several sizes is written with."""


def identifiers(graph: Graph, reserved: frozenset[str] = RESERVED) -> dict[int, str]:
    """An identifier of its own for each node; that of a new state c is ``c_next``.

    >>> from cello.cells.load import load_cell
    >>> sorted(set(identifiers(load_cell("rnn").graph).values()))[:5]
    ['U', 'W', 'b', 'h', 'h_next']
    """
    named, found = value_names(graph), dict[int, str]()
    new = {k: state for state, k in zip(graph.states, graph.outputs, strict=True) if graph.nodes[k].args}
    taken = set[str]()
    for k, node in enumerate(graph.nodes):
        wanted = f"{new[k]}_next" if k in new else named.get(k) or node.name or "v"
        plain = wanted.replace(".", "_")
        kept = _PLAIN.fullmatch(plain) and len(plain) <= LONGEST_NAME and plain not in reserved | taken
        found[k] = plain if kept else fresh(plain, k, taken)
        taken.add(found[k])
    return found


def fresh(name: str, number: int, taken: Iterable[str] = ()) -> str:
    """An identifier of ASCII letters with this number after it, and underscores until nobody else has it."""
    letters = re.sub(r"\W", "", name, flags=re.ASCII).strip("_")[:LONGEST_NAME]
    found = f"{letters if letters[:1].isalpha() else 'v' + letters}_{number}"
    while found in taken:
        found += "_"
    return found


def string(text: str) -> str:
    r"""A string literal that stands in a script of a page as well.

    >>> print(string('</script> "'))
    "\u003c/script> \""
    """
    return json.dumps(text).replace("<", "\\u003c")


def comment(text: str) -> str:
    """A line comment of one line that ends no script of a page.

    >>> comment("a </script> b" + chr(10) + "c")
    '// a < /script> b c'
    """
    printed = "".join(char if char.isprintable() else " " for char in text[:LONGEST_COMMENT])
    return f"// {re.sub(r'<(?=[!/a-zA-Z])', '< ', printed)}"
