"""Write arrays, strings and chosen parts of templates as C99."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CONDITION = re.compile(r"#(if|else|endif)\b *(\w*)")
_LONGEST_LINE = 110


def chosen(text: str, flags: Mapping[str, bool]) -> str:
    """A template with its ``#if FLAG``, ``#else``, ``#endif`` lines carried out for these flags; others stay.

    >>> chosen("a;#if X;b;#else;c;#endif;d".replace(";", chr(10)), {"X": False}).split()
    ['a', 'c', 'd']
    """
    kept: list[str] = []
    open_: list[bool | None] = []  # whether what is inside each #if is kept; None: the compiler decides
    for line in text.splitlines():
        word, flag = found.groups() if (found := _CONDITION.match(line)) else ("", "")
        if word == "if":
            open_.append(flags.get(flag))
        elif word == "else" and open_[-1] is not None:
            open_[-1] = not open_[-1]
        elif word == "endif" and open_.pop() is not None:
            continue
        if (word in ("if", "else") and open_[-1] is not None) or False in open_:
            continue
        kept.append(line)
    return "\n".join(kept)


def static_array(kind: str, name: str, values: NDArray[np.generic], inner: int = 0) -> list[str]:
    """``static const KIND NAME[] = {...};`` of numbers at their shortest; ``inner`` numbers an element."""
    flat = values.reshape(-1)
    flat = flat.astype({"float": np.float32, "double": np.float64}.get(kind, flat.dtype))
    texts = [_float(value) if kind in ("float", "double") else f"{value}" for value in flat]
    if inner:
        texts = [f"{{{', '.join(texts[k : k + inner])}}}" for k in range(0, len(texts), inner)]
    size = f"[{len(texts)}]" + (f"[{inner}]" if inner else "")
    return [f"static const {kind} {name}{size} = {{", *_wrapped(texts), "};"]


def _float(value: Any) -> str:
    if np.isinf(value):
        return "(float)INFINITY" if value > 0 else "-(float)INFINITY"
    return f"{value!s}{'f' * isinstance(value, np.float32)}"


def _wrapped(texts: Iterable[str]) -> list[str]:
    lines, line = list[str](), "   "
    for text in texts:
        if len(line) + len(text) > _LONGEST_LINE:
            lines.append(line)
            line = "   "
        line += f" {text},"
    return [*lines, line]


def blocks(matrix: NDArray[np.generic], rows: int) -> NDArray[np.generic]:
    """A matrix (R, C) as blocks of ``rows`` rows, padded with zeros, column after column: (⌈R / rows⌉, C, rows).

    >>> blocks(np.arange(6).reshape(3, 2), 2).tolist()
    [[[0, 2], [1, 3]], [[4, 0], [5, 0]]]
    """
    padded = np.zeros((-(-len(matrix) // rows) * rows, matrix.shape[1]), matrix.dtype)
    padded[: len(matrix)] = matrix
    return padded.reshape(-1, rows, matrix.shape[1]).transpose(0, 2, 1)


def padded(vector: NDArray[np.generic], multiple: int) -> NDArray[np.generic]:
    """A vector with zeros after it, up to the next multiple."""
    return np.concatenate([vector, np.zeros(-len(vector) % multiple, vector.dtype)])


def string(text: str) -> str:
    """A string literal of a text's UTF-8.

    >>> print(string('"no?"'))
    "\\042no\\077\\042"
    """
    plain = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'


def macros(values: Sequence[tuple[str, object]], prefix: str = "") -> list[str]:
    """``#define`` lines."""
    return [f"#define {prefix}{name} {value}" for name, value in values]
