"""What hurts: an import against the grain, a fence crossed, a file or function nobody can read in one go."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "cello"
MODULES = sorted(SOURCE.rglob("*.py"))

# package → packages it may import besides itself, `errors`, `files`, `locks`, `cache` and `cello.__version__`
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "locks": set(),
    "cache": set(),
    "machine": set(),
    "native": set(),
    "terminal": set(),
    "audio": set(),
    "features": {"audio", "native"},
    "cells": set(),
    "compiler": {"cells", "native"},
    "models": {"cells", "compiler", "native"},
    "trained": {"audio", "cells", "deploy", "features", "models", "statistics", "study", "training"},
    "export": {
        *("audio", "cells", "compiler", "deploy", "features", "models", "native", "report", "statistics", "study"),
        *("trained", "training"),
    },
    "training": {"audio", "features", "models", "cells", "machine", "native"},
    "statistics": set(),
    "study": {"cells", "compiler", "audio", "features", "models", "training", "terminal", "machine"},
    "execution": {"audio", "cells", "compiler", "machine", "models", "study", "terminal", "training"},
    "tuning": {"audio", "execution", "study", "training"},
    "report": {"cells", "audio", "features", "machine", "models", "training", "statistics", "study"},
    "deploy": {"audio", "features", "models"},
    "bench": {"audio", "cells", "compiler", "features", "machine", "terminal"},
    "cli": {
        *("audio", "features", "cells", "compiler", "models", "training", "study", "tuning", "report", "deploy"),
        *("bench", "execution", "export", "terminal", "trained"),
    },
    "__main__": {"cli", "terminal"},
    "__init__": {
        "audio",
        "features",
        "cells",
        "compiler",
        "models",
        "training",
        "study",
        "report",
        "execution",
        "trained",
    },
}
# library → the only files that may import it
FENCES: dict[str, set[str]] = {
    "fcntl": {"locks.py"},
    "matplotlib": {
        "report/fonts.py",
        *(f"report/{f}.py" for f in ("plot_axes", "plot_detection", "plot_style", "plots")),
    },
    "triton": {f"compiler/triton/{file}.py" for file in ("build", "clusters", "interpreter", "machine_code")},
    "distributed": {*(f"execution/{file}.py" for file in ("cluster", "local", "session", "worker"))},
    "optuna": {"tuning/trials.py"},
    "onnx": {"compiler/onnx/writer.py"},
    "onnxruntime": {"deploy/onnx_models.py"},
    "sounddevice": {"cli/listen.py"},
    "pyarrow": {"audio/table.py", "report/formats/parquet.py"},
    "tensorboardX": {"report/formats/tensorboard.py"},
    "uvicorn": {"deploy/listener.py"},
    "fastapi": {"deploy/serve.py", "deploy/socket_stream.py", "deploy/upload.py"},
    "tyro": {
        f"cli/{command}.py"
        for command in (
            *("bench", "cell", "corpus", "evaluate", "export", "listen", "main", "merge", "predict", "report", "serve"),
            *("repeated", "sound", "study", "study_options", "train", "tune"),
        )
    },
}
TORCH_FREE = {"errors", "audio", "cells", "deploy", "machine", "report", "statistics"}
TORCH_FREE_FILES = {
    "deploy/decisions.py",
    *(f"deploy/{file}.py" for file in ("limits", "listener", "serve", "serve_text", "socket_stream", "upload")),
    "export/js.py",
    "export/page.py",
    "execution/forkserver.py",
    "execution/progress.py",
    "execution/run.py",
    "execution/workers.py",
    "features/clean.py",
    "bench/feature_table.py",
    "bench/record.py",
    "bench/settings.py",
    "bench/table.py",
    "features/c/library.py",
    "features/c/plan.py",
    "features/clip.py",
    "features/config.py",
    "features/stream.py",
    "features/transforms.py",
    "features/frames.py",
    "models/config.py",
    "models/parts.py",
    "models/size.py",
    "trained/chosen.py",
    "trained/exported.py",
    "trained/files.py",
    "trained/model.py",
    "trained/numpy_model.py",
    "trained/run.py",
    "trained/stream.py",
    "training/config.py",
    "training/execution.py",
    "training/remark.py",
    "training/result.py",
    "study/catalogue.py",
    "study/config.py",
    "study/correctness.py",
    "study/corpus_file.py",
    "study/estimate.py",
    "study/estimate_table.py",
    "study/former.py",
    "study/made.py",
    "study/match.py",
    "study/merge.py",
    "study/overrides.py",
    "study/plan.py",
    "study/pools.py",
    "study/predictions.py",
    "study/reading.py",
    "study/settings.py",
    "study/single.py",
    "study/space.py",
    "study/store.py",
    "study/study_file.py",
    "tuning/trials.py",
}
# files that may import inside functions
LAZY = {
    *FENCES["tyro"],
    *(f"compiler/triton/{file}.py" for file in ("build", "clusters", "machine_code")),
    *("statistics/comparisons.py", "statistics/ranks.py"),
    *("__init__.py", "deploy/__init__.py", "__main__.py", "audio/table.py", "cli/stream_table.py"),
}
MAX_FILE, MEDIAN_FILE, MAX_FUNCTION, MAX_ARGUMENTS = 500, 180, 60, 8


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(path)))


@cache
def where(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


@cache
def package(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[0]


@cache
def imports(path: Path) -> list[tuple[str, int]]:
    """Every imported module with its line; names that only type checkers import count too."""
    found = []
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import at line {node.lineno}"
            module = node.module or ""
            found += (
                [(f"{module}.{alias.name}", node.lineno) for alias in node.names]
                if module in ("cello", *(f"cello.{p}" for p in ALLOWED))
                else [(module, node.lineno)]
            )
    return found


def every_import() -> Iterator[tuple[Path, str, int]]:
    """All imports of all files, and their lines."""
    return ((path, name, line) for path in MODULES for name, line in imports(path))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in nodes(path) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def test_imports_follow_the_table() -> None:
    faults = []
    for path, name, line in every_import():
        own, parts = package(path), name.split(".")
        if parts[0] != "cello" or parts == ["cello"] or parts[1] == "__version__":
            continue
        if parts[1] not in {own, "errors", "files", "locks", "cache"} | ALLOWED[own]:
            faults.append(f"{where(path)}:{line}: {own} may not import {name}")
    assert faults == []


BACK_ENDS = sorted({p.parent for p in (SOURCE / "compiler").glob("*/*.py")})
# neutral files of the compiler that know of back ends: the table of them, and the one of forms in which a cell is shown
KNOW_BACK_ENDS = {"compiler/backends.py", "compiler/render.py"}


def test_back_ends_know_nothing_of_each_other_and_nobody_else_of_them() -> None:
    faults = [
        f"{where(path)}:{line} imports {name}"
        for path, name, line in every_import()
        for folder in BACK_ENDS
        if f"{name}.".startswith(f"cello.compiler.{folder.name}.")
        and not (package(path) != "compiler" or path.parent == folder or where(path) in KNOW_BACK_ENDS)
    ]
    assert faults == []


def test_the_reference_shares_nothing_with_the_back_ends_but_the_meaning_of_an_operation() -> None:
    path = SOURCE / "compiler" / "reference.py"
    own = {name for name, _ in imports(path) if name.startswith("cello.")}
    assert own == {
        *("cello.cells.definition", "cello.cells.sizes", "cello.compiler.inputs", "cello.compiler.operations")
    }
    assert len(path.read_text().splitlines()) <= 60


def test_only_one_file_calls_a_compiler() -> None:
    rooms = [path for path in MODULES if package(path) in ("cells", "compiler", "features", "native")]
    assert [where(p) for p in rooms if "subprocess" in {n for n, _ in imports(p)}] == [
        "native/build.py",
    ]


def test_no_two_files_need_each_other() -> None:
    names = {
        "cello." + where(p)[:-3].replace("/", "."): p for p in MODULES if p.parent != SOURCE or p.name == "files.py"
    }
    needs = {name: {found for found, _ in imports(path) if found in names} for name, path in names.items()}
    order: list[str] = []
    while len(order) < len(needs):
        free = [name for name in needs if name not in order and needs[name] <= set(order)]
        assert free, f"these files import each other in a circle: {sorted(set(needs) - set(order))}"
        order += free


def test_libraries_stay_behind_their_fences() -> None:
    faults = []
    for path, name, line in every_import():
        library = name.split(".")[0]
        if where(path) not in FENCES.get(library, [where(path)]):
            faults.append(f"{where(path)}:{line} imports {library}")
        if library == "torch" and (package(path) in TORCH_FREE or where(path) in TORCH_FREE_FILES):
            faults.append(f"{where(path)}:{line} imports torch, which takes seconds and is not needed there")
    assert faults == []


def test_reading_and_reporting_a_study_never_loads_torch() -> None:
    """Nor those parts of SciPy that take longer to load than a report's statistics to compute."""
    code = (
        "import sys, cello.cli.main, cello.report.write, cello.report.results, cello.study.store\n"
        "print({'torch', 'scipy.stats', 'scipy.optimize'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_imports_stand_at_the_top() -> None:
    faults = [
        f"{where(path)}:{inner.lineno} imports inside {node.name}"
        for path in MODULES
        if where(path) not in LAZY
        for node in functions(path)
        for inner in ast.walk(node)
        if isinstance(inner, (ast.Import, ast.ImportFrom))
    ]
    assert faults == []


def may_take_many(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Equations name all they need; Layer is called as torch.nn.LSTM is; scan is the one entry, with all options."""
    equations = any(ast.unparse(d).split("(")[0] == "cell" for d in node.decorator_list)
    return equations or (where(path), node.name) in {("models/layer.py", "__init__"), ("compiler/scan.py", "scan")}


def test_files_and_functions_can_be_read_in_one_go() -> None:
    faults = [where(path) for path in MODULES if len(path.read_text().splitlines()) > MAX_FILE]
    for path in MODULES:
        for node in functions(path):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION:
                faults.append(f"{where(path)}:{node.name} has {lines} lines")
            arguments = len(node.args.args) + len(node.args.kwonlyargs)
            if arguments > MAX_ARGUMENTS and not may_take_many(path, node):
                faults.append(f"{where(path)}:{node.name} takes {arguments} arguments")
    assert faults == []


def test_files_are_short_as_a_rule() -> None:
    lengths = sorted(len(p.read_text().splitlines()) for p in MODULES if p.name != "__init__.py")
    assert lengths[len(lengths) // 2] <= MEDIAN_FILE


# what is installed elsewhere without the workbench has its names in one place, as cello itself has
PUBLIC = {"__init__.py", "deploy/__init__.py"}


def test_sub_packages_re_export_nothing() -> None:
    for path in MODULES:
        if path.name == "__init__.py" and where(path) not in PUBLIC:
            assert [type(node) for node in tree(path).body] == [ast.Expr], f"{where(path)} holds more than a docstring"


def test_no_module_is_a_drawer_for_anything() -> None:
    assert {path.stem for path in MODULES}.isdisjoint({"utils", "helpers", "common", "base", "misc"})


def test_every_public_function_and_class_says_what_it_does() -> None:
    silent = [
        f"{where(path)}:{node.name}"
        for path in MODULES
        for node in tree(path).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        and not any(ast.unparse(d) == "overload" for d in node.decorator_list)
    ]
    assert silent == []
