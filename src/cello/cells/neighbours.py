"""Run a Python file as its text is now, with the modules of its folder, in isolation.

The file becomes a module of a private package that stands for its folder; modules of the folder that it imports become
modules of the same package. So two files in two folders may both import their own ``helper``, no module of a folder
ever hides one from the rest of the process, and nothing is taken from bytecode or from an earlier reading.

An ``import`` in such a file finds, in this order: the standard library, Cello and installed packages; the file's
folder; whatever else the process can import. A folder with a ``random.py`` or a ``torch/`` so changes nothing.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib.machinery
import importlib.util
import linecache
import site
import sys
import sysconfig
import threading
from collections.abc import Callable, Sequence
from functools import cache
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from cello.cells.faulty import KEEP, keeper, separated
from cello.files import read_stored

PRIVATE = "_cello_folder_"
LARGEST_SOURCE = 1 << 24
"""The most bytes of one source file."""
_LOCK = threading.RLock()


def run_file(path: Path) -> ModuleType:
    """Run a file and return its module, which stays in ``sys.modules`` until the file is run again.

    Raises:
        OSError, DamagedFileError: the file cannot be read.
        Exception: whatever the file raises.
    """
    path = path.absolute()
    package = PRIVATE + hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    name = f"{package}.{path.stem.replace('.', '_')}"
    with _LOCK:
        if not any(isinstance(finder, _FolderFinder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _FolderFinder())
        before = _forget(package)
        folder = ModuleType(package)
        folder.__path__ = [str(path.resolve().parent), str(path.parent)]  # Python looks where a link leads to
        sys.modules[package] = folder
        spec = importlib.util.spec_from_file_location(name, path, loader=_TextLoader(name, path))
        assert spec is not None  # a loader is given
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            _TextLoader(name, path).exec_module(module)
        except BaseException:
            _forget(package)
            sys.modules.update(before)
            raise
    return module


def _forget(package: str) -> dict[str, ModuleType]:
    """Take a private package and its modules out of ``sys.modules``."""
    below = f"{package}."
    names = [name for name in sys.modules if name == package or name.startswith(below)]
    return {name: sys.modules.pop(name) for name in names}


class _TextLoader(InspectLoader):
    """Runs a source file as it is now: reads no bytecode, writes none, and its imports see its folder."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.content = b""

    def is_package(self, fullname: str) -> bool:
        return self.path.name == "__init__.py"

    def get_filename(self, fullname: str) -> str:
        return str(self.path)

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self.content or read_stored(self.path, LARGEST_SOURCE))

    def get_code(self, fullname: str) -> CodeType:
        self.content = read_stored(self.path, LARGEST_SOURCE)
        code: CodeType = compile(separated(self.content, self.path), str(self.path), "exec", dont_inherit=True)
        return code

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__cached__"] = None  # no bytecode
        package = self.name.split(".")[0]
        vars(module)["__builtins__"] = {
            **vars(builtins),
            "__import__": _importer(package),
            KEEP: keeper(self.path),
        }
        code = self.get_code(self.name)
        lines = self.get_source(self.name).splitlines(keepends=True)
        # without a time of change, so that what is shown of the file is what ran
        linecache.cache[str(self.path)] = (len(self.content), None, lines, str(self.path))
        exec(code, vars(module))


class _FolderFinder(MetaPathFinder):
    """Finds the modules below a private package in its folder."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(PRIVATE) or path is None:
            return None
        for folder in path:
            found = _found(Path(folder), fullname.rpartition(".")[2])
            if found is None:
                continue
            if found.is_dir():
                spec = ModuleSpec(fullname, None, is_package=True)
                spec.submodule_search_locations = [str(found)]
                return spec
            if found.suffix != ".py":
                extension = importlib.machinery.ExtensionFileLoader(fullname, str(found))
                return importlib.util.spec_from_file_location(fullname, found, loader=extension)
            return importlib.util.spec_from_file_location(fullname, found, loader=_TextLoader(fullname, found))
        return None


def _found(folder: Path, name: str) -> Path | None:
    """The file of a folder that is the module ``name``, or the folder of that name that holds modules."""
    extensions = [folder / f"{name}{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES]
    for path in (folder / name / "__init__.py", *extensions, folder / f"{name}.py"):
        if path.is_file():
            return path
    return folder / name if (folder / name).is_dir() else None


def _importer(package: str) -> Callable[..., Any]:
    """``__import__`` for the files of a folder."""

    def folder_import(
        name: str,
        globals: Any = None,
        locals: Any = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        top = name.split(".", maxsplit=1)[0]
        if level or not _is_neighbour(package, top):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        found = builtins.__import__(f"{package}.{name}", globals, locals, fromlist or (), 0)
        return found if fromlist else sys.modules[f"{package}.{top}"]

    return folder_import


def _is_neighbour(package: str, name: str) -> bool:
    """Whether the top-level module ``name`` is to come from a private package's folder."""
    if name == "cello" or name in sys.stdlib_module_names or package not in sys.modules:
        return False
    found = next(filter(None, (_found(Path(folder), name) for folder in sys.modules[package].__path__)), None)
    if found is None or PathFinder.find_spec(name, _installed()) is not None:
        return False
    return not found.is_dir() or not (name in sys.modules or importlib.util.find_spec(name))


@cache
def _installed() -> list[str]:
    """The folders into which packages are installed."""
    return [*site.getsitepackages(), site.getusersitepackages(), sysconfig.get_path("platlib")]
