"""Collect ONNX nodes and constants, and make a checked model of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cello.cells.arrays import Real
from cello.errors import ExportError

try:
    import onnx
    from onnx import checker, helper, numpy_helper
except ImportError:
    onnx = None

OPSET, IR_VERSION = 18, 8
"""The oldest versions in which all is said that Cello writes, so that old runtimes read it too."""

TYPES: dict[str, Any] = {
    "float": np.float32,
    "double": np.float64,
    "int8": np.int8,
    "int32": np.int32,
    "int64": np.int64,
    "bool": np.bool_,
}
_ELEMENTS = {"float": 1, "double": 11, "int8": 3, "int32": 6, "int64": 7, "bool": 9}
"""What ONNX calls these types."""

Array = NDArray[np.float32]


def need_onnx() -> None:
    """Refuse where onnx is not installed.

    Raises:
        ExportError: what to install.
    """
    if onnx is None:
        raise ExportError("ONNX export needs onnx, which is not installed; give: pip install 'cello-rnn[onnx]'")


class Writer:
    """A graph in the making: each call adds a node and returns the names of its outputs.

    The body of a loop is a writer of its own, from ``body``: it can read every name of the graph around it, and its
    constants stand there. With ``int8`` matrices of weights are stored as whole numbers from -127 to 127 and a scale
    for each row; runtimes compute the float weights once, when they load the model. ``real`` is the type of numbers
    whose type is not given; of doubles that floats hold exactly, as weights are, the floats are stored.
    """

    def __init__(self, around: Writer | None = None, *, int8: bool = False, real: Real = "float") -> None:
        self.nodes: list[Any] = []
        self.int8 = int8
        self.real: Real = real if around is None else around.real
        self._root: Writer = self if around is None else around._root
        if around is None:
            self._constants: dict[tuple[Any, ...], str] = {}
            self._doubles: dict[str, str] = {}  # of constants of floats
            self._tensors: list[Any] = []
            self._count = 0

    def body(self) -> Writer:
        """A writer for the body of a loop within this graph."""
        return Writer(self)

    def fresh(self, hint: str) -> str:
        """A name that nothing has yet."""
        root = self._root
        root._count += 1
        return f"{hint}_{root._count}"

    def constant(self, value: ArrayLike, dtype: str = "") -> str:
        """The name of a constant, of type ``real`` unless given; the same values are kept once."""
        if not dtype and self.real == "double":
            return self._double(np.asarray(value, np.float64))
        dtype = dtype or "float"
        with np.errstate(over="ignore"):  # a number beyond float32 is infinite, as it is in every other back end
            array = np.ascontiguousarray(np.asarray(value).astype(TYPES[dtype])).reshape(np.shape(value))
        key = (dtype, array.shape, array.tobytes())
        root = self._root
        if key not in root._constants:
            root._constants[key] = self.fresh("constant")
            root._tensors.append(numpy_helper.from_array(array, root._constants[key]))
        return root._constants[key]

    def _double(self, value: NDArray[np.float64]) -> str:
        """The name of a constant of doubles; where floats hold them, those are stored, and cast once at loading."""
        with np.errstate(over="ignore"):
            short = value.astype(np.float32)
        if value.size == 1 or not np.array_equal(short, value):
            return self.constant(value, "double")
        root, name = self._root, self.constant(short, "float")
        if name not in root._doubles:
            root._doubles[name] = root.cast(name, "double")
        return root._doubles[name]

    def weight(self, matrix: Array, units: int = 0) -> str:
        """The name of a matrix of weights; ``units`` is the axis along which each unit has its row."""
        if not self.int8:
            return self.constant(matrix)
        scale = np.abs(matrix).max(axis=1 - units, keepdims=True) / np.float32(127)
        scale[scale == 0] = 1
        whole = self.constant(np.rint(matrix / scale), "int8")
        # the product is a float too: what the weights of 8 bits stand for is the same in every form
        return self.as_real(self.write("Mul", self.cast(whole, "float"), self.constant(scale, "float")))

    def sparse(self, matrix: ArrayLike) -> str:
        """The name of a constant that is mostly zeros: the other values are stored, and put in place at loading."""
        array = np.asarray(matrix)
        places = np.flatnonzero(array)
        index = self.cast(self.constant(places, "int32"), "int64")
        zero = {} if self.real == "float" else {"value": numpy_helper.from_array(np.zeros(1))}
        zeros = self.write("ConstantOfShape", self.integers(array.size), **zero)
        flat = self.write("ScatterElements", zeros, index, self.constant(array.reshape(-1)[places]))
        return self.reshape(flat, *array.shape)

    def integers(self, *values: int) -> str:
        """The name of a constant vector of whole numbers: a shape, axes, a start."""
        return self.constant(values, "int64")

    def write(self, op: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """Add a node with one output and return its name, ``to`` where given."""
        return self.write_many(op, inputs, [to or self.fresh(op.lower())], **attributes)[0]

    def write_many(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> list[str]:
        """Add a node with these outputs and return their names; an empty name is an output nobody needs."""
        self.nodes.append(helper.make_node(op, list(inputs), list(outputs), **attributes))
        return list(outputs)

    def split(self, value: str, sizes: Sequence[int], axis: int = -1) -> list[str]:
        """The parts of a value along an axis."""
        if len(sizes) == 1:
            return [value]
        names = [self.fresh("part") for _ in sizes]
        return self.write_many("Split", [value, self.integers(*sizes)], names, axis=axis)

    def cast(self, value: str, dtype: str, to: str | None = None) -> str:
        """A value as another type."""
        node = helper.make_node("Cast", [value], [to or self.fresh("cast")], to=_ELEMENTS[dtype])
        self.nodes.append(node)
        return str(node.output[0])

    def as_real(self, value: str) -> str:
        """A float as the type that is computed with."""
        return value if self.real == "float" else self.cast(value, self.real)

    def reshape(self, value: str, *shape: int, to: str | None = None) -> str:
        """A value in another shape; 0 keeps a size, -1 is what is left."""
        return self.write("Reshape", value, self.integers(*shape), to=to)

    def concat(self, *values: str, axis: int = -1, to: str | None = None) -> str:
        """Values joined along an axis."""
        return values[0] if len(values) == 1 and to is None else self.write("Concat", *values, axis=axis, to=to)

    def scan(self, body: Writer, states: Mapping[str, str], steps: Mapping[str, str], **made: Any) -> list[str]:
        """Run a body over the first axis and return the last states, then the outputs of all steps, stacked.

        Args:
            body: computes one step
            states: what a state is called inside, and its first value
            steps: what one step of a sequence is called inside, and the sequence
            made: ``new`` the names inside of the new states, ``out`` of the outputs, ``kinds`` the type of each name
                of the body's inputs where it is not ``real``, ``reverse`` to begin at the last step
        """
        new, out, reverse = made["new"], made["out"], int(made["reverse"])
        kinds = made.get("kinds", {})
        inner = helper.make_graph(
            body.nodes,
            self.fresh("body"),
            [_value(name, kinds.get(name, self.real), None) for name in (*states, *steps)],
            [_value(name, self.real, None) for name in (*new, *out)],
        )
        return self.write_many(
            "Scan",
            [*states.values(), *steps.values()],
            [self.fresh("scanned") for _ in (*new, *out)],
            body=inner,
            num_scan_inputs=len(steps),
            scan_input_directions=[reverse] * len(steps),
            scan_output_directions=[reverse] * len(out),
        )

    def model(
        self,
        inputs: Mapping[str, tuple[str, Sequence[int | str]]],
        outputs: Mapping[str, tuple[str, Sequence[int | str]]],
        name: str,
        doc: str,
        metadata: Mapping[str, str],
    ) -> bytes:
        """The graph as a checked model; inputs and outputs are given as type and shape, a word for a free size."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [_value(key, *kind) for key, kind in inputs.items()],
            [_value(key, *kind) for key, kind in outputs.items()],
            self._tensors,
            doc_string=doc,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="cello")
        model.doc_string = doc
        helper.set_model_props(model, dict(metadata))
        checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString()
        return content


def _value(name: str, kind: str, shape: Sequence[int | str] | None) -> Any:
    return helper.make_tensor_value_info(name, _ELEMENTS[kind], shape)
