"""Cello: recurrent cells for audio, written once as equations and compared honestly.

The data's way through the package: ``audio`` (sound → labelled clips) → ``features`` (clips → frames) →
``cells`` (equations) → ``compiler`` (equations → a scan over time) → ``models`` → ``training`` (one run) →
``study`` (many runs, one question) → ``report``. The names below are all of them that most users need; each is loaded
when it is first used, since torch takes seconds to import.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # the name type checkers know; importing typing takes longer than all the rest here
if TYPE_CHECKING:
    from typing import Any

    from cello.audio.augment import AugmentConfig
    from cello.audio.open import open_corpus
    from cello.cells.annotations import Heads, Parts, Size
    from cello.cells.definition import Cell, cell
    from cello.cells.functions import (
        atan,
        columns,
        cos,
        erf,
        exp,
        expm,
        flatten,
        floor,
        inverse,
        log,
        matrix,
        maximum,
        minimum,
        mod,
        outer,
        relu,
        rows,
        sigmoid,
        sign,
        sin,
        softmax,
        softplus,
        sqrt,
        stop,
        tanh,
        where,
    )
    from cello.cells.load import load_cell, zoo
    from cello.cells.noise import with_noise
    from cello.cells.paper import Paper
    from cello.cells.signature import Fixed, Learned, Members, Scalar
    from cello.cells.values import normal, uniform
    from cello.compiler.scan import scan
    from cello.errors import (
        BackendError,
        CellError,
        CelloError,
        ClipError,
        ConfigError,
        CorpusError,
        DeployError,
        DivergenceError,
        DownloadError,
        ExportError,
        FeatureError,
        ModelError,
        ReportError,
        StoreError,
        StudyError,
        TrainingError,
    )
    from cello.execution.run import run_study
    from cello.execution.workers import Workers
    from cello.features.config import FeatureConfig
    from cello.models.classifier import Classifier
    from cello.models.config import ModelConfig
    from cello.models.layer import Layer
    from cello.report.write import write_report
    from cello.study.config import Column, Row, StudyConfig
    from cello.study.merge import merge_stores
    from cello.study.overrides import override
    from cello.study.store import CorpusSource, Store
    from cello.study.study_file import load_study
    from cello.trained.model import Model, load_model
    from cello.training.config import CorpusRef, DataConfig, OptimiserConfig, RunConfig
    from cello.training.execution import ExecutionConfig
    from cello.training.run import train

__version__ = "0.1.0"

_HOME = {
    "AugmentConfig": "audio.augment",
    "BackendError": "errors",
    "Cell": "cells.definition",
    "CellError": "errors",
    "CelloError": "errors",
    "Classifier": "models.classifier",
    "ClipError": "errors",
    "Column": "study.config",
    "ConfigError": "errors",
    "CorpusError": "errors",
    "CorpusRef": "training.config",
    "CorpusSource": "study.store",
    "DataConfig": "training.config",
    "DeployError": "errors",
    "DivergenceError": "errors",
    "DownloadError": "errors",
    "ExecutionConfig": "training.execution",
    "ExportError": "errors",
    "FeatureConfig": "features.config",
    "FeatureError": "errors",
    "Fixed": "cells.signature",
    "Heads": "cells.annotations",
    "Layer": "models.layer",
    "Learned": "cells.signature",
    "Members": "cells.signature",
    "Model": "trained.model",
    "ModelConfig": "models.config",
    "ModelError": "errors",
    "OptimiserConfig": "training.config",
    "Paper": "cells.paper",
    "Parts": "cells.annotations",
    "ReportError": "errors",
    "Row": "study.config",
    "RunConfig": "training.config",
    "Scalar": "cells.signature",
    "Size": "cells.annotations",
    "Store": "study.store",
    "StoreError": "errors",
    "StudyConfig": "study.config",
    "StudyError": "errors",
    "TrainingError": "errors",
    "Workers": "execution.workers",
    "cell": "cells.definition",
    "columns": "cells.functions",
    "atan": "cells.functions",
    "cos": "cells.functions",
    "erf": "cells.functions",
    "exp": "cells.functions",
    "expm": "cells.functions",
    "flatten": "cells.functions",
    "floor": "cells.functions",
    "inverse": "cells.functions",
    "load_cell": "cells.load",
    "load_model": "trained.model",
    "load_study": "study.study_file",
    "log": "cells.functions",
    "matrix": "cells.functions",
    "maximum": "cells.functions",
    "merge_stores": "study.merge",
    "minimum": "cells.functions",
    "mod": "cells.functions",
    "normal": "cells.values",
    "open_corpus": "audio.open",
    "outer": "cells.functions",
    "override": "study.overrides",
    "relu": "cells.functions",
    "rows": "cells.functions",
    "run_study": "execution.run",
    "scan": "compiler.scan",
    "sigmoid": "cells.functions",
    "sign": "cells.functions",
    "sin": "cells.functions",
    "softmax": "cells.functions",
    "softplus": "cells.functions",
    "sqrt": "cells.functions",
    "stop": "cells.functions",
    "tanh": "cells.functions",
    "train": "training.run",
    "uniform": "cells.values",
    "spectral_radius": "cells.values",
    "where": "cells.functions",
    "with_noise": "cells.noise",
    "write_report": "report.write",
    "zoo": "cells.load",
}

__all__ = [  # noqa: PLE0604, RUF100
    "AugmentConfig",
    "BackendError",
    "Cell",
    "CellError",
    "CelloError",
    "Classifier",
    "ClipError",
    "Column",
    "ConfigError",
    "CorpusError",
    "CorpusRef",
    "CorpusSource",
    "DataConfig",
    "DeployError",
    "DivergenceError",
    "DownloadError",
    "ExecutionConfig",
    "ExportError",
    "FeatureConfig",
    "FeatureError",
    "Fixed",
    "Heads",
    "Layer",
    "Learned",
    "Members",
    "Model",
    "ModelConfig",
    "ModelError",
    "OptimiserConfig",
    "Paper",
    "Parts",
    "ReportError",
    "Row",
    "RunConfig",
    "Scalar",
    "Size",
    "Store",
    "StoreError",
    "StudyConfig",
    "StudyError",
    "TrainingError",
    "Workers",
    "__version__",
    "atan",
    "cell",
    "columns",
    "cos",
    "erf",
    "exp",
    "expm",
    "flatten",
    "floor",
    "inverse",
    "load_cell",
    "load_model",
    "load_study",
    "log",
    "matrix",
    "maximum",
    "merge_stores",
    "minimum",
    "mod",
    "normal",
    "open_corpus",
    "outer",
    "override",
    "relu",
    "rows",
    "run_study",
    "scan",
    "sigmoid",
    "sign",
    "sin",
    "softmax",
    "softplus",
    "spectral_radius",
    "sqrt",
    "stop",
    "tanh",
    "train",
    "uniform",
    "where",
    "with_noise",
    "write_report",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cello' has no attribute {name!r}")
    return getattr(import_module(f"cello.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
