"""Use an exported model without torch: load, predict, stream, serve.

>>> package = cello.deploy.load("yes-or-no")  # doctest: +SKIP
>>> package.predict(samples, rate_hz=16_000)  # doctest: +SKIP
[('yes', 0.98), ('no', 0.02)]
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cello.deploy.decisions import Decision, DecisionConfig
    from cello.deploy.package import Package, load

_HOME = {"Decision": "decisions", "DecisionConfig": "decisions", "Package": "package", "load": "package"}
__all__ = ["Decision", "DecisionConfig", "Package", "load"]


def __getattr__(name: str) -> Any:
    # onnxruntime takes a while to import, and training and reports use the decisions alone
    if name not in _HOME:
        raise AttributeError(f"module 'cello.deploy' has no attribute {name!r}")
    return getattr(import_module(f"cello.deploy.{_HOME[name]}"), name)
