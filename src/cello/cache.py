"""Find the folder that keeps decoded audio, features, corpora and kernels: one for all of them."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from cello.errors import CelloError

VARIABLE = "CELLO_CACHE"
"""The environment variable that names the folder; ``--cache`` sets it, so that worker processes know it too."""


def cache_root(asked: Path | None = None) -> Path:
    """The folder asked for, else the one that ``CELLO_CACHE`` names, else the user's own cache folder for Cello.

    Raises:
        CelloError: none is named, and this user has no home folder.
    """
    if asked is not None:
        return asked
    try:
        if named := os.environ.get(VARIABLE):
            return Path(named).expanduser().absolute()
        return platformdirs.user_cache_path("cello")
    except RuntimeError as error:
        raise CelloError(
            f"there is no home folder to keep decoded audio and kernels in ({error}); "
            f"name a folder with --cache or in {VARIABLE}"
        ) from error
