"""Check arguments before they are parsed: global flags, encodings, misspelt commands."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import get_terminal_size
from tempfile import TemporaryDirectory, TemporaryFile

from cello.cache import VARIABLE
from cello.cli.errors import not_utf8
from cello.errors import ConfigError, unknown

NARROWEST = 30
TRACEBACK = "--traceback"
Names = Mapping[str, "Names"]
"""Commands by name, each with the commands below it."""


def without_traceback(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments but for ``--traceback``, wherever it stands, and whether it stood there.

    >>> without_traceback(["train", "--traceback", "--seed", "1"])
    (['train', '--seed', '1'], True)
    """
    return [one for one in arguments if one != TRACEBACK], TRACEBACK in arguments


def stated(arguments: Sequence[str]) -> tuple[str, ...]:
    """The settings that the arguments state, whatever their values, by section and field.

    >>> stated(["train", "--model.hidden", "64", "--model.no-bidirectional", "--features.n-mels=40"])
    ('model.hidden', 'model.bidirectional', 'features.n_mels')
    """
    flags = (one[2:].partition("=")[0].replace("-", "_") for one in arguments if one.startswith("--"))
    return tuple(flag.replace(".no_", ".", 1) for flag in flags if "." in flag)


def doing(arguments: Sequence[str], commands: Names) -> str:
    """The command that the arguments begin with, as people call it.

    >>> doing(["corpus", "inspect", "spoken"], {"corpus": {"inspect": {}}})
    'cello corpus inspect'
    """
    words = ["cello"]
    for argument in arguments:
        if argument not in commands:
            break
        words.append(argument)
        commands = commands[argument]
    return " ".join(words)


def check(arguments: Sequence[str]) -> None:
    """Hold arguments to being UTF-8, and the current folder to being there: libraries die without one.

    Raises:
        ConfigError: an argument is not, as the path of a folder from a system that writes names otherwise; or the
            folder was removed.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise ConfigError(f"the current folder cannot be used: {error.strerror}; change to another one") from error
    for argument in arguments:
        with suppress(UnicodeEncodeError):
            argument.encode()
            continue
        raise ConfigError(not_utf8(argument))


def misspelt(arguments: Sequence[str], commands: Names) -> str:
    """The sentence for a command that does not exist; empty where all do, or there is none.

    >>> misspelt(["trian"], {"train": {}, "tune": {}})
    "unknown command 'trian'; did you mean 'train'? Known: train, tune. See cello --help."
    """
    said = "cello"
    for argument in arguments:
        if not commands or argument.startswith("-"):
            return ""
        if argument not in commands:
            return unknown("command", argument, commands, f"See {said} --help.")
        commands, said = commands[argument], f"{said} {argument}"
    return ""


@contextmanager
def wide_enough() -> Iterator[None]:
    """Within, a terminal has at least ``NARROWEST`` columns: what lays out the help never ends in fewer."""
    before = os.environ.get("COLUMNS")
    if get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)
    try:
        yield
    finally:
        _put_back("COLUMNS", before)


def _put_back(name: str, value: str | None) -> None:
    if value is not None:
        os.environ[name] = value
    else:
        os.environ.pop(name, None)


@contextmanager
def cache_of(cache: Path | None) -> Iterator[None]:
    """Within, ``CELLO_CACHE`` names the command's cache, also for its workers: compiled kernels are kept there too."""
    before = os.environ.get(VARIABLE)
    if cache is not None:
        os.environ[VARIABLE] = str(cache.absolute())
    try:
        yield
    finally:
        _put_back(VARIABLE, before)


_SETTINGS = ("MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")


@contextmanager
def settings_folders() -> Iterator[None]:
    """Within, libraries that keep settings in the home folder have a folder of their own where there is no such home.

    Matplotlib and Jupyter would say so otherwise, or fail; what they keep there goes with the command.
    """
    if _home_is_writable():
        yield
        return
    missing = [name for name in _SETTINGS if name not in os.environ]
    with TemporaryDirectory(prefix="cello-settings-", ignore_cleanup_errors=True) as folder:
        os.environ |= dict.fromkeys(missing, folder)
        try:
            yield
        finally:
            for name in missing:
                os.environ.pop(name, None)


def _home_is_writable() -> bool:
    try:
        home = Path.home()
        settings = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        near = next(place for place in (settings, *settings.parents) if place.exists())
        if not (home.is_absolute() and home.is_dir()):
            return False
        with TemporaryFile(dir=near):
            return True
    except (OSError, RuntimeError):
        return False
