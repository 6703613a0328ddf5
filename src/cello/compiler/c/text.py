"""Assemble the C text of a cell's kernel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

from cello.cells.definition import Cell
from cello.cells.summed import summed
from cello.compiler.activity import Active
from cello.compiler.c.backward import backward
from cello.compiler.c.calls import calls, tiles
from cello.compiler.c.forward import forward
from cello.compiler.c.source import Names, fields
from cello.compiler.centred import centred
from cello.compiler.deep import deep
from cello.compiler.expression import FURTHER, equations, shortened
from cello.compiler.identifiers import comment
from cello.compiler.kernel import kernel
from cello.compiler.step_names import COMMENTS

POINTERS = {"long": "long ", "longs": "const long *", "reals": "real *"}


@lru_cache(maxsize=256)
def names_of(cell: Cell, *, bf16: bool = False, active: Active | None = None) -> Names:
    """The names a cell's kernel uses; ``bf16`` says that its products are taken in bfloat16, but for those of heads.

    ``active`` is what it differentiates; None: everything.
    """
    alone, groups = centred(summed(cell))
    return Names(kernel(alone, active, groups, blocks=not bf16, computes=True), bf16)


@lru_cache(maxsize=256)
def source(cell: Cell, dtype: str, *, bf16: bool = False, active: Active | None = None) -> str:
    """The C of a cell for "float" or "double"; ``bf16``: of "float" with products in bfloat16.

    It calls functions of ``runtime``.
    """
    own = own_lines(cell, bf16=bf16, active=active)
    squares = _texts("exponentials.h") if any("exponential_and_square(" in line for line in own) else []
    text = "\n".join([*_further_functions(cell, bf16), *squares, *own])
    return with_headers(dtype, text, _title(cell), bf16=bf16)


def _further_functions(cell: Cell, bf16: bool) -> list[str]:
    """The functions that few cells use, where this one does, in its step or in its derivative."""
    lines, plan = [], names_of(cell, bf16=bf16).plan
    ops = {node.op for node in plan.gradient.nodes}
    if not FURTHER.isdisjoint(ops):
        text = resources.files("cello.compiler").joinpath("functions.h").read_text(encoding="utf-8")
        lines += [
            "#define LOCAL static inline",
            "#define CHOOSE(c, then, otherwise) select_vec(c, then, otherwise)",
            text,
        ]
    if not ops.isdisjoint(("total", "largest")):
        lines += _texts("reductions.h")
    if any(len(node.shape) == 2 for k, node in enumerate(plan.gradient.nodes) if k not in plan.matrices):
        lines += _texts("heads.h")
    return lines


@lru_cache(maxsize=4)
def runtime(dtype: str, *, bf16: bool = False) -> str:
    """The C that all kernels of a precision share, which is compiled once for all of them."""
    names = ["reductions.h", "products.c", "tiles.c", "threads.c", "reductions.c", "heads.h", "heads.c"]
    if bf16:
        names = ["bf16.h", *names, "pairs.c"]
    return with_headers(dtype, "\n".join(_texts(*names)), bf16=bf16)


def with_headers(dtype: str, text: str, title: Sequence[str] = (), *, bf16: bool = False) -> str:
    """C for "float" or "double" that may call functions of ``runtime``."""
    wide = "int64_t" if dtype == "double" else "int32_t"
    parts = [
        *title,
        "#include <stdint.h>",
        f"typedef {dtype} real;",
        f"typedef {wide} integer;",
        f"#define DOUBLE {int(dtype == 'double')}",
        f"#define BF16 {int(bf16)}",
        "",
        *_texts("vectors.h", "tiles.h", "products.h", *(["pairs.h"] if bf16 else [])),
        text,
    ]
    return "\n".join(parts)


def _texts(*names: str) -> list[str]:
    return [resources.files("cello.compiler.c").joinpath(name).read_text(encoding="utf-8") for name in names]


def own_text(cell: Cell) -> str:
    """What of the C is the cell's own: everything but the runtime that all kernels share."""
    return "\n".join([*_title(cell), *own_lines(cell)])


def _title(cell: Cell) -> list[str]:
    step = [f"   {comment(f'{left} = {right}')}" for left, right in equations(cell.graph, COMMENTS)]
    step = shortened(step, "   ... {} more equations ...")
    about = [
        "   A tile is some clips of the batch; at step t its first n rows run. A row of H units is padded to P.",
        "   Written by Cello. */",
    ]
    return [f"/* {comment(f'{cell.name}: {cell.title}')}", "", *step, "", *about, ""]


@deep()
def own_lines(cell: Cell, *, bf16: bool = False, active: Active | None = None) -> list[str]:
    """The lines that differ from cell to cell."""
    names = names_of(cell, bf16=bf16, active=active)
    return [
        "struct arguments {",
        *(f"    {POINTERS[field.kind]}{field.name};    /* {field.what} */" for field in fields(names)),
        "};",
        "",
        tiles(names),
        *forward(names),
        "",
        *backward(names),
        "",
        calls(names),
    ]
