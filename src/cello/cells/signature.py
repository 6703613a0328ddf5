"""Read a cell's signature: its arguments, and what their annotations say of first values, bounds and fixed tensors."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from types import CodeType
from typing import Any

from cello.cells.annotations import Heads, Parts, Size, Sized, size_or_heads
from cello.cells.graph import Graph, Node, Shape, moved, reached
from cello.cells.hints import evaluated
from cello.cells.operands import Condition, is_tensor
from cello.cells.symbol import Symbol
from cello.cells.trace import RUNNING, Tracer, said
from cello.cells.values import FIRST, FIXED, LARGEST_SEED, LEARNED, STATE, Declared, faults_of
from cello.errors import CellError

SIZES, INDICES = ("D", "H"), ("i", "j")

Value = float | Callable[..., Any]
"""A number, or a function of some of i, j, D and H that gives the element of row i and column j."""


class Learned:
    """Annotates a learned parameter with its first values and bounds, or a state whose first value is learned.

    >>> b = Learned(1.0)  # every bias of the group b begins at 1; Members tells its gates apart
    >>> tau = Learned(1.0, 100.0, log=True, positive=True)  # log-uniform, and kept positive
    >>> U = Learned(lambda i, j: where(i > j, 0, where(j > i, 0, 1)))  # doctest: +SKIP

    Args:
        values: one value, a number or a function of some of the row ``i``, the column ``j`` and the sizes ``D`` and
            ``H``, in which :func:`~cello.cells.values.uniform` and ``normal`` draw; or two numbers or functions of the
            sizes, between which the first values are drawn; or none: the model's settings say.
        log: draw uniformly on a logarithmic scale.
        positive: keep the parameter positive, as softplus(r) of a parameter r.
        bounds: keep it within (low, high), of which one may be None: low + softplus(r), high - softplus(r), or
            low + (high - low) sigmoid(r).
        size: as :class:`~cello.cells.annotations.Size` has it, two as ``("H", 8)``, or ``Heads(n)``.
    """

    def __init__(
        self,
        *values: Value,
        log: bool = False,
        positive: bool = False,
        bounds: tuple[float | None, float | None] | None = None,
        size: Sized | None = None,
    ) -> None:
        low, high = (0.0, None) if positive else bounds or (None, None)
        self.low, self.high = (None if end is None else float(end) for end in (low, high))
        self.values, self.log, self.size = values, log, size_or_heads(size)
        self.fault = self._fault(positive and bounds is not None)

    @property
    def is_size_alone(self) -> bool:
        """Whether it says nothing of values and bounds."""
        return not self.values and self.low is None and self.high is None and self.size is not None

    def _fault(self, both: bool) -> str:
        """What is wrong, if anything; whoever reads the annotation knows the place."""
        if len(self.values) > 2 or (self.log and len(self.values) != 2):
            got = f"{len(self.values)} values{' with log=True' if self.log else ''}"
            return f"got {got}; give one first value, or the low and the high end of an interval"
        if both:
            return "got both positive and bounds; give bounds=(0, high) alone"
        if self.low is not None and self.high is not None and not self.low < self.high:
            return f"got bounds=({self.low:g}, {self.high:g}); give a low end below the high"
        return ""


class Scalar(Learned):
    """Annotates an argument that is a single learned scalar: ``def fastgrnn(x, h, W, U, b, zeta: Scalar)``.

    ``zeta: Scalar(1.0)`` begins at 1; it takes all that :class:`Learned` takes.
    """


class Fixed:
    """Annotates a tensor that is not learned, or a state that begins at a value other than zero.

    >>> J = Fixed(lambda H: 1 / H)  # J @ v is the mean of v over units
    >>> m = Fixed(-math.inf)  # a state, such as sLSTM's stabiliser

    Args:
        value: a number, or a function of some of the row ``i``, the column ``j`` and the sizes ``D`` and ``H``; its
            shape, a matrix or a vector, follows from its use, as a parameter's does.
        size: as :class:`~cello.cells.annotations.Size` has it, two as ``("H", 8)``, or ``Heads(n)``.
        seed: of ``uniform`` and ``normal`` in the function, which then give the same numbers on every machine.
    """

    def __init__(self, value: Value, *, size: Sized | None = None, seed: int | None = None) -> None:
        self.values, self.size, self.seed = (value,), size_or_heads(size), seed


class Members:
    """Annotates a group of parameters whose members differ: ``b: Members(f=Learned(1.0), i=Learned(-1.0))``.

    Members that are not named are as without an annotation.
    """

    def __init__(self, **members: Learned | Fixed | Size | Heads | type[Scalar]) -> None:
        self.members = members


Annotation = Learned | Fixed


@dataclass(frozen=True)
class Signature:
    """A cell function's arguments: names, those that are single numbers, and annotations by argument or W.i.

    ``sizes`` are the shapes that annotations give states and parameters, of a matrix its rows; ``parts`` those of the
    frame, with their sizes.
    """

    arguments: tuple[str, ...]
    scalars: frozenset[str]
    annotations: Mapping[str, Annotation]
    sizes: Mapping[str, Shape]
    parts: tuple[tuple[str, str], ...]

    def by_index(self, index: str) -> frozenset[str]:
        """What has values of its own for each row, i, so that it is no single number, or for each column, j."""
        given = [(name, value) for name, own in self.annotations.items() for value in own.values]
        return frozenset(
            name for name, value in given if callable(value) and index in inspect.signature(value).parameters
        )


def signature_of(function: Callable[..., Any], tracer: Tracer) -> Signature:
    """The arguments of a cell function.

    Raises:
        CellError: arguments or annotations that no cell has.
    """
    parameters = inspect.signature(function).parameters.values()
    for parameter in parameters:
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or parameter.default is not parameter.empty:
            raise tracer.error(
                f"argument {parameter} is not a plain argument",
                "Arguments are the frame, the states and the parameters, without *, / and defaults; write numbers into "
                "the equations",
            )
    if [*inspect.signature(function).parameters][:1] == ["self"]:
        raise tracer.error(
            "the first argument is self, of a method", "Write a function outside of a class, def NAME(x, h, ...)"
        )
    if len(parameters) < 2:
        raise tracer.error(
            f"{len(parameters)} arguments are too few", "Start with the frame and a state, as in def NAME(x, h, ...)"
        )
    found: dict[str, Annotation | Size | Heads] = {}
    scalars, parts = set[str](), tuple[tuple[str, str], ...]()
    for number, parameter in enumerate(parameters):
        annotation = evaluated(function, parameter.name, parameter.annotation, tracer)
        kind = getattr(annotation, "__name__", str(annotation)).rsplit(".")[-1]
        if kind in ("float", "int"):
            raise tracer.error(
                f"argument {parameter.name} is annotated {kind}",
                f"Write {parameter.name}: Scalar for a single learned number, and no annotation for a vector or a "
                f"matrix",
            )
        if kind == "Scalar" or isinstance(annotation, Scalar):
            scalars.add(parameter.name)
        if isinstance(annotation, Members):
            own = annotation.members.items()
            scalars |= {f"{parameter.name}.{name}" for name, one in own if one is Scalar or isinstance(one, Scalar)}
        if isinstance(annotation, Parts):
            parts = _parts(parameter.name, annotation, tracer, is_frame=number == 0)
        found |= _annotations(parameter.name, annotation, tracer)
    arguments = tuple(parameter.name for parameter in parameters)
    declared = {target: own for target, own in found.items() if isinstance(own, Learned | Fixed)}
    return Signature(arguments, frozenset(scalars), declared, _sizes(arguments[0], found, parts, tracer), parts)


def _parts(name: str, annotation: Parts, tracer: Tracer, *, is_frame: bool) -> tuple[tuple[str, str], ...]:
    if not is_frame:
        raise tracer.error(
            f"{name} is annotated Parts, but it is not the frame", "Annotate the first argument with its parts"
        )
    if fault := annotation.fault():
        raise tracer.error(*_fact_and_remedy(f"the annotation of {name}, Parts,", fault))
    return annotation.sizes()


def _sizes(
    frame: str, found: Mapping[str, Annotation | Size | Heads], parts: tuple[tuple[str, str], ...], tracer: Tracer
) -> dict[str, Shape]:
    """The shapes that annotations give."""
    known, shapes = {f"{frame}.{part}": size for part, size in parts}, dict[str, Shape]()
    for target, own in found.items():
        one = own if isinstance(own, Size | Heads) else own.size
        if one is None:
            continue
        if target == frame:
            raise tracer.error(
                f"{target} is the frame, but annotated {one!r}", "The frame has D elements; name its parts with Parts"
            )
        if isinstance(own, Scalar):
            raise tracer.error(f"{target} is annotated Scalar, with a size", f"Write {target}: Scalar, or a {one!r}")
        if fault := one.fault(known):
            raise tracer.error(*_fact_and_remedy(f"the annotation of {target}, {one!r},", fault))
        shapes[target] = one.shape(known)
    return shapes


def _fact_and_remedy(place: str, fault: str) -> tuple[str, str]:
    fact, _, remedy = fault.partition("; ")
    return f"{place} {fact}", remedy[0].upper() + remedy[1:]


EXAMPLES = {"Members": "Members(f=Learned(1.0))", "Size": "Size(16)", "Heads": "Heads(4)", "Parts": 'Parts("value")'}


def _annotations(name: str, annotation: Any, tracer: Tracer) -> dict[str, Annotation | Size | Heads]:
    kind = getattr(annotation, "__name__", annotation)
    if kind in ("Learned", "Fixed", *EXAMPLES):
        example = EXAMPLES.get(kind, f"{kind}(1.0)")
        raise tracer.error(f"{name} is annotated {kind} without a value", f"Write {name}: {example}")
    found = {name: annotation}
    if isinstance(annotation, Members):
        found = {f"{name}.{member}": own for member, own in annotation.members.items() if own is not Scalar}
        for target, own in found.items():
            if not isinstance(own, Learned | Fixed | Size | Heads):
                raise tracer.error(
                    f"the annotation of {name} has {target.removeprefix(f'{name}.')}={own!r}",
                    "Give each member a Learned, a Scalar, a Fixed, a Size or Heads, as in Members(f=Learned(1.0))",
                )
    for target, own in found.items():
        if isinstance(own, Learned) and own.fault:
            raise tracer.error(*_fact_and_remedy(f"the annotation of {target}, {type(own).__name__},", own.fault))
    return {target: own for target, own in found.items() if isinstance(own, Learned | Fixed | Size | Heads)}


def declared_by(signature: Signature, graph: Graph, tracer: Tracer) -> tuple[Declared, ...]:
    """What the annotations say, of each parameter and state, as data.

    Raises:
        CellError: an annotation that fits nothing in the equations, or has a value that cannot be.
    """
    shapes = {str(node.name): node.shape for node in graph.parameters()}
    found: list[Declared] = []
    for name, annotation in signature.annotations.items():
        for target, kind, shape in _targets(name, annotation, graph, shapes, signature, tracer):
            if target in shapes and isinstance(annotation, Learned) and annotation.is_size_alone:
                continue
            found.append(_declared(target, kind, shape, annotation, tracer))
    every = {one.name for one in found if one.kind == FIXED}
    if not any("H" in shape for name, shape in shapes.items() if name not in every):
        fixed = (bool(shapes) and shapes.keys() <= every) or any("H" in shape for shape in shapes.values())
        raise tracer.error(
            f"{'every matrix and vector is fixed' if fixed else 'no parameter has H elements'}, so nothing tells the "
            f"number of units",
            "Learn one of them, such as a bias b"
            if fixed
            else "Use a parameter of H rows, such as U @ h; or make the "
            "output of H elements of smaller states, as in h = O.a @ a + O.b @ b",
        )
    return tuple(sorted(found, key=lambda one: one.name))


def _targets(
    name: str,
    annotation: Annotation,
    graph: Graph,
    shapes: Mapping[str, Shape],
    signature: Signature,
    tracer: Tracer,
) -> list[tuple[str, str, Shape]]:
    """The parameters, or the state, that an annotation is about: name, kind and shape."""
    kind = LEARNED if isinstance(annotation, Learned) else FIXED
    if name in graph.states:
        own = graph.nodes[graph.outputs[graph.states.index(name)]].shape
        if isinstance(annotation, Learned) and annotation.low is None and annotation.high is None:
            return [(name + FIRST, LEARNED, own)]
        if isinstance(annotation, Fixed):
            return [(name, STATE, own)]
        raise tracer.error(
            f"{name} is a state, and its first value has bounds", f"Write {name}: Learned(0.0), without bounds"
        )
    if name == signature.arguments[0]:
        raise tracer.error(
            f"{name} is the frame, but annotated {type(annotation).__name__}",
            "Annotate states and parameters; the frame is given",
        )
    targets = [one for one in shapes if one == name or one.split(".")[0] == name]
    if not targets:
        group, _, member = name.partition(".")
        if group in graph.states or group == signature.arguments[0]:
            raise tracer.error(
                f"{group} is no parameter, but its annotation has the member {member}",
                f"Write {group}: Fixed(...) or Learned(...) for the first value of a state",
            )
        members = ", ".join(one for one in shapes if one.split(".")[0] == group) or "none"
        raise tracer.error(
            f"the annotation of {group} names {name}, which the equations do not use; they use {members}",
            "Name members that the equations use",
        )
    named = [one for one in targets if one == name or one not in signature.annotations]
    return [(one, kind, shapes[one]) for one in named]


def _declared(name: str, kind: str, shape: Shape, annotation: Annotation, tracer: Tracer) -> Declared:
    low, high = (annotation.low, annotation.high) if isinstance(annotation, Learned) else (None, None)
    nodes = _nodes(name, annotation, tracer.cell, tracer.code)
    if not nodes and kind == LEARNED and name.endswith(FIRST):
        nodes = (Node("constant", (), (), value=0.0),)
    found = Declared(name, kind, shape, nodes, low, high, _seed(name, annotation, tracer))
    for fault in faults_of(found):
        fact, _, remedy = fault.partition("; ")
        raise tracer.error(
            f"the declared value of {name.removesuffix(FIRST)} {fact}",
            f"{remedy[0].upper()}{remedy[1:]}" if remedy else "Correct its annotation",
        )
    return found


def _seed(name: str, annotation: Annotation, tracer: Tracer) -> int | None:
    seed = annotation.seed if isinstance(annotation, Fixed) else None
    if seed is None or (isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= LARGEST_SEED):
        return seed
    raise tracer.error(f"the annotation of {name} has seed={seed!r}", "Give a whole number from 0, as in seed=1")


def _nodes(name: str, annotation: Annotation, cell: str, code: CodeType) -> tuple[Node, ...]:
    """A declared value as nodes, of which the last is the value."""
    values = annotation.values
    if not values:
        return ()
    tracer = Tracer(cell, code)
    tracer.declares = True
    token = RUNNING.set(tracer)
    try:
        ends = [_traced(name, value, tracer) for value in values]
        log = isinstance(annotation, Learned) and annotation.log
        at = ends[0] if len(ends) == 1 else _between(tracer, ends, log)
    finally:
        RUNNING.reset(token)
    live = sorted(reached(tracer.records, [at]))
    place = {before: after for after, before in enumerate(live)}
    found = [moved(tracer.records[k], place) for k in live]
    return tuple(Node(n.op, n.args, (), n.name if not n.args else None, n.value) for n in found)


def _between(tracer: Tracer, ends: list[int], log: bool) -> int:
    low, high = (tracer.write("log", (end,)) if log else end for end in ends)
    drawn = tracer.write("uniform", (low, high), value=0.0)
    return tracer.write("exp", (drawn,)) if log else drawn


def _traced(name: str, value: Value, tracer: Tracer) -> int:
    """The position of a number, or of what a function gives for symbols of the sizes and indices that it takes."""
    if isinstance(value, Real) and not isinstance(value, bool):
        return _number(name, float(value), tracer)
    if not callable(value):
        several = is_tensor(value) or isinstance(value, list | tuple)
        table = "; of several numbers lambda i: sum(where(i == k, v, 0) for k, v in enumerate(numbers))" * several
        raise tracer.error(
            f"the annotation of {name} has {said(value) if several else repr(value)} as a value",
            f"Give a number, or a function such as lambda i, j, D, H: 1 / H{table}",
        )
    own = inspect.signature(value).parameters.values()
    wanted = [one.name for one in own if one.default is one.empty]
    if taken := [one.name for one in own if one.default is not one.empty and one.name in (*SIZES, *INDICES)]:
        raise tracer.error(
            f"the function in the annotation of {name} has a default for {taken[0]}, which is "
            f"{'a size' if taken[0] in SIZES else 'an index'}",
            f"Give the number another name, as in lambda i, j, k={taken[0]}: ...",
        )
    if extra := [one for one in wanted if one not in (*SIZES, *INDICES)]:
        raise tracer.error(
            f"the function in the annotation of {name} takes {', '.join(extra)}",
            "It may take i and j, the row and column of an element, and D and H, the sizes",
        )
    given = {one: Symbol(tracer, tracer.write("size" if one in SIZES else "index", name=one)) for one in wanted}
    try:
        result = value(**given)
    except CellError:
        raise
    except Exception as error:
        raise tracer.error(
            f"the function in the annotation of {name} raised {type(error).__name__}: {error}",
            "It gives one element, from its row i and column j, by the language's own functions",
        ) from error
    if isinstance(result, Symbol):
        return result._cello_position
    if isinstance(result, Real) and not isinstance(result, bool):
        return _number(name, float(result), tracer)
    if isinstance(result, Condition):
        raise tracer.error(
            f"the function in the annotation of {name} gives the comparison {result!r}",
            f"Write where({result!r}, 1, 0) for a number",
        )
    raise tracer.error(
        f"the function in the annotation of {name} gives a {type(result).__name__}",
        "It gives one element, from its row i and column j, not a list or an array",
    )


def _number(name: str, value: float, tracer: Tracer) -> int:
    """A number; an infinite one, which data cannot hold, as ∓log 0."""
    if math.isnan(value):
        raise tracer.error(f"the annotation of {name} has NaN as a value", "Give a number")
    if math.isfinite(value):
        return tracer.write("constant", value=value + 0.0)
    low = tracer.write("log", (tracer.write("constant", value=0.0),))
    return low if value < 0 else tracer.write("neg", (low,))
