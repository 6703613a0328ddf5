"""Say of which values of a step a derivative needs more digits than bfloat16 has.

A factor a that multiplies a state at every step acts over 1 / (1 - a) steps. Rounded to bfloat16 it is off by up to
1 / 512, which near 1 is more than 1 - a itself; and where it hardly changes, every step errs to the same side.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from cello.cells.graph import POINTWISE, Graph, Node, reached
from cello.compiler.kernel import Kernel, read_by_backward

BOUNDED = ("sigmoid", "tanh")
"""Functions that come near limits other than 0: how near, from which their slope follows, bfloat16 tells of the
difference, not of the result."""
SQUASHED = (*BOUNDED, "exp")
"""Those of which a factor near 1 may be, too."""
CARRYING = {"add": (0, 1), "sub": (0, 1), "mul": (0, 1), "div": (0,), "where": (2, 3)} | dict.fromkeys(
    ("minimum", "maximum"), (0, 1)
)
"""Operations whose slope towards these of their arguments may be 1 at every step."""
CARRYING |= dict.fromkeys(("neg", "abs", "relu", "tanh"), (0,))
ADDING = {"add": (0, 1), "sub": (0, 1), "neg": (0,), "minimum": (0, 1), "maximum": (0, 1), "where": (2, 3)}
"""Operations that hand on an error of their arguments as it is."""


@dataclass(frozen=True)
class Digits:
    """``squashed`` are the kept values of which how far they are from a limit is to be kept, or what exp is taken of;
    ``all`` says that derivatives need more digits than bfloat16 has of others too."""

    squashed: frozenset[int]
    all: bool


def digits(plan: Kernel) -> Digits:
    """What of a kernel's kept values and states bfloat16 would round too far."""
    saved = _Saved(plan)
    needed = {leaf for factor in factors(plan.graph) for leaf in saved.leaves(factor)}
    functions = {k: plan.graph.nodes[k].op for k in plan.kept}
    squashed = frozenset(k for k, op in functions.items() if op in BOUNDED or (op in SQUASHED and k in needed))
    return Digits(squashed, counts(plan.graph) or not needed <= squashed or saved.in_exponents() or saved.normalised())


def counts(graph: Graph) -> bool:
    """Whether a state follows from itself and what stays the same alone, as the number of a frame does, which bfloat16
    does not tell from its neighbours beyond 256."""
    for name, output in zip(graph.states, graph.outputs, strict=True):
        of = [graph.nodes[k] for k in reached(graph.nodes, [output])]
        if {node.name for node in of if node.op in ("state", "input")} == {name}:
            return True
    return False


def factors(graph: Graph) -> set[int]:
    """The values that multiply a state, unit by unit, on its way to the same state of the next step."""
    nodes, states = graph.nodes, graph.states
    carried = _carried(nodes, states)
    found = set[int]()
    reach = [_closed(n, [carried[k] for k in graph.outputs]) for n in range(len(states))]
    for number, output in enumerate(graph.outputs):
        own = {n for n in reach[number] if number in reach[n]}  # the states that lead to this one and back
        todo, seen = [output], set[int]()
        while todo:
            k = todo.pop()
            if k in seen or not carried[k] & own:
                continue
            seen.add(k)
            node = nodes[k]
            if node.op in ("mul", "div"):
                found |= {
                    other
                    for place, other in enumerate(node.args)
                    if not carried[other] & own and carried[node.args[1 - place]] & own
                }
            todo += [node.args[place] for place in CARRYING.get(node.op, ())]
    return found


def _carried(nodes: Sequence[Node], states: Sequence[str]) -> list[frozenset[int]]:
    """The old states that each value follows from by slopes that may be 1."""
    found: list[frozenset[int]] = []
    for node in nodes:
        own = [states.index(str(node.name))] if node.op == "state" else []
        found.append(frozenset(own).union(*(found[node.args[place]] for place in CARRYING.get(node.op, ()))))
    return found


def _closed(number: int, sources: Sequence[frozenset[int]]) -> set[int]:
    """The states that lead to one, in any number of steps."""
    found, todo = set[int](), [number]
    while todo:
        for n in sources[todo.pop()] - found:
            found.add(n)
            todo.append(n)
    return found


class _Saved:
    """Which of the values that forward saves others are computed of."""

    def __init__(self, plan: Kernel) -> None:
        self.plan, self.nodes = plan, plan.graph.nodes
        old = {k for k, node in enumerate(self.nodes) if node.op == "state"}
        self.states = {*plan.graph.outputs, *old}
        self.saved = {*plan.kept, *self.states}

    def leaves(self, k: int, through: Container[str] = POINTWISE.keys() - {*SQUASHED}) -> Iterator[int]:
        """Those that a value is computed of, by these operations alone."""
        todo, seen = [k], set[int]()
        while todo:
            k = todo.pop()
            if k in seen:
                continue
            seen.add(k)
            if k in self.saved:
                yield k
            elif self.nodes[k].op in through:
                todo += self.nodes[k].args

    def in_exponents(self) -> bool:
        """Whether backward takes exp of a sum of several of them, of which each may be large: an error of the sum is
        one of the result, as a share."""
        again = read_by_backward(self.plan, self.saved)
        exponents = [self.nodes[k].args[0] for k in again if self.nodes[k].op == "exp" and k not in self.saved]
        sums = [{*self.leaves(k, ADDING)} for k in exponents]
        return any(len(each) > 1 and not each.isdisjoint(self.states) for each in sums)

    def normalised(self) -> bool:
        """Whether vectors of heads are divided by their length after their mean was taken off: of few units in a head,
        what derivatives have left of both is a small difference."""
        squares = [self.nodes[v].args for v in self.head_sums.values() if self.nodes[v].op == "mul"]
        return any(a == b and self._centred(a) for a, b in squares)

    @cached_property
    def head_sums(self) -> dict[int, int]:
        """The vectors of which all units of a head are added up, by the sums."""
        found = dict[int, int]()
        for k, node in enumerate(self.nodes):
            product = self.nodes[node.args[0]] if node.op == "row_sum" else None
            if product is not None and product.op == "mul" and not self.plan.ones.isdisjoint(product.args):
                columns = [a for a in product.args if self.nodes[a].op == "columns"]
                found.update((k, self.nodes[a].args[0]) for a in columns)
        return found

    def _centred(self, k: int) -> bool:
        """Whether a sum over the units of its head is taken off a vector."""
        off = self.nodes[k].args[1] if self.nodes[k].op == "sub" else None
        todo = [] if off is None else [off]
        while todo:
            k = todo.pop()
            if k in self.head_sums:
                return True
            todo += self.nodes[k].args if self.nodes[k].op in ("mul", "div") else ()
        return False
