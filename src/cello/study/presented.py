"""Say what only presents a study: the notebook's file name and reference figures, and their older form."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from typing import Any, Literal, TypeVar

import msgspec

from cello.study.catalogue import builtin_text
from cello.study.reference_figures import ReferenceFigures, builtin_figures
from cello.study.settings import brief

Stage = Literal["windows", "gates"] | None | msgspec.UnsetType
"""How older studies named what those two built-in studies state; read only."""
NOTEBOOK = re.compile(r"\w[\w. -]{0,90}\.ipynb")
"""A file name and no path: a study of somebody else must not say where a report is written."""
PRESENTS = ("notebook", "reference_figures")
Study = TypeVar("Study", bound=msgspec.Struct)


def presented(stage: Stage, notebook: str | None, figures: ReferenceFigures | None) -> dict[str, Any]:
    """The three fields as a study is to have them: what a ``stage`` stands for is stated, and no stage any more.

    Raises:
        ValueError: the notebook's name is a path, or does not end in ``.ipynb``.

    >>> presented("gates", None, None)["notebook"]
    'Resultados_2.ipynb'
    """
    stated = _stated(stage) if isinstance(stage, str) else {}
    if notebook is not None and not NOTEBOOK.fullmatch(notebook):
        raise ValueError(
            f"notebook={brief(notebook)} is not the name of a notebook file; write for example notebook = "
            f"'Results.ipynb'"
        )
    own = {"notebook": notebook or stated.get("notebook")}
    return {**own, "reference_figures": figures or stated.get("reference_figures"), "stage": msgspec.UNSET}


@cache
def _stated(stage: str) -> dict[str, Any]:
    """What the built-in study of that name states."""
    table = tomllib.loads(builtin_text(stage))
    return {"notebook": table["notebook"], "reference_figures": builtin_figures(table["reference_figures"])}


def presented_as(study: Study, asked: Study) -> Study:
    """The study with the notebook and reference figures of another."""
    return msgspec.structs.replace(study, **{name: getattr(asked, name) for name in PRESENTS})
