"""Write a step as instructions on whole tensors, as few of them as can be.

Matrix products of the same vector become one product, added to the running sums they belong to and then split; sums
that go through the same function go through it side by side. A slot is a place for one value: slot k < len(nodes) is
node k of the step's graph, later slots hold packs of several nodes side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby

from cello.cells.definition import Cell
from cello.cells.graph import POINTWISE
from cello.compiler.deep import deep
from cello.compiler.stages import Step, lower


@dataclass(frozen=True)
class Instruction:
    """``outs = op(args)``, slots; ``sizes`` are the widths of a split's parts in units of H."""

    op: str
    args: tuple[int, ...]
    outs: tuple[int, ...]
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Column:
    """An affine map of the frame, ``matrix @ x + Σ biases``, which gives ``node``; all positions of nodes."""

    node: int
    matrix: int
    biases: tuple[int, ...]


@dataclass(frozen=True)
class Pack:
    """A slot and the nodes that stand side by side in it."""

    slot: int
    nodes: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """What to compute once, for all steps, and in every step.

    ``columns`` are one product for all steps; ``hoisted`` are the other nodes that know the frame but no state;
    ``weights`` are packs of matrices, one on top of the other. The first terms of running sums are ``static_packs``,
    ``column_packs``, which are the first columns, and ``frame_packs``, which are put together from hoisted nodes.
    ``per_frame`` are the single nodes outside the loop whose value at each step it reads.
    """

    step: Step
    columns: tuple[Column, ...]
    hoisted: tuple[int, ...]
    weights: tuple[Pack, ...]
    static_packs: tuple[Pack, ...]
    column_packs: tuple[Pack, ...]
    frame_packs: tuple[Pack, ...]
    per_frame: tuple[int, ...]
    instructions: tuple[Instruction, ...]
    slots: int


@lru_cache(maxsize=256)
def program(cell: Cell) -> Program:
    """The program of a cell."""
    return _Lowering(lower(cell)).program()


@dataclass
class _Chain:
    """Products added one after another to a running sum: the sum's first term, the products, its last node."""

    first: int | None
    products: list[int]
    last: int


class _Group:
    """Chains that share their terms up to one product each, so that those products are one."""

    def __init__(self, chains: Sequence[_Chain], depth: int, parent: _Group | None) -> None:
        self.chains, self.depth, self.parent = chains, depth, parent
        self.children: list[_Group] = []
        self.start: int | None = None
        self.built = False

    def ending(self, function: Callable[[int], str]) -> list[list[int]]:
        """The sums that are complete, in runs that go through the same function; alone, those that go through none."""
        last = [chain.last for chain in self.chains if len(chain.products) == self.depth + 1]
        runs = [(name, list(run)) for name, run in groupby(last, key=function)]
        return [part for name, run in runs for part in ([run] if name else [[k] for k in run])]


