"""Tell what each value of a trace is: a number, a vector, a matrix of products, or the matrices of heads."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from cello.cells.graph import MATRIX, POINTWISE, Node, Shape, reached
from cello.cells.methods import METHODS, REDUCTIONS
from cello.cells.sizes import share
from cello.cells.trace import Tracer
from cello.errors import CellError

VECTORS = ("total", "mean", "largest", "rows", "columns", "matrix")
"""The operations that take one vector as a whole."""


class Kind(Enum):
    """What a value is, whatever its sizes."""

    NUMBER = "a single number"
    VECTOR = "a vector"
    MATRIX = "a matrix"
    HEADS = "a matrix of heads"


def matrix_text(columns: str, rows: str = "H") -> str:
    """How a message calls a matrix of some rows that multiplies vectors of some elements."""
    use = {"D": " for the frame", "H": " for the hidden vector"}.get(columns, "") if rows == "H" else ""
    return f"a matrix{use}, ({rows}, {columns})"


class Kinds:
    """What each record is; a parameter is what its uses need, or what its annotation says."""

    def __init__(
        self,
        tracer: Tracer,
        states: tuple[str, ...],
        scalars: frozenset[str],
        sizes: Mapping[str, Shape],
        declared: frozenset[str] = frozenset(),
        by_row: frozenset[str] = frozenset(),
        by_column: frozenset[str] = frozenset(),
    ) -> None:
        self.tracer, self.states, self.scalars, self.sizes = tracer, states, scalars, sizes
        self.declared = declared  # parameters and groups of which annotations say anything
        self.by_row = by_row  # those with a value of its own for each row, of which there are several
        self.by_column = by_column
        self.records = tracer.records
        self.ops = [self._op(record) for record in self.records]
        self.moving: list[bool] = []
        for op, record in zip(self.ops, self.records, strict=True):
            self.moving.append(op in ("input", "state") or any(self.moving[arg] for arg in record.args))
        self.first_use: dict[int, int] = {}
        self.applied: set[int] = set()  # products of a matrix and a vector that are both the same at every step
        self.found: list[Kind] = []
        self.matrices = self._matrices()
        for position, record in enumerate(self.records):
            self.found.append(self._kind(record, position))
            for arg in record.args:
                self.first_use.setdefault(arg, record.line)

    def __getitem__(self, position: int) -> Kind:
        return self.found[position]

    def annotated(self, position: int) -> Shape | None:
        """The shape that an annotation gives a state or a parameter."""
        name = str(self.records[position].name)
        return self.sizes.get(name, self.sizes.get(name.split(".", maxsplit=1)[0]))

    def is_single(self, position: int) -> bool:
        """Whether a parameter may be a single number."""
        return not self._names(position) & self.by_row

    def _names(self, position: int) -> set[str]:
        """A parameter's name and that of its group."""
        name = str(self.records[position].name)
        return {name, name.split(".", maxsplit=1)[0]}

    def upright(self, position: int) -> tuple[int, bool]:
        """What matrices of heads are the transposes of, and whether they are, which is after an odd number of them."""
        turned = False
        while self.ops[position] == "transpose" and self[position] is Kind.HEADS:
            position, turned = self.records[position].args[0], not turned
        return position, turned

    def error(self, position: int, fact: str, remedy: str) -> CellError:
        """An error on the line of a record."""
        return self.tracer.error(fact, remedy, self.records[position].line)

    def say(self, position: int) -> str:
        """How messages call a value."""
        return self.tracer.say(position)

    def _op(self, record: Node) -> str:
        if record.op == "argument":
            return "state" if record.name in self.states else "parameter"
        if record.op == "parameter":
            group, member = str(record.name).split(".")
            if group in self.states and member in REDUCTIONS:
                raise self.tracer.error(
                    f"{record.name} is used as a value, but {group} is a state, whose {member} is a method",
                    f"Write {record.name}()",
                    record.line,
                )
            if group in self.states and (member == "T" or member in METHODS):
                vector = f"Write u * v for a product unit by unit, W @ {group} with a parameter W"
                raise self.tracer.error(
                    f"{group}.{member} is asked for, but {group} is a state, which is a vector, (H,)",
                    vector if member == "T" else METHODS[member].format(v=group),
                    record.line,
                )
            if group in self.states:
                raise self.tracer.error(
                    f"{group}.{member} is asked for, but {group} is a state, because {len(self.states)} values are "
                    f"returned and the states are the first {len(self.states)} arguments after the frame",
                    "Return one value for each state, and put the states before the parameters",
                    record.line,
                )
        return record.op

    def _has_heads(self, position: int) -> bool:
        shape = self.annotated(position) if self.ops[position] in ("state", "parameter") else None
        return shape is not None and len(shape) == 2

    def _of_heads(self, position: int) -> bool:
        """Whether products with it go head by head; those with a parameter (H, N) are as with any matrix."""
        return self._has_heads(position) and (
            self.ops[position] == "state" or share((self.annotated(position) or ("", ""))[1]) > 0
        )

    def _matrices(self) -> dict[int, tuple[Kind, int, str]]:
        """The values that products take as matrices, down to the parameters they are made of.

        For each its kind, and the line and the columns of its first product.
        """
        found: dict[int, tuple[Kind, int, str]] = {}
        products = [k for k, one in enumerate(self.records) if one.op == "product" and not self.moving[one.args[0]]]
        for position in sorted(products, key=lambda k: not self.moving[k]):
            record = self.records[position]
            if not self.moving[record.args[1]]:
                if position in found or not self._is_declared_vector(position):
                    continue
                self.applied.add(position)
            inside = self._inside(record.args[0])
            kind = Kind.HEADS if any(map(self._of_heads, inside)) else Kind.MATRIX
            for at in inside:
                found.setdefault(at, (kind, record.line, "D" if self.ops[record.args[1]] == "input" else "H"))
        return found

    def _inside(self, position: int) -> list[int]:
        """What a matrix is made of."""
        inside, todo = list[int](), [position]
        while todo:
            at = todo.pop()
            if at not in inside:
                inside.append(at)
                todo += self.records[at].args if self.ops[at] in (*POINTWISE, *MATRIX) else ()
        return inside

    def _is_declared_vector(self, product: int) -> bool:
        """Whether a product of parameters is meant as one of a matrix and a vector: an annotation speaks of either.

        Without one, the vector is more likely a state that the function forgot to return.
        """
        live = reached(self.records, [product])
        names = {str(self.records[k].name) for k in live if self.ops[k] == "parameter"}
        known = (*POINTWISE, *MATRIX, "product", "parameter", "constant")
        return all(self.ops[k] in known for k in live) and bool(
            self.declared & (names | {name.split(".", maxsplit=1)[0] for name in names})
        )

    def _kind(self, record: Node, position: int) -> Kind:
        op = self.ops[position]
        if op == "parameter":
            if {str(record.name), str(record.name).split(".")[0]} & self.scalars:
                return Kind.NUMBER
            if position in self.matrices:
                return self.matrices[position][0]
        if op in ("parameter", "state"):
            return Kind.HEADS if self._has_heads(position) else Kind.VECTOR
        if op in ("input", "constant"):
            return Kind.VECTOR if op == "input" else Kind.NUMBER
        if op == "product":
            return self._product(record, position)
        if op in MATRIX:
            return self._matrix(record, position)
        if op == "flatten":
            return self._flat(record, position)
        return self._of_vector(record, position) if op in VECTORS else self._pointwise(record, position)

    def _of_vector(self, record: Node, position: int) -> Kind:
        (arg,) = record.args
        if self[arg] is Kind.HEADS and self.moving[arg] and record.op in ("total", "mean"):
            return Kind.VECTOR
        if self[arg] is not Kind.VECTOR:
            shown, name = self.say(position), self.say(arg)
            shown = f"matrix({name})" if record.op == "matrix" else shown
            matrix = self[arg] is not Kind.NUMBER
            remedy = _first_a_vector(record.op, name) if matrix else f"Write {name} itself"
            raise self.error(position, f"{shown} is taken, but {name} is {self[arg].value}", remedy)
        if record.op == "matrix" and not self.moving[arg]:
            name = self.say(arg)
            raise self.error(
                position,
                f"matrix({name}): {name} is the same at every step",
                "Annotate the parameter with the shape of the matrix itself, as in A: Heads(1)",
            )
        return Kind.HEADS if record.op in ("rows", "columns", "matrix") else Kind.VECTOR

    def _flat(self, record: Node, position: int) -> Kind:
        (arg,) = record.args
        if self[arg] is not Kind.HEADS or not self.moving[arg]:
            name = self.say(arg)
            wanted = (
                f"Write {name} itself" if self[arg] is Kind.VECTOR else "Flatten a matrix that changes, as a state S"
            )
            what = self[arg].value if self[arg] is not Kind.HEADS else "the same at every step"
            raise self.error(position, f"flatten({name}): {name} is {what}", wanted)
        return Kind.VECTOR

    def _matrix(self, record: Node, position: int) -> Kind:
        """An operation on a whole matrix: a transpose, or one that is computed before the first step."""
        (arg,) = record.args
        name, fact = self.say(arg), f"the {record.op} of {self.say(arg)} is taken"
        if self[arg] is Kind.HEADS:
            if record.op == "transpose":
                self._check_turned(position)
                return Kind.HEADS
            raise self.error(position, f"{fact}, but it has heads", f"Use a matrix without Heads, or {name} itself")
        if self.moving[arg]:
            own = f"Write exp({name}), unit by unit" if record.op == "expm" else f"Write 1 / {name}, unit by unit"
            wanted = self._of_transpose(position) if record.op == "transpose" else own
            raise self.error(position, f"{fact}, but {name} changes from step to step: it is a vector", wanted)
        factor = next(
            (k for k, one in enumerate(self.records) if one.op == "product" and one.args[1] == position), None
        )
        if factor is not None:
            raise self.error(factor, *self._two_matrices(factor))
        if position not in self.matrices:
            raise self.error(
                position,
                f"{fact}, but no vector is multiplied by it",
                "Multiply a hidden vector with it, as in V.T @ h, with a square matrix V",
            )
        return Kind.MATRIX

    def _check_turned(self, position: int) -> None:
        """The transpose of matrices of heads is there for products, and is nothing else."""
        name = self.say(self.records[position].args[0])
        for reader, record in enumerate(self.records):
            if position in record.args and record.op not in ("product", "transpose"):
                raise self.error(reader, *no_product(name))

    def _of_transpose(self, position: int) -> str:
        """What to write instead of the transpose of a vector, by what it is multiplied with."""
        (arg,) = self.records[position].args
        name = self.say(arg)
        for record in self.records:
            if record.op == "product" and self.moving[record.args[0]] and self.moving[record.args[1]]:
                left, right = record.args
                if right == position:
                    beside = "" if self._any_heads() else ", beside a state S: Heads(4)"
                    return f"Write outer({self.say(left)}, {name}) for the matrices of heads{beside}"
                if left == position:
                    return f"Write ({name} * {self.say(right)}).sum() for the product of two vectors"
        return f"Write u * v for a product unit by unit, W @ {name} with a parameter W"

    def _any_heads(self) -> bool:
        return any(len(shape) == 2 for shape in self.sizes.values())

    def _product(self, record: Node, position: int) -> Kind:
        left, right = record.args
        a, b = self.say(left), self.say(right)
        if self[left] is self[right] is Kind.HEADS and self.moving[position]:
            return Kind.HEADS
        if self[left] is not Kind.HEADS and position not in self.applied:
            self._check_factors(record, position)
        for one in (right, left):
            if self[one] is Kind.NUMBER:
                if one == left and self.ops[left] == "parameter":
                    columns = "D" if self.ops[right] == "input" else "H"
                    raise self.error(
                        position,
                        f"parameter {a} is used here as {matrix_text(columns)}, but it is declared as a single number",
                        f"Write {a} * v for a single number, or remove Scalar",
                    )
                raise self.error(position, f"{a} @ {b}: {self.say(one)} is a single number", f"Write {a} * {b}")
        if self.moving[left] and self[left] is Kind.HEADS and self._is_matrix(right):
            raise self.error(
                position,
                f"{a} @ {b}: {b} is a matrix, but a state of matrices multiplies vectors",
                f"Write the product column by column, sum(outer({a} @ e, {b}.T @ e) for e in ...), each e a fixed "
                f"vector that is 1 for one column of {a}",
            )
        if self[right] is not Kind.VECTOR:
            wanted = f"For a product of matrices write {a} @ ({b} @ v)"
            if self[right] is Kind.HEADS and self.moving[right]:
                wanted = f"Annotate what multiplies it, as in {a}: Heads(1)"
            raise self.error(position, f"{a} @ {b}: {b} is {self[right].value}", wanted)
        return Kind.VECTOR

    def _is_matrix(self, position: int) -> bool:
        """Whether something that does not change from step to step is a matrix by its products or by its elements."""
        one = self.ops[position] == "parameter" and self._names(position) & self.by_column
        return not self.moving[position] and (self[position] is Kind.MATRIX or bool(one))

    def _check_factors(self, record: Node, position: int) -> None:
        left, right = record.args
        a, b = self.say(left), self.say(right)
        if self.moving[left]:
            if self.ops[right] == "parameter":
                wanted = f"Write {b.removesuffix('.T')} @ {a}"  # torch writes v @ W.T
                raise self.error(position, f"{a} @ {b}: the vector is to the left of the matrix", wanted)
            if self[right] is Kind.HEADS:
                raise self.error(
                    position, f"{a} @ {b}: the vector is to the left of the matrices of heads", f"Write {b}.T @ {a}"
                )
            inner = self.records[left]
            if inner.op == "product" and self[inner.args[0]] is Kind.HEADS:
                made, factor = map(self.say, inner.args)
                raise self.error(position, f"{a} @ {b}: {a} is a vector", f"Write {made} @ ({factor} @ {b})")
            raise self.error(
                position,
                f"{a} @ {b}: neither factor is a parameter",
                f"Write {a} * {b} for the product unit by unit, ({a} * {b}).sum() for the sum of it, or W @ {b} with a "
                f"parameter W",
            )
        if not self.moving[right] and self[right] is not Kind.NUMBER:
            self._refuse_parameters(position, a, b)

    def _two_matrices(self, product: int) -> tuple[str, str]:
        """What a message says of a product of two matrices."""
        a, b = (self.say(arg) for arg in self.records[product].args)
        return f"{a} @ {b}: both are matrices", f"For a product of matrices write {a} @ ({b} @ v)"

    def _refuse_parameters(self, position: int, a: str, b: str) -> None:
        """A product of parameters that is no matrix times a vector which annotations speak of."""
        right = self.records[position].args[1]
        forgotten = self.records[right].op == "argument"
        fact = f"{a} @ {b}: neither depends on the frame or on a state"
        inside = [k for k in reached(self.records, [right]) if self.ops[k] == "parameter"]
        name = self.say(min(inside)) if inside else b
        group, _, member = name.partition(".")
        size = f"Members({member}=Size(8))" if member else "Size(8)"
        remedy = (
            f"Multiply a parameter with a vector that changes from step to step, or write {group}: {size}, or with "
            f'Size("H"), for a vector {name}'
        )
        if forgotten:
            fact = f"{a} @ {b}: {b} counts as a parameter, because it is not returned"
            remedy = f"Return {', '.join([*self.states, b])} if {b} is a state, or write {group}: {size} for a vector"
        if position in self.matrices or self[right] is not Kind.VECTOR:
            fact, remedy = self._two_matrices(position)
        elif any(self.ops[k] in VECTORS for k in reached(self.records, [right])):
            remedy = f"Take sums, means and maxima of values that change from step to step, not of parameters as in {b}"
        raise self.error(position, fact, remedy)

    def _pointwise(self, record: Node, position: int) -> Kind:
        kinds = {self[arg] for arg in record.args}
        if kinds <= {Kind.NUMBER}:
            return Kind.NUMBER
        if Kind.HEADS in kinds and not self.moving[position] and Kind.VECTOR in kinds:
            self._refuse_vectors_beside_heads(record, position)
        if position in self.matrices and kinds <= {Kind.NUMBER, self.matrices[position][0]}:
            return self.matrices[position][0]
        for arg in record.args:
            if self[arg] is Kind.MATRIX:
                self._refuse_matrix(record, position, arg)
        return Kind.HEADS if Kind.HEADS in kinds else Kind.VECTOR

    def _refuse_vectors_beside_heads(self, record: Node, position: int) -> None:
        vector = next(arg for arg in record.args if self[arg] is Kind.VECTOR)
        heads = next(arg for arg in record.args if self[arg] is Kind.HEADS)
        raise self.error(position, *beside_heads(self.say(vector), self.say(heads)))

    def _refuse_matrix(self, record: Node, position: int, arg: int) -> None:
        """A matrix of products where a vector is meant."""
        name = self.say(arg)
        if self.ops[arg] != "parameter":
            raise self.error(
                position,
                f"{record.op} is taken of the matrix {name}, beside a vector or for one",
                f"Multiply a vector with it: {name} @ v",
            )
        if position in self.matrices:
            vector = next(one for one in record.args if self[one] is not Kind.MATRIX and self[one] is not Kind.NUMBER)
            raise self.error(
                position,
                f"{self.say(vector)} is {self[vector].value}, in the matrix {self.say(position)}",
                "Combine matrices with matrices of the same shape, numbers and Scalar parameters",
            )
        _, line, columns = self.matrices[arg]
        here, before, at = "a vector, (H,)", matrix_text(columns), line
        earlier = self.first_use.get(arg)
        if earlier is None:  # the vector comes first
            here, before, at, position = before, here, record.line, self._product_of(arg)
        remedy = f"Use two parameters, such as {name.split('.')[0]}.a and {name.split('.')[0]}.b"
        if self._is_summed(arg):
            remedy = f"For sums over its elements write {name} @ J, with J: Fixed(1.0): those of each row"
        raise self.error(
            position, f"parameter {name} is used here as {here}, but line {at} uses it as {before}", remedy
        )

    def _is_summed(self, parameter: int) -> bool:
        """Whether a sum or a mean is taken of what is the same at every step and holds a parameter."""
        sums = [one.args[0] for one in self.records if one.op in ("total", "mean")]
        return any(not self.moving[of] and parameter in reached(self.records, [of]) for of in sums)

    def _product_of(self, parameter: int) -> int:
        """The first record that uses a parameter as a matrix."""
        inside = {parameter}
        for position, record in enumerate(self.records):
            if inside & {*record.args} and position in self.matrices:
                inside.add(position)
            if inside & {*record.args} and record.op == "product" and record.args[0] in inside:
                return position
        return parameter


def _first_a_vector(op: str, name: str) -> str:
    """What to write where a sum or the like is taken of a whole matrix, which only a vector has."""
    if op == "matrix":
        return f"Write {name} itself, or flatten({name}) first"
    if op in ("total", "mean"):
        method = "sum" if op == "total" else op
        rest = "the sum of all its elements" if op == "total" else "the mean of the sums of its rows"
        return f"Write ({name} @ v).{method}(); with v: Fixed(1.0), a vector of ones, it is {rest}"
    return f"Multiply a vector with it first: {name} @ v"


def no_product(heads: str) -> tuple[str, str]:
    """What a message says where the transpose of matrices of heads is used by itself."""
    return f"{heads}.T multiplies nothing here, and such a transpose only multiplies", f"Write {heads}.T @ v"


def beside_heads(vector: str, heads: str) -> tuple[str, str]:
    """What a message says where a vector meets the matrices of heads."""
    return (
        f"{vector} is a vector, beside the matrix of heads {heads}",
        f"Write rows({vector}) for one element a row, columns({vector}) for one a column",
    )
