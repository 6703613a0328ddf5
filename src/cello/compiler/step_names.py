"""Name the nodes of a step in generated kernels: identifiers, states, and equations as comments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from cello.cells.graph import Node
from cello.compiler.expression import ATOM, Row, equations, function, value_names
from cello.compiler.identifiers import comment, identifiers, state_parts
from cello.compiler.kernel import Kernel
from cello.compiler.stages import Sum
from cello.compiler.text import STYLE

RESHAPING_ROWS = {
    "broadcast": Row("{}", ATOM, (ATOM,)),
    "total": function("sum({})"),
    "largest": function("max({})"),
    "rows": function("rows({})"),
    "columns": function("columns({})"),
    "row_sum": function("row_sum({})"),
    "column_sum": function("column_sum({})"),
    "matrix": function("matrix({})"),
    "flatten": function("flatten({})"),
}
COMMENTS = replace(STYLE, rows={**RESHAPING_ROWS, **STYLE.rows})
"""How equations are written in comments of kernels."""


@dataclass(frozen=True)
class StepNames:
    """A kernel and the identifiers of its nodes; a target says which letters it reserves and how a comment begins."""

    plan: Kernel
    reserved: ClassVar[frozenset[str]]
    marker: ClassVar[str]

    @cached_property
    def of(self) -> dict[int, str]:
        return identifiers(self.plan.graph, {each.node for each in self.plan.sums}, self.reserved)

    @cached_property
    def states(self) -> tuple[str, ...]:
        """The states' names as parts of identifiers."""
        return state_parts(self.plan.graph.states)

    @cached_property
    def old(self) -> dict[int, int]:
        """The nodes of old states, with the states' numbers."""
        return {k: n for n in range(len(self.plan.graph.states)) if (k := self.plan.old(n)) is not None}

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.plan.graph.nodes

    @cached_property
    def equations(self) -> dict[int, str]:
        """The equations of named values and of new states, as comments by their nodes."""
        graph = self.plan.graph
        left = {name: k for k, name in value_names(graph).items()}
        left |= {f"{s}[t]": k for s, k in zip(graph.states, graph.outputs, strict=True)}
        return {
            left[name]: f"{self.marker} {comment(f'{name} = {right}')}" for name, right in equations(graph, COMMENTS)
        }

    def comment(self, each: Sum) -> str:
        """A sum as a comment."""
        terms = [f"{self.nodes[m].name or self.of[m]} @ {self.nodes[v].name or self.of[v]}" for m, v in each.products]
        terms += [str(self.nodes[k].name or self.of[k]) for k in each.invariant if self.nodes[k].op != "constant"]
        terms += [f"{self.nodes[k].value:g}" for k in each.invariant if self.nodes[k].op == "constant"]
        return f"{self.marker} {comment(f'{self.of[each.node]} = ' + ' + '.join(terms))}"


def indented(lines: Sequence[str]) -> list[str]:
    """One level deeper."""
    return [f"    {line}" for line in lines]