class _Lowering:
    def __init__(self, plan: Step) -> None:
        self.plan = plan
        self.nodes = plan.graph.nodes
        self.slots = len(self.nodes)
        self.outside = {*plan.static}, {*plan.hoisted}
        self.stepwise = {*plan.stepwise}
        self.out: list[Instruction] = []
        self.weights: list[Pack] = []
        self.static_packs: list[Pack] = []
        self.frame_packs: list[Pack] = []
        self.per_frame: dict[int, None] = {}
        self.done: set[int] = set()
        self.users = {arg: k for k, node in enumerate(self.nodes) for arg in node.args}
        self.source: dict[int, _Group] = {}

    def program(self) -> Program:
        with deep():
            self._group(self._chains(), 0, None)
            for output in self.plan.graph.outputs:
                self._need(output)
        columns, front = self._columns()
        inside = {part for column in columns for part in self.affine[column.node][2]}
        return Program(
            step=self.plan,
            columns=tuple(columns),
            hoisted=tuple(k for k in self.plan.hoisted if k not in inside),
            weights=tuple(self.weights),
            static_packs=tuple(self.static_packs),
            column_packs=tuple(front),
            frame_packs=tuple(pack for pack in self.frame_packs if pack not in front),
            per_frame=tuple(self.per_frame),
            instructions=tuple(self.out),
            slots=self.slots,
        )

    def _chains(self) -> list[_Chain]:
        by_last: dict[int, _Chain] = {}
        for k in sorted(self.stepwise):
            if self.nodes[k].op != "product":
                continue
            chain = _Chain(None, [k], k)
            user = self._only_user(k)
            if user is not None and self.nodes[user].op == "add" and self.nodes[user].args[1] == k:
                start = self.nodes[user].args[0]
                if start in by_last and self.plan.uses[start] == 1:
                    before = by_last.pop(start)
                    chain = _Chain(before.first, [*before.products, k], user)
                elif self._is_vector_outside(start):
                    chain = _Chain(start, [k], user)
            by_last[chain.last] = chain
        return list(by_last.values())

    def _only_user(self, k: int) -> int | None:
        """The one node that reads k, if nothing else does."""
        return self.users.get(k) if self.plan.uses[k] == 1 else None

    def _activation(self, k: int) -> int | None:
        """The function of one argument that k goes through and nothing else, such as a gate's sigmoid."""
        user = self._only_user(k)
        return user if user is not None and POINTWISE.get(self.nodes[user].op) == 1 else None

    def _function(self, k: int) -> str:
        activation = self._activation(k)
        return "" if activation is None else self.nodes[activation].op

    def _is_vector_outside(self, k: int) -> bool:
        inside = k in self.stepwise or self.nodes[k].op in ("state", "mask")
        return not inside and self.nodes[k].shape == ("H",)

    def _key(self, chain: _Chain, depth: int) -> tuple[int, ...]:
        """What chains must share to go through one product: the kind of their first term and the vectors so far."""
        kind = 0 if chain.first is None else 1 if chain.first not in self.plan.hoisted else 2
        return (kind, *(self.nodes[k].args[1] for k in chain.products[: depth + 1]))

    def _group(self, chains: Sequence[_Chain], depth: int, parent: _Group | None) -> list[_Group]:
        """Groups of one depth, below them those of the next; chains that end at a depth come first in its group.

        Of those, the ones that go through the same function are neighbours.
        """
        ordered = sorted(chains, key=lambda c: (self._key(c, len(self.nodes)), self._function(c.last), c.last))
        groups = []
        for _, members in groupby(ordered, key=lambda c: self._key(c, depth)):
            group = _Group(list(members), depth, parent)
            groups.append(group)
            self.source.update({chain.last: group for chain in group.chains})
            alike = [k for sums in group.ending(self._function) for k in sums if len(sums) > 1]
            self.source.update({k: group for k in map(self._activation, alike) if k is not None})
            longer = [c for c in group.chains if len(c.products) > depth + 1]
            group.children = self._group(longer, depth + 1, group)
        return groups

    def _slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    def _need(self, k: int) -> int:
        """Make sure that node k is computed; returns its slot."""
        if k in self.done:
            return k
        self.done.add(k)
        if k in self.source:
            self._build(self.source[k])
        elif k in self.stepwise:
            self._pointwise(k)
        elif k in self.outside[1] or self.nodes[k].op == "mask":
            self.per_frame[k] = None
        return k

    def _build(self, group: _Group) -> None:
        if group.built:
            return
        group.built = True
        if group.parent is not None:
            self._build(group.parent)
        depth, chains = group.depth, group.chains
        vector = self._need(self.nodes[chains[0].products[depth]].args[1])
        weight = self._slot()
        self.weights.append(Pack(weight, tuple(self.nodes[c.products[depth]].args[0] for c in chains)))
        start = group.start if depth else self._first(chains)
        self._share(group, (vector, weight) if start is None else (start, vector, weight))

    def _first(self, chains: Sequence[_Chain]) -> int | None:
        """The slot of the running sums' first terms side by side."""
        firsts = tuple(c.first for c in chains if c.first is not None)
        if not firsts:
            return None
        slot = self._slot()
        frames = firsts[0] in self.outside[1]
        (self.frame_packs if frames else self.static_packs).append(Pack(slot, firsts))
        return slot

    def _share(self, group: _Group, args: tuple[int, ...]) -> None:
        """Compute a group's sums and split them: each complete one, then those that go on, child by child.

        Complete sums that go through the same function stay together until after it.
        """
        runs = group.ending(self._function)
        packs = [run[0] if len(run) == 1 else self._slot() for run in runs]
        parts = [(pack, len(run)) for pack, run in zip(packs, runs, strict=True)]
        for child in group.children:
            child.start = self._slot()
            parts.append((child.start, len(child.chains)))
        whole = parts[0][0] if len(parts) == 1 else self._slot()
        self.out.append(Instruction("linear", args, (whole,)))
        self._split(whole, parts)
        self.done.update(k for run in runs for k in run)
        for pack, run in zip(packs, runs, strict=True):
            if len(run) > 1:
                self._activate(pack, run)

    def _split(self, whole: int, parts: Sequence[tuple[int, int]]) -> None:
        """Split a slot into parts, each a slot and its width in units of H."""
        if len(parts) > 1:
            slots, sizes = zip(*parts, strict=True)
            self.out.append(Instruction("split", (whole,), slots, sizes))

    def _activate(self, pack: int, sums: Sequence[int]) -> None:
        """Send sums that lie side by side through their common function, then split what it gives."""
        activations = [k for k in map(self._activation, sums) if k is not None]
        after = self._slot()
        self.out.append(Instruction(self.nodes[activations[0]].op, (pack,), (after,)))
        self._split(after, [(k, 1) for k in activations])
        self.done.update(activations)

    def _pointwise(self, k: int) -> None:
        node = self.nodes[k]
        if node.op == "add":
            for left, right in (node.args, node.args[::-1]):
                if self._blend(k, left, right):
                    return
        needed = [self._need(a) for a in node.args]  # a generator would call through C, whose depth Python limits too
        self.out.append(Instruction(node.op, tuple(needed), (k,)))

    def _own_product(self, k: int) -> bool:
        """Whether k is a multiplication of this step that nothing else uses."""
        factors = self.nodes[k].args
        numbers = any(self.nodes[a].op == "constant" for a in factors)
        return self.nodes[k].op == "mul" and self.plan.uses[k] == 1 and k in self.stepwise and not numbers

    def _blend(self, k: int, left: int, right: int) -> bool:
        """(1 − w) · a + w · b."""
        if not (self._own_product(left) and self._own_product(right)):
            return False
        for u, a in (self.nodes[left].args, self.nodes[left].args[::-1]):
            for w, b in (self.nodes[right].args, self.nodes[right].args[::-1]):
                rest = self.nodes[u]
                if rest.op == "sub" and rest.args[1] == w and self.nodes[rest.args[0]].value == 1.0:
                    self.out.append(Instruction("blend", (self._need(a), self._need(b), self._need(w)), (k,)))
                    return True
        return False

    @cached_property
    def affine(self) -> dict[int, tuple[int, tuple[int, ...], tuple[int, ...]]]:
        """Of each ``matrix @ x + Σ biases`` whose parts nothing else uses: matrix, biases and the nodes inside."""
        found: dict[int, tuple[int, tuple[int, ...], tuple[int, ...]]] = {}
        for k in self.plan.hoisted:
            node = self.nodes[k]
            if node.op == "product" and self.nodes[node.args[1]].op == "input":
                found[k] = node.args[0], (), (k,)
            for part, bias in (node.args, node.args[::-1]) if node.op == "add" else ():
                inner = found.get(part) if self.plan.uses[part] == 1 else None
                if inner is not None and self._is_vector_outside(bias) and bias not in self.outside[1]:
                    found[k] = inner[0], (*inner[1], bias), (*inner[2], k)
                    break
        return found

    def _columns(self) -> tuple[list[Column], list[Pack]]:
        """The largest affine maps of the frame, and the packs that lie side by side at the front of their product."""
        found = self.affine
        inside = {part for k, affine in found.items() for part in affine[2] if part != k}
        left = {k for k in found if k not in inside}
        front: list[Pack] = []
        for pack in self.frame_packs:
            if left.issuperset(pack.nodes) and len({*pack.nodes}) == len(pack.nodes):
                front.append(pack)
                left.difference_update(pack.nodes)
        order = [*(k for pack in front for k in pack.nodes), *sorted(left)]
        return [Column(k, found[k][0], found[k][1]) for k in order], front
