"""Write a trained model, front end included, as one C99 header and one source file that need nothing else."""

from __future__ import annotations

import re
from importlib import resources
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cello.cells.arrays import REALS, Precision, Real
from cello.cells.specialise import multiplying, specialised
from cello.compiler.c99.step import step_text
from cello.compiler.c99.units import StepText
from cello.compiler.c99.wider import Wider
from cello.compiler.expression import FURTHER, equations
from cello.compiler.identifiers import comment
from cello.compiler.text import STYLE
from cello.errors import ModelError
from cello.export.c99_front_end import front_end_lines
from cello.export.c_text import blocks, chosen, macros, padded, static_array, string
from cello.export.quantise import quantise, weight_bytes
from cello.export.received import without_losses
from cello.export.stream import StreamSettings
from cello.features.config import FeatureConfig
from cello.features.frames import frame_count, samples_of
from cello.models.parts import Array, ModelParts

ROWS = (16, 8, 4)
"""How many rows of a matrix may stand in a block."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,50}")
_TAKEN = ("PADDED", "STATIC")
"""What ``_FEATURES`` follows in macros of the source file."""
_PADDING = 16
"""Floats after an array that vectors may read or write beyond its end."""
BYTES: dict[Real, int] = {"float": 4, "double": 8}
WORDS: dict[Real, dict[str, str]] = {
    "float": {
        "NUMBER": "float",
        "NUMBERS": "floats",
        "ONE": "1.0f",
        "WEIGHTS": "load",
        "ADD_OUTPUTS": "add_product",
    },
    "double": {
        "NUMBER": "double",
        "NUMBERS": "doubles",
        "ONE": "1.0",
        "WEIGHTS": "widened",
        "ADD_OUTPUTS": "add_outputs",
    },
}
"""What words of the templates mean for each type."""


class C99Text(NamedTuple):
    """The texts of ``NAME.h`` and ``NAME.c``."""

    header: str
    source: str


def write_c99(
    parts: ModelParts,
    features: FeatureConfig,
    labels: tuple[str, ...],
    name: str,
    *,
    int8: bool = False,
    settings: StreamSettings | None = None,
    precision: Precision = "float32",
) -> C99Text:
    """The model as ``NAME.h`` and ``NAME.c``: samples in, the scores of every step out, all memory in one struct.

    With ``int8`` every matrix is rounded to 8 bits with a scale for each row (see :mod:`cello.export.quantise`).
    In float64 all that is computed is double, by the functions of the C library; what is stored and handed over stays
    float.

    Raises:
        ModelError: a model that needs the future; or parts, features, labels and name that do not fit each other.
        CellError: an operation that C99 has no row for.
    """
    parts = without_losses(parts)
    refuse(parts, features, labels, name)
    return _Writer(parts, features, labels, name, int8, settings or StreamSettings(), REALS[precision]).texts()


def refuse(parts: ModelParts, features: FeatureConfig, labels: tuple[str, ...], name: str) -> None:
    """Refuse what cannot be written.

    Raises:
        ModelError: why.
    """
    check_name(name)
    if not parts.causal:
        raise ModelError("the model is bidirectional, so a stream would need its end; train model.bidirectional=false")
    if features.normalisation == "clip":
        raise ModelError(
            "features.normalisation=clip needs the whole clip, which a stream does not have; "
            "train features.normalisation=corpus"
        )
    if (features.dimensions, len(labels)) != (parts.dimensions, len(parts.head[1])):
        raise ModelError(
            f"the model takes {parts.dimensions} features and scores {len(parts.head[1])} labels, but it was given a "
            f"front end of {features.dimensions} and {len(labels)} labels; give those it was trained with"
        )
    arrays = [parts.mean, parts.deviation, *parts.head, *(parts.score or ())]
    arrays += [each for layer in parts.layers for direction in layer for each in direction.weights.values()]
    if not all(np.isfinite(each).all() for each in arrays):
        raise ModelError("the model has weights that are NaN or infinite; train it with a lower learning rate")


def check_name(name: str) -> None:
    """Refuse a name that the names of C functions, types and macros cannot begin with.

    Raises:
        ModelError: why.
    """
    if not _NAME.fullmatch(name):
        raise ModelError(
            f"{name!r} cannot begin the names of C functions; use a letter, then letters, digits and _, at most 51"
        )
    if name.upper() in _TAKEN:
        raise ModelError(
            f"{name!r} would define {name.upper()}_FEATURES twice in the C source; use another name, such as my_{name}"
        )


def rows_of(units: int) -> int:
    """How many rows stand in a block: many are fast, unless they make matrices more than an eighth larger.

    >>> rows_of(64), rows_of(100), rows_of(20)
    (16, 16, 4)
    """
    sizes = {rows: -(-units // rows) * rows for rows in ROWS}
    return next(rows for rows in ROWS if sizes[rows] <= 1.125 * min(sizes.values()))


class _Writer:
    def __init__(
        self,
        parts: ModelParts,
        features: FeatureConfig,
        labels: tuple[str, ...],
        name: str,
        int8: bool,
        settings: StreamSettings,
        real: Real,
    ) -> None:
        self.parts, self.features, self.labels, self.name = parts, features, labels, name
        self.int8, self.settings, self.real = int8, settings, real
        self.rows = 16 if int8 else rows_of(parts.hidden)
        self.outputs = parts.output_size()
        self.padded = -(-self.outputs // self.rows) * self.rows
        self.classes = -(-len(labels) // self.rows) * self.rows
        self.inputs = parts.dimensions * parts.frame_stacking
        self.layers = [
            specialised(layer[0].cell, layer[0].weights, parts.inputs(k), parts.hidden)
            for k, layer in enumerate(parts.layers)
        ]
        self.steps = [
            step_text(cell, f"layer_{k}", parts.inputs(k), hidden=parts.hidden, rows=self.rows, int8=int8, real=real)
            for k, (cell, _) in enumerate(self.layers)
        ]
        self.sized = any(step.memory for step in self.steps)
        self.ahead = any(step.frames for step in self.steps)

    def texts(self) -> C99Text:
        header = "\n".join([*self._title(), self._filled(_text("export.c", "api.h"), self._header())])
        return C99Text(self._named(header) + "\n", self._named("\n".join(self._source())) + "\n")

    def _named(self, text: str) -> str:
        renamed = re.sub(r"\bmodel_(?=\w)", f"{self.name}_", text)
        return re.sub(r"\bMODEL_(?=\w)", f"{self.name.upper()}_", renamed)

    @staticmethod
    def _filled(text: str, places: dict[str, list[str]]) -> str:
        for mark, lines in places.items():
            text = text.replace(f"//{mark}", "\n".join(lines))
        return text

    def _title(self) -> list[str]:
        parts = self.parts
        cell = parts.layers[0][0].cell
        step = [f"   {comment(f'{left} = {right}')}" for left, right in equations(cell.graph, STYLE)]
        size = weight_bytes(parts, int8=self.int8)
        return [
            f"/* {len(parts.layers)} layer(s) of {parts.hidden} units of the cell {comment(cell.name)}, pooling "
            f"{parts.pooling}, {len(self.labels)} labels; weights {size} bytes, {'int8' if self.int8 else 'float32'}.",
            *step,
            "",
            *(self._compiled() if self.real == "float" else self._compiled_double()),
        ]

    @staticmethod
    def _compiled() -> list[str]:
        return [
            "   Written by Cello as C99 without any library: cc -std=c99 -O2 -c FILE. It is faster compiled for the",
            "   processor that runs it (-march=native). With -std=c99, without -ffast-math, all give the same bits. */",
        ]

    @staticmethod
    def _compiled_double() -> list[str]:
        return [
            "   Computed in double precision, with float32 weights. Written by Cello as C99 with the mathematics of",
            "   the C library alone: cc -std=c99 -O2 -c FILE, and link with -lm. It is faster compiled for the",
            "   processor that runs it (-march=native). No -ffast-math. */",
        ]

    def _header(self) -> dict[str, list[str]]:
        features, parts = self.features, self.parts
        public = [
            ("RATE_HZ", features.rate_hz),
            ("WINDOW", f"{features.window_samples}    /* samples of a frame */"),
            ("HOP", f"{features.hop_samples}    /* samples from one frame to the next */"),
            ("FEATURES", f"{parts.dimensions}    /* of a frame */"),
            ("STACKED_FRAMES", f"{parts.frame_stacking}    /* frames of a step */"),
            ("DELAY_FRAMES", f"{self._delay()}    /* that must follow a frame before its step has scores */"),
            ("POOLED_STEPS", f"{self._pooled()}    /* that scores are pooled over */"),
            ("CLASSES", len(self.labels)),
        ]
        return {
            "MACROS": macros(public, "MODEL_"),
            "DECISION": self._decision(),
            "AHEAD": self._macro_ahead() if self.ahead else [],
            "REAL": _text("export.c", "real.h" if self.real == "float" else "real_double.h").splitlines(),
            "FIELDS": [f"    {line};" for line in self._fields()],
        }

    def _macro_ahead(self) -> list[str]:
        each = BYTES[self.real] * (self.inputs + self._ahead_floats())
        return _text("export.c", "ahead.h").replace("BYTES", f"{each} bytes").splitlines()

    def _delay(self) -> int:
        return self.features.delta_frames // 2 if self.features.deltas else 0

    def _pooled(self) -> int:
        features = self.features
        samples = samples_of(1000 * self.settings.window_s, features.rate_hz)
        frames = frame_count(samples, features.window_samples, features.hop_samples)
        return max(1, -(-frames // self.parts.frame_stacking))

    def _decision(self) -> list[str]:
        decide, rate_hz = self.settings.decide, self.features.rate_hz
        step_samples = self.features.hop_samples * self.parts.frame_stacking
        values: list[tuple[str, object]] = [
            ("THRESHOLD", float(decide.threshold)),  # all digits of it: near 1 those of a float are too few
            ("SMOOTHED_STEPS", decide.smoothed_steps(rate_hz, step_samples)),
            ("REFRACTORY_SAMPLES", decide.refractory_samples(rate_hz)),
        ]
        lines = []
        for name, value in values:
            lines += [f"#ifndef MODEL_{name}", f"#define MODEL_{name} {value}", "#endif"]
        return lines

    def _fields(self) -> list[str]:
        features, parts = self.features, self.parts
        static, window, real = features.static_dimensions, self._delay() * 2 + 1, self.real
        fields = ["int held, skipped, frames, next, stacked, slot, kept, ended, waiting", "float previous"]
        fields.append(f"float samples[{features.window_samples}]")
        fields.append(f"model_real analysed[{-(-static // _PADDING) * _PADDING}]")
        if features.deltas:
            fields += [f"model_real features[{window * static}]", f"float deltas[{features.deltas * static}]"]
        more = f" + {self.rows}" if self.sized else ""  # that vectors may reach into
        fields.append(f"{real} input[{'MODEL_AHEAD * ' if self.ahead else ''}{self.inputs}{more}]")
        for k, (cell, _) in enumerate(self.layers):
            memory = self.steps[k].memory
            fields.append(f"{real} layer_{k}[{memory.states if memory else len(cell.states) * self.padded}]")
        if parts.pooling != "last":
            fields.append(f"{real} outputs[{self._pooled() * self.padded}]")
        if parts.pooling == "attention":
            fields.append(f"{real} attention[{self._pooled() + _PADDING}]")
        analysis, layer = self._scratch()
        fields.append(f"union {{ model_real analysis[{analysis}]; {real} layer[{layer}]; }} scratch")
        fields += [f"double sums[{self.classes}]"] if real == "double" else []
        fields.append(f"float scores[{self.classes}]")
        return fields

    def _scratch(self) -> tuple[int, int | str]:
        """Numbers that the front end works with, and those of layers and pooling."""
        window = self.features.window_samples
        points = window if window % 2 else window // 2
        front_end = 4 * (points + _PADDING) + self.features.n_mels + _PADDING
        own = self._own_scratch()
        return front_end, f"{own} + {self._ahead_floats()} * MODEL_AHEAD" if self.ahead else own

    def _own_scratch(self) -> int:
        """Floats in ``scratch`` that one step after another uses; behind them stands what all steps have."""
        layers = max(step.memory.scratch if step.memory else step.scratch * self.padded for step in self.steps)
        most = max(layers, self.padded + self._pooled() + _PADDING)
        return -(-most // _PADDING) * _PADDING

    def _ahead_floats(self) -> int:
        """Floats in ``scratch`` that each step has: its output and its sums."""
        return (1 + max(step.sums for step in self.steps)) * self.padded

    def _source(self) -> list[str]:
        pooling, features = self.parts.pooling, self.features
        vectors = self._vectors()
        wider = Wider(vectors, self.rows if self.real == "float" else 0)
        flags = {
            "MEAN": pooling == "mean",
            "ATTENTION": pooling == "attention",
            "POOLED": pooling != "last",
            "EMPHASIS": features.pre_emphasis > 0,
            "DELTAS": features.deltas > 0,
            "FIRST": any(layer[0].first for layer in self.parts.layers),
            "OVERLAP": features.hop_samples < features.window_samples,
            "STANDARDISED": bool((self.parts.mean != 0).any() or (self.parts.deviation != 1).any()),
            "FLOATS": self.real == "float",
            "DOUBLES": self.real == "double",
        }
        local: list[tuple[str, object]] = [
            ("ROWS", self.rows),
            ("H", f"{self.outputs}    /* {self._counted()} */"),
            ("P", f"{self.padded}    /* {self._counted()}, padded to whole blocks */"),
            ("STATIC_FEATURES", features.static_dimensions),
            ("PADDED_FEATURES", -(-features.static_dimensions // _PADDING) * _PADDING),
        ]
        local += [("CLASSES", self.classes)] if self.real == "double" else []
        local += [("INPUTS", self.inputs), ("AHEAD", "MODEL_AHEAD" if self.ahead else 1)]
        if features.deltas:
            local += [("DELTAS", features.deltas), ("DELTA_FRAMES", features.delta_frames)]
        if features.pre_emphasis:
            local.append(("EMPHASIS", f"((model_real){features.pre_emphasis!r})"))
        return [
            f'#include "{self.name}.h"',
            "",
            "#include <math.h>",
            "#include <string.h>",
            "",
            *macros(local),
            "",
            *([_text("compiler.c99", "lanes_double.h")] if self.real == "double" else []),
            _text("compiler.c99", "runtime.h"),
            vectors,
            *wider.vectors(),
            *wider.function(self._typed("products.h", flags).splitlines()),
            *(self._products_of_outputs(flags) if self.real == "double" and pooling != "last" else []),
            *(wider.function(self._typed("ahead.h", flags).splitlines()) if self.ahead else []),
            *([_text("compiler.c99", "int8.h" if self.real == "float" else "int8_double.h")] if self.int8 else []),
            *([self._typed("sized.h", flags) + "\n"] if self.sized else []),
            *front_end_lines(features, BYTES[self.real]),
            "",
            *(line for k, step in enumerate(self.steps) for line in self._layer(k, step, wider)),
            *self._tables(),
            "",
            self._filled(self._typed("stream.h", flags, "export.c"), self._calls()),
        ]

    def _typed(self, name: str, flags: dict[str, bool], package: str = "compiler.c99") -> str:
        """A template for the type that is computed with."""
        text = chosen(_text(package, name), flags)
        for word, meaning in WORDS[self.real].items():
            text = re.sub(rf"\b{word}\b", meaning, text)
        return text

    def _products_of_outputs(self, flags: dict[str, bool]) -> list[str]:
        """Products with a matrix that is no weights and so of the type that is computed with."""
        text = self._typed("products.h", flags).replace("add_product(", "add_outputs(").replace("widened(", "load(")
        return text.replace("const float *", "const double *").splitlines()[1:]

    def _counted(self) -> str:
        return "elements of an output" if self.sized else "units"

    def _vectors(self) -> str:
        """The text of the vectors, and of those functions on them that these cells use."""
        used = {node.op for cell, _ in self.layers for node in cell.graph.nodes}
        if self.real == "double":
            text = _text("compiler.c99", "doubles.h")
            further = [*macros([("DOUBLE", 1), ("real", "double")]), _text("compiler", "functions.h")]
            return text + "\n".join(further) if used & FURTHER else text
        text = _text("compiler.c99", "vectors.h")
        if "sqrt" in used:
            text += _text("compiler.c99", "root.h")
        if used & FURTHER:
            text += "\n".join([*macros([("DOUBLE", 0), ("real", "float")]), _text("compiler", "functions.h")])
        return text

    def _layer(self, number: int, step: StepText, wider: Wider) -> list[str]:
        lines = []
        cell, weights = self.layers[number]
        multiply = multiplying(cell.graph.nodes)
        for name, value in weights.items():
            if name in step.weights:
                array = np.asarray(value, np.float32)
                if array.ndim == 2 and name not in multiply:
                    array = np.append(array, np.zeros(self.rows, np.float32))  # that vectors reach into
                lines += self._array(step.weights[name], array)
        for state, value in self.parts.layers[number][0].first.items():
            lines += static_array(self.real, f"layer_{number}_first_{cell.states.index(state)}", value)
        return [*lines, "", *wider.function(step.lines), *step.frames, ""]

    def _array(self, name: str, array: Array) -> list[str]:
        """A parameter: a matrix in blocks, a vector padded like a state, or a number."""
        if array.ndim < 2:
            return static_array("float", name, padded(array.reshape(-1), self.rows if array.ndim else 1))
        if not self.int8:
            return static_array("float", name, blocks(array, self.rows))
        rounded = quantise(array)
        scale = padded(rounded.scale, self.rows)
        return [
            *static_array("int8_t", name, _words(rounded.values)),
            *static_array("float", f"{name}_scale", scale),
        ]

    def _tables(self) -> list[str]:
        parts, lines = self.parts, list[str]()
        weight, bias = parts.head
        lines += self._array("head", weight)
        lines += static_array("float", "head_bias", padded(bias, self.rows))
        if (parts.mean != 0).any() or (parts.deviation != 1).any():
            lines += static_array("float", "feature_mean", parts.mean)
            lines += static_array("float", "feature_deviation", parts.deviation)
        if parts.score is not None:
            lines += static_array("float", "attention", parts.score[0])
            lines.append(f"static const float attention_bias = {np.float32(parts.score[1])!s}f;")
        background = np.array([label in self.settings.decide.background for label in self.labels], np.uint8)
        lines += static_array("uint8_t", "background", background)
        lines.append("const char *const model_labels[MODEL_CLASSES] = {")
        lines += [f"    {string(label)}," for label in self.labels]
        return [*lines, "};"]

    def _calls(self) -> dict[str, list[str]]:
        head = f"head, {self.outputs} * ROWS, ROWS"
        function, head = ("add_product_int8", "head, head_scale") if self.int8 else ("add_product", head)
        to = "scores" if self.real == "float" else "sums"
        first = [
            f"    memcpy(stream->layer_{k} + {self._state(k, state)}, layer_{k}_first_{self._number(k, state)}, "
            f"{value.size if self.steps[k].memory else 'H'} * sizeof({self.real}));"
            for k, (direction, *_) in enumerate(self.parts.layers)
            for state, value in direction.first.items()
        ]
        return {
            "FIRST": first,
            "LAYERS": self._layer_calls(),
            "HEAD": [f"        {function}({self.classes} / ROWS, H, {head}, output, s->{to});"],
        }

    def _layer_calls(self) -> list[str]:
        """The layers of the steps that wait; where none begins steps together, that is one."""
        if not self.ahead:
            places = ["s->input", *(f"s->layer_{n}" for n in range(len(self.steps)))]
            calls = [f"    layer_{n}({places[n]}, s->layer_{n}, s->scratch.layer);" for n in range(len(self.steps))]
            return [*calls, f"    const {self.real} *const outputs = {places[-1]};"]
        lines = [
            f"    {self.real} *const outputs = s->scratch.layer + {self._own_scratch()}, "
            "*const sums = outputs + AHEAD * P;"
        ]
        for n, step in enumerate(self.steps):
            x, stride = ("outputs", "P") if n else ("s->input", "INPUTS")
            sums = f"sums + k * {step.sums} * P, " if step.frames else ""
            lines += [
                *([f"    layer_{n}_frames(count, {x}, {stride}, sums);"] if step.frames else []),
                "    for (int k = 0; k < count; k++) {",
                f"        layer_{n}({x} + k * {stride}, {sums}s->layer_{n}, s->scratch.layer);",
                f"        memcpy(outputs + k * P, s->layer_{n}, P * sizeof({self.real}));",
                "    }",
            ]
        return lines

    def _number(self, layer: int, state: str) -> int:
        return self.layers[layer][0].states.index(state)

    def _state(self, layer: int, state: str) -> str:
        """Where a state begins among those of its layer."""
        number, memory = self._number(layer, state), self.steps[layer].memory
        return str(memory.places[number]) if memory else f"{number} * P"


def _words(matrix: NDArray[np.int8]) -> NDArray[np.generic]:
    """A matrix of int8 as ``int8.h`` reads it: blocks of 16 rows, row 4 k + l at byte k of word l, columns even."""
    even = np.pad(matrix, ((0, 0), (0, matrix.shape[1] % 2)))
    found = blocks(even, 16)
    return found.reshape(*found.shape[:2], 4, 4).transpose(0, 1, 3, 2)


def _text(package: str, name: str) -> str:
    return resources.files(f"cello.{package}").joinpath(name).read_text(encoding="utf-8")
