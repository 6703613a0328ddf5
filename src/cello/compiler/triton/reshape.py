"""Write what changes the shape of a value: sums and maxima of all its elements, and matrices of heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cello.cells.graph import Node
from cello.compiler.triton.expression import BLOCK_ROWS, RESHAPING_ROWS, SIZED_ROWS, WHOLE
from cello.compiler.triton.names import Names
from cello.compiler.triton.products import all_gather
from cello.compiler.triton.spaces import Space, is_sized


class Reshaping:
    """Writes them for the nodes of a step or of its derivative, whose variables are ``labels``.

    ``whole`` are the variables that hold all elements of a vector, those of other programs too.
    """

    def __init__(self, names: Names, nodes: Sequence[Node], labels: Mapping[int, str]) -> None:
        self.names, self.nodes, self.labels = names, nodes, labels
        self.whole: set[str] = set()
        self.asked = {arg for node in nodes if node.op in (*WHOLE, "columns") for arg in node.args}

    def __call__(self, k: int, *values: str) -> tuple[list[str], str]:
        """The lines before node k, and how it is written of the values of its arguments."""
        node = self.nodes[k]
        if self.names.in_blocks and node.op in BLOCK_ROWS:
            return [], self._of_blocks(k, values)
        (arg,), (value,) = node.args, values
        before, after = self.names.spaces[self.nodes[arg].shape], self.names.spaces[node.shape]
        lines: list[str] = []
        if node.op in WHOLE and before.once:
            return [], value
        if node.op == "total" and self._name(arg) not in self.whole:
            return self._total(k, value, before)
        if node.op in WHOLE:
            lines, value = self._gathered(arg, value)
        matrix = next((here for here in (before, after) if is_sized(here.shape)), None)
        if matrix is not None:
            return self._sized(k, value, matrix)
        return lines, RESHAPING_ROWS[node.op].format(value=value, own=after.own, elements=before.elements)

    def needs_whole(self, k: int) -> bool:
        """Whether node k is asked for as a whole by what changes the shape of values."""
        return k in self.asked

    def summed_heads(self, k: int) -> int | None:
        """The vector of which node k is the sum over the units of each head, if it is one.

        That is a product with a matrix of ones. As a sum of matrices, for which no matrix must be in memory, Triton
        gives each thread a whole head of them, which no thread has the registers for.
        """
        if self.names.in_blocks:
            return None
        node, along = self.nodes[k], {"row_sum": "columns", "column_sum": "rows"}
        if node.op not in along or self.nodes[node.args[0]].op != "mul":
            return None
        for ones, other in (pair := self.nodes[node.args[0]].args, pair[::-1]):
            if ones in self.names.plan.ones and self.nodes[other].op == along[node.op]:
                return self.nodes[other].args[0]
        return None

    def _of_blocks(self, k: int, values: Sequence[str]) -> str:
        """Of matrices whose heads may have any size."""
        node, spaces = self.nodes[k], self.names.spaces
        shapes = [*(self.nodes[arg].shape for arg in node.args), node.shape]
        matrix, other = (shapes[0], shapes[-1]) if len(shapes[0]) == 2 else (shapes[-1], shapes[-1])
        tiles = {
            name: f"{spaces[shape].elements}, {spaces[shape].own}{spaces[shape].in_rows}"
            for name, shape in (("matrix", matrix), ("other", other))
        }
        return BLOCK_ROWS[node.op].format(values=", ".join(values), own=spaces[node.shape].own, **tiles)

    def own(self, k: int) -> str:
        """A program's elements of a value."""
        return self.names.spaces[self.nodes[k].shape].own

    def _sized(self, k: int, value: str, matrix: Space) -> tuple[list[str], str]:
        """Between a matrix (H, N) and vectors: programs add up columns of their units, then of all."""
        node, after = self.nodes[k], self.names.spaces[self.nodes[k].shape]
        lines: list[str] = []
        if node.op == "columns":
            (arg,) = node.args
            lines, value = self._gathered(arg, value)
        if node.op == "column_sum":
            part, sums, padded = f"_{k}_sum", f"_{k}_sums", matrix.padded
            lines = [f"{part} = column_part({value}, part, H, OWN, WHOLE)"]
            here = Space(matrix.shape[1:], f"{padded} * SPLIT", f"({padded} * SPLIT)", padded, "True")
            lines, value = [*lines, *all_gather(self.names, {sums: (part, 1, here)}, [0]).lines], sums
        sizes = {"own": after.own, "columns": matrix.columns, "padded": matrix.padded}
        return lines, SIZED_ROWS[node.op].format(value=value, **sizes, products=bool(self.names.inner))

    def _total(self, k: int, value: str, before: Space) -> tuple[list[str], str]:
        """The sum of a vector: programs add up their own elements, then what each has found."""
        if before.common:
            return [], f"own_total({value}, 0, {before.elements}, {before.own}, {before.whole})"
        part, sums = f"_{k}_sum", f"_{k}_sums"
        lines = [f"{part} = own_total({value}, {before.part}, {before.elements}, {before.own}, {before.whole})"]
        here = Space(before.shape, before.parts, before.parts, "1", "True", before.part)
        return [*lines, *all_gather(self.names, {sums: (part, 1, here)}, [0]).lines], f"total_of_parts({sums})"

    def _name(self, arg: int) -> str:
        """The variable that holds all elements of a vector."""
        return f"{self.labels.get(arg, f'_{arg}')}_whole"

    def _gathered(self, arg: int, value: str) -> tuple[list[str], str]:
        name = self._name(arg)
        if name in self.whole:
            return [], name
        self.whole.add(name)
        return all_gather(self.names, {name: (value, 1, self.names.spaces[self.nodes[arg].shape])}, [0]).lines, name
