"""Make the PyTorch module of a trained run."""

from __future__ import annotations

import torch

from cello.errors import ModelError
from cello.models.classifier import Classifier
from cello.trained.run import TrainedRun, read_weights


def module_of(trained: TrainedRun, backend: str = "auto") -> Classifier:
    """The classifier of a run in eval mode, with its weights and its standardisation.

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
    return module.eval()
