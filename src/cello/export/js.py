"""Write whole models as one JavaScript module: front end, cells, layers, stream and decisions, with their weights.

The module needs nothing but itself, in a browser or in Node::

    const model = new Model(MODELS[0], CELLS);
    model.predict(samples);                          // Float32Array at features.rate_hz → (C,) scores
    const stream = new Stream(model);
    stream.push(samples);                            // [{time_s, scores}, …], any chopping gives the same
    stream.finish();
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cello.cells.arrays import Precision
from cello.cells.definition import Cell
from cello.cells.graph import one_size
from cello.cells.specialise import multiplying
from cello.compiler.js.expression import ARRAYS
from cello.compiler.js.names import fresh
from cello.compiler.js.step import function_name, runtime, step_text
from cello.export.received import without_losses
from cello.export.stream import StreamSettings
from cello.features.config import FeatureConfig
from cello.features.transforms import SMALLEST_DEVIATION
from cello.models.parts import Direction, ModelParts

Array = NDArray[np.float32]
Quantise = Callable[[Array], tuple[NDArray[np.int8], Array]]
"""A matrix (rows, columns) float32 → the same as int8, and the (rows,) scales that it is multiplied by."""

EXPORTED = "CELLS, Decisions, FrameStream, FrontEnd, MODELS, Model, Stream, softmax"


@dataclass(frozen=True, eq=False)
class JsModel:
    """A model to be written: what it computes with, its name, and any facts that a page shows beside it."""

    name: str
    parts: ModelParts
    features: FeatureConfig
    labels: tuple[str, ...]
    stream: StreamSettings
    facts: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", without_losses(self.parts))


def module_text(models: Sequence[JsModel], quantise: Quantise | None = None, precision: Precision = "float32") -> str:
    """An ES module that exports its classes, ``CELLS`` and the descriptions ``MODELS``."""
    return f"{library_text(models, precision)}\n{models_text(models, quantise)}\nexport {{ {EXPORTED} }};\n"


def library_text(models: Sequence[JsModel], precision: Precision = "float32") -> str:
    """The classes, and the cells of these models by their names in ``CELLS``; no weights.

    All models are computed in one precision. In ``model.js`` the arrays that are made by ``new`` hold what is computed,
    and those made by ``from`` hold weights and scores.
    """
    names = _functions(models)
    written = [step_text(cell, name, precision) for cell, name in names.items()]
    cells = f"const CELLS = {{ {', '.join(names.values())} }};"
    model = browser_file("model.js").replace("new Float32Array(", f"new {ARRAYS[precision]}(")
    return "\n".join([runtime(names), *written, cells, "", browser_file("front_end.js"), model])


def models_text(models: Sequence[JsModel], quantise: Quantise | None = None) -> str:
    """The descriptions of the models, weights in them."""
    names = _functions(models)
    lines = [f"  {script_json(_described(model, names, quantise))}," for model in models]
    return "\n".join(["const MODELS = [", *lines, "];"])


def browser_file(name: str) -> str:
    """A file that is written as it is."""
    return (resources.files("cello.export") / "browser" / name).read_text("utf-8")


def script_json(value: Any) -> str:
    """Data as JSON that can stand in a script of a page."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _functions(models: Sequence[JsModel]) -> dict[Cell, str]:
    """A function name for each cell; cells of the same equations share one, others of the same name do not."""
    found: dict[Cell, str] = {}
    by_equations: dict[tuple[str, str], str] = {}
    for model in models:
        for layer in model.parts.layers:
            for direction in layer:
                cell = direction.cell
                key = (cell.name, cell.graph.fingerprint())
                if key not in by_equations:
                    plain = f"cell_{function_name(cell)}"
                    taken = by_equations.values()
                    by_equations[key] = plain if plain not in taken else fresh(plain, len(by_equations), taken)
                    found[cell] = by_equations[key]
    return found


def _described(model: JsModel, names: dict[Cell, str], quantise: Quantise | None) -> dict[str, Any]:
    parts = model.parts
    equations = {cell.graph.fingerprint(): name for cell, name in names.items()}

    def described(depth: int, direction: Direction) -> dict[str, Any]:
        rounded = multiplying(direction.cell.graph.nodes)
        weights = {
            name: pack(array, quantise if name in rounded else None) for name, array in direction.weights.items()
        }
        cell = equations[direction.cell.graph.fingerprint()]
        found = {"cell": cell, "reverse": direction.reverse, "weights": weights}
        found |= {} if one_size(direction.cell.graph) else {"inputs": parts.inputs(depth)}
        first = [pack(direction.first[state]) if state in direction.first else None for state in direction.cell.states]
        return {**found, "first": first} if any(first) else found

    return {
        "name": model.name,
        "labels": model.labels,
        "features": front_end(model.features),
        "mean": pack(parts.mean),
        "deviation": pack(parts.deviation),
        "frame_stacking": parts.frame_stacking,
        "hidden": parts.hidden,
        "layers": [[described(depth, each) for each in layer] for depth, layer in enumerate(parts.layers)],
        "pooling": parts.pooling,
        "score": parts.score and {"weight": pack(parts.score[0]), "bias": parts.score[1]},
        "head": {"weight": pack(parts.head[0], quantise), "bias": pack(parts.head[1])},
        "stream": {
            "window_s": model.stream.window_s,
            **asdict(model.stream.decide),
            "background": [label for label in model.labels if label in model.stream.decide.background],
        },
        "facts": model.facts or {},
    }


def front_end(features: FeatureConfig) -> dict[str, Any]:
    """What the front end in JavaScript needs to know."""
    return {
        "kind": features.kind,
        "rate_hz": features.rate_hz,
        "window": features.window_samples,
        "hop": features.hop_samples,
        "n_mels": features.n_mels,
        "n_mfcc": features.n_mfcc,
        "edges_hz": features.band_edges_hz.tolist(),
        "pre_emphasis": features.pre_emphasis,
        "log_floor": features.log_floor,
        "deltas": features.deltas,
        "delta_width": features.delta_frames,
        "normalisation": features.normalisation,
        "smallest_deviation": SMALLEST_DEVIATION,
    }


def pack(array: Array, quantise: Quantise | None = None) -> dict[str, str]:
    """A weight as text: float32, or for a matrix int8 with a scale a row where it is quantised."""
    if quantise is None or array.ndim < 2:
        return {"float32": _base64(array, "<f4")}
    values, scales = quantise(array)
    return {"int8": _base64(values, "i1"), "scales": _base64(scales, "<f4")}


def _base64(array: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=dtype).tobytes()).decode()
