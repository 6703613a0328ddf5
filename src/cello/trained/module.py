"""Make the PyTorch module of a trained run."""

from __future__ import annotations

import numpy as np
import torch

from cello.cells.arrays import Precision
from cello.errors import ModelError
from cello.models.classifier import Classifier
from cello.models.direction import CellLayer
from cello.trained.run import TrainedRun, read_weights


def module_of(trained: TrainedRun, backend: str = "auto", precision: Precision = "float32") -> Classifier:
    """The classifier of a run in eval mode, with its weights and its standardisation; in float64 it takes such frames.

    Raises:
        ModelError: its weights are not those of its config.
    """
    config = trained.result.config
    module = Classifier(config.model, config.features.dimensions, len(trained.labels), backend=backend)
    weights = {name: torch.from_numpy(weight.copy()) for name, weight in read_weights(trained.folder).items()}
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        fault = str(error).splitlines()[-1].strip()
        raise ModelError(
            f"the weights of run {trained.result.run} are not those of its config ({fault}); train the run again into "
            "another folder"
        ) from error
    return (module if precision == "float32" else _as_float64(module)).eval()


def _as_float64(module: Classifier) -> Classifier:
    """The module in double precision; what the equations see of bounded and fixed tensors stays float32 numbers.

    So every form outside torch holds them, and a spike at its threshold would show the difference.
    """
    module.double()
    layers = [layer for layer in module.modules() if isinstance(layer, CellLayer)]
    with torch.no_grad():
        for layer in layers:
            tensors = dict(layer.named_parameters()) | dict(layer.named_buffers())
            for attribute, name in layer.equation_names.items():
                tensor = tensors[attribute]
                if (bounds := layer.bounded.get(name)) is not None:
                    seen = bounds.bounded_value(tensor.float().numpy()).astype(np.float32)
                    tensor.copy_(torch.from_numpy(bounds.unbounded(seen.astype(np.float64))))
                else:
                    tensor.copy_(tensor.float())
    return module
