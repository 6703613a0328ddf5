"""Infer the sizes of all values of a trace: what annotations say, what operations need, and H where nothing else does.

Every dimension is a variable. Products, outputs and operations of one value make variables equal. Where several values
are combined in one operation they have one size, except that one number a step, ("1",), fits every size: so these are
solved when it is known which values are single numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cello.cells.graph import MATRIX, Shape, reached
from cello.cells.kinds import Kind, Kinds, beside_heads, matrix_text
from cello.cells.sizes import INPUTS, ONE, UNITS, elements_of, repeated, share


@dataclass(frozen=True)
class Elementwise:
    """A pointwise operation of several vectors: its record, and the variables of its result and of its vectors."""

    position: int
    result: int
    args: tuple[tuple[int, int], ...]  # records and their variables


class Unifier:
    """The variables and what is known of them."""

    def __init__(self, kinds: Kinds, parts: Mapping[str, str], outputs: Sequence[int]) -> None:
        self.kinds, self.parts, self.outputs = kinds, parts, outputs
        self.parent: list[int] = []
        self.size: list[str | None] = []
        self.fixed: dict[str, int] = {}
        self.variables: list[tuple[int, ...]] = []
        self.operations: list[Elementwise] = []
        self.first: dict[int, int] = {}  # the record that told a parameter's size first
        self.unclear: list[Elementwise] = []
        self.spread: list[tuple[int, int, int]] = []  # columns(k) of unknown sizes: records, k, and their columns
        self.products: list[int] = []  # products of matrices of which one changes
        self.flat: list[tuple[int, int, int]] = []  # flatten(S) of an S of unknown columns: its elements, and these
        for position in range(len(kinds.records)):
            self.variables.append(self._variables(position))
        for state, output in zip(kinds.states, outputs, strict=True):
            self._output(state, output)
        self._solve()

    def shapes(self) -> list[Shape]:
        """The shape of every record."""
        return [tuple(self._of(one) or UNITS for one in variables) for variables in self.variables]

    def _new(self, size: str | None = None) -> int:
        if size is not None and size in self.fixed:
            return self.fixed[size]
        self.parent.append(len(self.parent))
        self.size.append(size)
        if size is not None:
            self.fixed[size] = len(self.parent) - 1
        return len(self.parent) - 1

    def _root(self, variable: int) -> int:
        parent = self.parent
        while (above := parent[variable]) != variable:
            parent[variable] = variable = parent[above]
        return variable

    def _of(self, variable: int) -> str | None:
        return self.size[self._root(variable)]

    def _equal(self, one: int, other: int) -> bool:
        """Make two variables equal, if they can be."""
        one, other = self._root(one), self._root(other)
        if one == other:
            return True
        if self.size[one] is not None and self.size[other] is not None:
            return False
        keep, drop = (one, other) if self.size[one] is not None else (other, one)
        self.parent[drop] = keep
        return True

    def _variables(self, position: int) -> tuple[int, ...]:
        """The dimensions of a record, and what its operation says of those of its arguments."""
        kind, op, record = self.kinds[position], self.kinds.ops[position], self.kinds.records[position]
        if kind is Kind.NUMBER:
            return ()
        if op == "input":
            return (self._new(self.parts.get(str(record.name), INPUTS)),)
        if op in ("state", "parameter"):
            shape = self.kinds.annotated(position) or ((UNITS,) if op == "state" else ())
            if kind is Kind.MATRIX:
                return (self._new(shape[0] if shape else None), self._new(shape[1] if len(shape) == 2 else None))
            return tuple(map(self._new, shape)) or (self._new(),)
        if op == "product":
            return self._product(position)
        if op in ("total", "mean", "largest"):
            return (self._new(ONE),)
        if op in ("rows", "columns"):
            return (self._new(UNITS), self._repeated(position))
        if op == "matrix":
            return self._matrix(position)
        if op == "flatten":
            return (self._flat(position),)
        if op == "transpose" and kind is Kind.MATRIX:
            return self.variables[record.args[0]][::-1]
        if op in MATRIX and kind is Kind.MATRIX:
            self._square(position)
            return self.variables[record.args[0]]
        return self._pointwise(position)

    def _product(self, position: int) -> tuple[int, ...]:
        left, right = self.kinds.records[position].args
        if self.kinds[left] is Kind.HEADS:
            return self._heads_product(position, left, right)
        rows, columns = self.variables[left]
        (vector,) = self.variables[right]
        if not self._equal(columns, vector):
            raise self._columns_error(position, self._of(vector) or UNITS)
        for one in self._parameters(left):
            self.first.setdefault(one, position)
        return (rows,)

    def _parameters(self, position: int) -> list[int]:
        """The parameters that a matrix is made of."""
        found, todo = list[int](), [position]
        while todo:
            at = todo.pop(0)
            if self.kinds.ops[at] == "parameter" and self.kinds[at] is not Kind.NUMBER and at not in found:
                found.append(at)
            todo += self.kinds.records[at].args
        return found

    def _columns_error(self, position: int, size: str) -> Exception:
        kinds, (left, right) = self.kinds, self.kinds.records[position].args
        known = next((one for one in self._parameters(left) if one in self.first), None)
        has = self._of(self.variables[left][1]) or UNITS
        whole = self._whole(left)
        if whole is not None:
            name = kinds.say(kinds.records[whole].args[0])
            needed = f"{kinds.say(left)} @ {kinds.say(right)} needs {size} columns"
            fact = f"the {kinds.ops[whole]} of {name} is taken, so it is square, ({has}, {has}), but {needed}"
            return kinds.error(position, fact, self._instead(whole))
        if known is None:
            return kinds.error(
                position,
                f"{kinds.say(left)} @ {kinds.say(right)}: the matrix has {has} columns, but {kinds.say(right)} has "
                f"{size} elements",
                f"Use a matrix of {size} columns",
            )
        name, line = kinds.say(known), kinds.records[self.first[known]].line
        rows = self._of(self.variables[left][0]) or UNITS
        return kinds.error(
            position,
            f"parameter {name} is used here as {matrix_text(size, rows)}, but line {line} uses it as "
            f"{matrix_text(has, rows)}",
            f"Use two parameters, such as {name.split('.')[0]}.a and {name.split('.')[0]}.b",
        )

    def _whole(self, matrix: int) -> int | None:
        """What is taken of a whole matrix, as its transpose, by which a parameter of this one has to be square."""
        own = {matrix, *self._parameters(matrix)}
        ops, records = self.kinds.ops, self.kinds.records
        return next((k for k, op in enumerate(ops) if op in MATRIX and (k in own or own & {*records[k].args})), None)

    def _instead(self, position: int) -> str:
        """What to write instead of a transpose, an inverse or an exponential of what is not square."""
        if self.kinds.ops[position] == "transpose":
            return f"Use another parameter in place of {self.kinds.say(position)}, such as Q @ v"
        return "Use a square matrix"

    def _square(self, position: int) -> None:
        record = self.kinds.records[position]
        rows, columns = self.variables[record.args[0]]
        if not self._equal(rows, columns):
            name = self.kinds.say(record.args[0])
            raise self.kinds.error(
                position,
                f"the {record.op} of {name} is taken, which is ({self._of(rows)}, {self._of(columns)}), not square",
                self._instead(position),
            )

    def _repeated(self, position: int) -> int:
        """The columns of rows(v) or columns(k): of heads, whose k has H elements, or as many as k has."""
        (arg,) = self.kinds.records[position].args
        columns, (variable,) = self._new(), self.variables[arg]
        if self.kinds.ops[position] == "rows":
            self._expect(position, arg, UNITS)
        elif self._of(variable) not in (None, UNITS, ONE):
            self._equal(columns, variable)
        else:
            self.spread.append((position, arg, columns))
        return columns

    def _matrix(self, position: int) -> tuple[int, ...]:
        """The rows and columns of matrix(v, shape), whose v has as many elements."""
        record = self.kinds.records[position]
        (arg,), columns = record.args, self.parts.get(record.shape[1], record.shape[1])
        needed = elements_of(columns)
        (variable,) = self.variables[arg]
        if not self._equal(variable, self._new(needed)):
            name, has = self.kinds.say(arg), count(str(self._of(variable)))
            raise self.kinds.error(
                position,
                f"matrix({name}): {name} has {has}, but a matrix (H, {columns}) has {needed}",
                f"Bring it to {needed} elements by a matrix, such as P @ {name}",
            )
        return (self._new(UNITS), self._new(columns))

    def _flat(self, position: int) -> int:
        """The elements of flatten(S), as far as those of S are known."""
        columns = self.variables[self.kinds.records[position].args[0]][1]
        if (known := self._of(columns)) is not None:
            return self._new(elements_of(known))
        self.flat.append((position, self._new(), columns))
        return self.flat[-1][1]

    def _heads_product(self, position: int, left: int, right: int) -> tuple[int, ...]:
        """S @ q has H elements, S.T @ v as many as a vector that S @ q takes; R @ S is a matrix as S is."""
        if self.kinds[right] is Kind.HEADS:
            return self._matrices_product(position, left, right)
        _, turned = self.kinds.upright(left)
        columns = self._of(self.variables[left][1])
        over = UNITS if columns is None else repeated(columns)
        self._expect(position, right, UNITS if turned else over)
        return (self._new(over if turned else UNITS),)

    def _matrices_product(self, position: int, left: int, right: int) -> tuple[int, ...]:
        """R @ S and R.T @ S of a square R, head by head, are as S is; R @ S.T is square, of two of one shape."""
        square, wide = self.variables[left][1], self.variables[right][1]
        columns = self._of(wide)
        (one, turned), (other, to_right) = map(self.kinds.upright, (left, right))
        if turned and to_right:
            a, b = self.kinds.say(one), self.kinds.say(other)
            fact, remedy = f"{a}.T @ {b}.T: both are transposes", f"Write N = {b} @ {a}, then N.T @ v"
            raise self.kinds.error(position, fact, remedy)
        if to_right or columns is None or share(columns):
            alike = self._equal(square, wide)
        else:
            alike = self._equal(square, self._new(UNITS)) or share(str(self._of(square))) > 0
        if not alike:
            raise self._product_error(position, left, right)
        self.products.append(position)
        if not to_right:
            return (self._new(UNITS), wide)
        columns = self._of(wide)
        return (self._new(UNITS), wide if columns is None or share(columns) else self._new(UNITS))

    def _product_error(self, position: int, left: int, right: int) -> Exception:
        """Two matrices whose rows and columns do not meet, or of which one has other heads."""
        kinds, shapes = self.kinds, list[str]()
        for k in (left, right):
            shape = [UNITS, self._of(self.variables[k][1]) or UNITS]
            shapes.append(f"{kinds.say(k)} is ({', '.join(shape[::-1] if kinds.upright(k)[1] else shape)})")
        both = all(share(str(self._of(self.variables[k][1]))) for k in (left, right))
        remedy = "Give both the same number of heads"
        if not both:
            remedy = "Multiply a square matrix, of Heads, with one of H rows, or write A @ B.T of two of one shape"
        fact = f"{kinds.say(left)} @ {kinds.say(right)}: {', but '.join(shapes)}"
        return kinds.error(position, fact, remedy)

    def _expect(self, position: int, arg: int, size: str) -> None:
        """What matrices of heads or (H, N) multiply, and what is repeated along them, has their rows or columns."""
        (variable,) = self.variables[arg]
        if not self._equal(variable, self._new(size)):
            name, has = self.kinds.say(arg), self._of(variable)
            what = "heads have H" if size == UNITS else f"the matrix has {size} columns"
            raise self.kinds.error(
                position,
                f"{self.kinds.say(position)}: {name} has {has} element{'s' * (has != ONE)}, but {what}",
                f"Bring it to {size} elements by a matrix, such as P @ {name}",
            )

    def _pointwise(self, position: int) -> tuple[int, ...]:
        kinds, record = self.kinds, self.kinds.records[position]
        own = [arg for arg in dict.fromkeys(record.args) if kinds[arg] is kinds[position]]
        if kinds[position] is not Kind.VECTOR:
            for arg in own[1:]:
                for one, other in zip(self.variables[own[0]], self.variables[arg], strict=True):
                    if not self._equal(one, other):
                        raise self._matrices_error(position, own[0], arg)
            return self.variables[own[0]]
        vectors = tuple((arg, self.variables[arg][0]) for arg in own)
        if len({self._root(variable) for _, variable in vectors}) == 1:
            return (vectors[0][1],)
        result = self._new()
        self.operations.append(Elementwise(position, result, vectors))
        return (result,)

    def _matrices_error(self, position: int, one: int, other: int) -> Exception:
        kinds = self.kinds
        shapes = [f"({', '.join(self._of(each) or UNITS for each in self.variables[at])})" for at in (one, other)]
        return kinds.error(
            position,
            f"{kinds.say(one)} is {shapes[0]}, but {kinds.say(other)} is {shapes[1]}",
            "Give both the same number of heads"
            if kinds[one] is Kind.HEADS
            else "Combine matrices of the same shape, or multiply vectors by one after the other",
        )

    def _output(self, state: str, output: int) -> None:
        """A new state has the shape of the old one."""
        kinds = self.kinds
        shape = kinds.sizes.get(state, (UNITS,))
        variables = self.variables[output]
        if len(variables) != len(shape) or not kinds.moving[output]:
            return  # refused by whoever checks outputs
        for variable, size in zip(variables, shape, strict=True):
            self._equal(variable, self._new(size))

    def _solve(self) -> None:
        for position, arg, columns in self.spread:
            self._expect(position, arg, repeated(self._of(columns) or UNITS))
        for position, elements, columns in self.flat:
            has, wanted = elements_of(self._of(columns) or UNITS), self._of(elements)
            if not self._equal(elements, self._new(has)):
                shown, remedy = self.kinds.say(position), f"Give what it meets {has} elements"
                raise self.kinds.error(position, f"{shown} has {has} elements, but is used as one of {wanted}", remedy)
        self._sweep(certain=True)
        self.unclear = [operation for operation in self.operations if self._unclear(operation) is not None]
        self._sweep(certain=False)
        while self._join_unknown():
            self._sweep(certain=False)
        for operation in self.operations:
            self._check_unknown(operation)
            for one in (operation.result, *(variable for _, variable in operation.args)):
                if self._of(one) is None:
                    self._equal(one, self._new(UNITS))
        self._sweep(certain=True)
        self._check_heads()
        for position in self.products:
            left, right = self.kinds.records[position].args
            square, wide = (str(self._of(self.variables[k][1])) for k in (left, right))
            if not self.kinds.upright(right)[1] and (not share(square) or share(wide) not in {0, share(square)}):
                raise self._product_error(position, left, right)

    def _sweep(self, *, certain: bool) -> None:
        """Solve pointwise operations, forwards and backwards in turn, until nothing more is known."""
        order = self.operations
        changed = quiet = 0
        while quiet < 2:
            changed = sum([self._step(operation, certain=certain) for operation in order])
            quiet = 0 if changed else quiet + 1
            order = order[::-1]

    def _step(self, operation: Elementwise, *, certain: bool) -> bool:
        """Whether an operation told something new; ``certain``: of what no other solution is possible."""
        sizes = [self._of(variable) for _, variable in operation.args]
        result = self._of(operation.result)
        if result == ONE:
            return self._bind(operation, ONE)
        known = next((size for size in sizes if size not in (None, ONE)), None)
        if known is None and all(size == ONE for size in sizes):
            return self._bind_result(operation, ONE)
        if known is not None:
            told = self._bind_result(operation, known)
            return (not certain and self._bind(operation, known)) or told
        if result is not None and not certain:
            return self._bind(operation, result)
        return False

    def _bind_result(self, operation: Elementwise, size: str) -> bool:
        had = self._of(operation.result)
        if not self._equal(operation.result, self._new(size)) and had != size:
            raise self._conflict(operation)
        self._check_sizes(operation, size)
        return had is None

    def _bind(self, operation: Elementwise, size: str) -> bool:
        """Give what is not known of the arguments a size."""
        self._check_sizes(operation, size)
        told = False
        for arg, variable in operation.args:
            if self._of(variable) is None and not self._blocked(variable):
                self._equal(variable, self._new(size))
                self.first.setdefault(arg, operation.position)
                told = True
        return told

    def _blocked(self, variable: int) -> bool:
        """Whether a variable is the result of an operation of which nothing tells whether it is one number a step."""
        root = self._root(variable)
        return any(self._root(each.result) == root and self._unclear(each) is not None for each in self.unclear)

    def _unclear(self, operation: Elementwise) -> int | None:
        """The argument whose size is not told, where it meets a single number of which it may be the like."""
        sizes = {self._of(variable) for _, variable in operation.args}
        if self._of(operation.result) is not None or ONE not in sizes or sizes - {None, ONE}:
            return None
        ops = self.kinds.ops
        free = [arg for arg, variable in operation.args if self._of(variable) is None]
        if any(ops[arg] == "parameter" and not self.kinds.is_single(arg) for arg in free):
            return None
        given = [arg for arg, variable in operation.args if self._of(variable) is not None]
        like = ops[operation.position] in ("add", "sub") and any(ops[arg] == "product" for arg in given)
        return next((arg for arg in free if ops[arg] == "parameter" or (like and ops[arg] == "product")), None)

    def _check_unknown(self, operation: Elementwise) -> None:
        arg = self._unclear(operation)
        if arg is None:
            return
        kinds = self.kinds
        single = next(one for one, variable in operation.args if self._of(variable) == ONE)
        record = kinds.records[arg]
        owner = kinds.say(arg if kinds.ops[arg] == "parameter" else self._parameters(record.args[0])[0])
        group, _, member = owner.partition(".")
        written = [f"Members({member}={text})" if member else text for text in ("Size(1)", 'Size("H")')]
        remedy = f"Write {group}: {written[0]} or {group}: {written[1]}"
        if {owner, group} & kinds.declared:
            remedy = f'Add size=1 or size="H" to what the annotation says of {owner}'
        raise kinds.error(
            operation.position,
            f"{kinds.say(single)} is one number a step, and nothing tells whether {kinds.say(arg)} has 1 or H elements",
            remedy,
        )

    def _check_sizes(self, operation: Elementwise, size: str) -> None:
        for _, variable in operation.args:
            if self._of(variable) not in (None, ONE, size):
                raise self._conflict(operation)
            if size == ONE and self._of(variable) not in (None, ONE):
                raise self._conflict(operation)

    def _conflict(self, operation: Elementwise) -> Exception:
        """Two sizes meet: in the arguments, or in an argument and what the result is used as."""
        kinds = self.kinds
        known = [(arg, self._of(variable)) for arg, variable in operation.args]
        known = [(arg, size) for arg, size in known if size not in (None, ONE)]
        sizes = dict.fromkeys(size for _, size in known)
        if len(sizes) < 2:
            known = [*known[:1], (operation.position, self._of(operation.result))]
        (one, one_size), other = known[0], next(each for each in known if each[1] != known[0][1])
        if kinds.ops[other[0]] == "parameter" or (other[1] == INPUTS and one_size != INPUTS):
            (one, one_size), other = other, (one, one_size)
        return kinds.error(operation.position, *self._two_sizes(one, str(one_size), other[0], str(other[1])))

    def _two_sizes(self, one: int, size: str, other: int, wanted: str) -> tuple[str, str]:
        kinds = self.kinds
        name, beside = kinds.say(one), kinds.say(other)
        fact = f"{name} has {count(size)}, but {beside} has {wanted}"
        if kinds.ops[one] == "parameter":
            if kinds.annotated(one) is not None:
                return f"{fact}; its annotation says so", f"Write {name.split('.')[0]}: {_size(wanted)}, or remove it"
            group = name.split(".")[0]
            line = kinds.records[self.first[one]].line if one in self.first else kinds.records[one].line
            return f"parameter {fact} (line {line} uses it)", f"Use two parameters, such as {group}.a and {group}.b"
        if wanted == UNITS and size == INPUTS:
            frame = next(record.name for op, record in zip(kinds.ops, kinds.records, strict=True) if op == "input")
            remedy = f"Bring the frame to the hidden width by a parameter first: W @ {frame}"
        else:
            remedy = f"Bring one to the size of the other by a matrix, such as P @ {name}"
        states = [(one, wanted), (other, size)]
        states = [each for each in states if kinds.ops[each[0]] == "state" and kinds.annotated(each[0]) is None]
        for at, needed in states[:1]:
            text = next((part for part, own in self.parts.items() if own == needed), needed)
            remedy += f"; or write {kinds.say(at)}: {_size(text)}"
        return fact, remedy

    def _join_unknown(self) -> bool:
        """Give the values of pointwise operations of which nothing is known one size each; whether there were any."""
        found = False
        for operation in self.operations:
            every = [operation.result, *(variable for _, variable in operation.args)]
            roots = {self._root(variable) for variable in every}
            if len(roots) > 1 and all(self.size[one] is None for one in roots) and not any(map(self._blocked, every)):
                found = all(self._equal(every[0], one) for one in every[1:])
        return found

    def _check_heads(self) -> None:
        """Every matrix of heads knows how many; vectors beside one are single numbers."""
        kinds = self.kinds
        for position in sorted(reached(kinds.records, self.outputs)):
            record, variables = kinds.records[position], self.variables[position]
            if kinds[position] is not Kind.HEADS:
                continue
            if self._of(variables[1]) is None:
                raise kinds.error(
                    position,
                    f"nothing tells how many heads {kinds.say(position)} has",
                    "Annotate the state or the parameter that it meets, as in S: Heads(4); for all pairs of units "
                    "write columns(v) + Z, with Z: Fixed(0.0, size=Heads(1))",
                )
            for arg in record.args if record.op not in ("rows", "columns", "matrix") else ():
                if kinds[arg] is Kind.VECTOR and self._of(self.variables[arg][0]) != ONE:
                    heads = next((one for one in record.args if kinds[one] is Kind.HEADS), position)
                    raise kinds.error(position, *beside_heads(kinds.say(arg), kinds.say(heads)))


def count(size: str) -> str:
    """A number of elements, as messages have it."""
    return "1 element" if size == ONE else f"{size} elements"


def _size(text: str) -> str:
    return f"Size({text})" if text.isdigit() else f'Size("{text}")'
