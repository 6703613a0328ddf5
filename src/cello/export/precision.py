"""Choose what an exported model is computed in: float32, or double precision where float32 may show in its scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cello.audio.corpus import Corpus
from cello.audio.folds import indices_of
from cello.cells.arrays import Precision
from cello.cells.definition import Cell
from cello.cells.graph import Node
from cello.deploy.manifest import PrecisionFacts
from cello.export.reference import as_floats, made_sounds
from cello.features.clip import frames_of_clip
from cello.features.config import FeatureConfig
from cello.models.parts import ModelParts
from cello.report.tables import count
from cello.trained.numpy_model import NumpyModel
from cello.trained.run import TrainedRun

Asked = Literal["auto", "float32", "float64"]
LARGEST_MOVED = 1e-5
"""How far float32 may move a measured score from double precision: a tenth of the 1e-4 that every form is held to.

So little, because few clips are measured: of trained models whose equations do not jump, the worst of 3,546 other clips
was up to 17 times as far off as the worst of 500. And two forms may each be off, to different sides.
"""
MOST_CLIPS = 500
Sound = NDArray[np.float32]


def chosen_precision(
    trained: TrainedRun,
    parts: ModelParts,
    sounds: Sequence[Sound],
    asked: Asked = "auto",
    on_sound: Callable[[], None] = lambda: None,
) -> PrecisionFacts:
    """What the forms of a model are computed in, and why; measured on these clips and on the made sounds.

    ``parts`` are those of the run as its forms hold them. An equation that jumps, as a spike at its threshold, is
    computed in double precision whatever was measured: a rounding error becomes a jump there, in one clip of thousands.
    ``on_sound`` is called after each sound.
    """
    features = trained.result.config.features
    made = [as_floats(samples) for samples in made_sounds(features).values()]
    moved = float32_moves(parts, features, [*made, *sounds], on_sound)
    clips = f"{count(len(sounds), 'validation clip')} and " * bool(sounds) + f"{len(made)} made sounds"
    figure = f"float32 moves scores by up to {moved:.1e} from double precision on {clips}"
    jump = next((cell.name for cell in _cells(parts) if jumps(cell)), None)
    if asked != "auto":
        found: Precision = asked
        why = f"asked for; {figure}"
    elif jump is not None:
        found, why = "float64", f"an equation of {jump} jumps, where rounding alone may decide; {figure}"
    elif moved > LARGEST_MOVED:
        found, why = "float64", f"{figure}, above {LARGEST_MOVED:g}"
    else:
        found, why = "float32", f"{figure}, which is within {LARGEST_MOVED:g}"
    return PrecisionFacts(name=found, float32_moves=float(f"{moved:.2e}"), clips=len(sounds), why=why)


def float32_moves(
    parts: ModelParts, features: FeatureConfig, sounds: Sequence[Sound], on_sound: Callable[[], None] = lambda: None
) -> float:
    """How far float32 moves a score from double precision at most; infinite where either is no number."""
    single, double = NumpyModel(parts), NumpyModel(parts, "float64")
    largest = 0.0
    for sound in sounds:
        frames = frames_of_clip(sound, features)
        with np.errstate(invalid="ignore"):
            moved = np.abs(single.scores(frames).astype(np.float64) - double.scores(frames)).max()
        largest = max(largest, float(np.nan_to_num(moved, nan=np.inf)))
        on_sound()
    return largest


def validation_sounds(trained: TrainedRun, corpus: Corpus | None) -> list[Sound]:
    """Up to ``MOST_CLIPS`` validation clips of a corpus, evenly; none without one."""
    if corpus is None:
        return []
    fold = trained.result.config.data.fold if corpus.manifest.folds else ""
    clips = indices_of(corpus, fold)["validation"]
    some = clips[np.linspace(0, len(clips) - 1, min(len(clips), MOST_CLIPS)).round().astype(np.int64)]
    found = []
    for clip in some:
        samples, lengths = corpus.audio(np.array([clip]))
        found.append(np.ascontiguousarray(samples[0, : lengths[0]]))
    return found


def jumps(cell: Cell) -> bool:
    """Whether an equation of a cell has two values that lie apart, and a frame decides between them.

    >>> from cello.cells.load import load_cell
    >>> [name for name in ("lstm", "lif", "clockwork") if jumps(load_cell(name))]
    ['lif']
    """
    nodes, decided = cell.graph.nodes, _of_frames(cell)
    return any(
        (node.op in ("floor", "round", "sign", "mod") or _between_constants(nodes, node))
        and any(arg in decided for arg in node.args)
        for node in nodes
    )


def _between_constants(nodes: Sequence[Node], node: Node) -> bool:
    if node.op != "where":
        return False
    first, second = (nodes[arg] for arg in node.args[2:])
    return first.op == second.op == "constant" and first.value != second.value


def _of_frames(cell: Cell) -> set[int]:
    """The values that frames change, be it through states, which others (a clock) may not be."""
    nodes, states, found = cell.graph.nodes, set[str](), set[int]()
    outputs = dict(zip(cell.graph.states, cell.graph.outputs, strict=True))
    while True:
        for k, node in enumerate(nodes):
            own = node.op == "input" or (node.op == "state" and node.name in states)
            if own or any(arg in found for arg in node.args):
                found.add(k)
        more = {state for state, k in outputs.items() if k in found}
        if more == states:
            return found
        states = more


def _cells(parts: ModelParts) -> list[Cell]:
    return [direction.cell for layer in parts.layers for direction in layer]
