"""Read what stands behind an argument's colon: an annotation of the language, a type, or what was meant as one."""

from __future__ import annotations
import __future__

import ast
import inspect
import re
from collections.abc import Callable
from numbers import Real
from typing import Any

from cello.cells.sizes import is_size
from cello.cells.trace import Tracer
from cello.errors import CellError

CALLS = ("Learned(", "Fixed(", "Scalar(", "Members(", "Size(", "Heads(", "Parts(")
NAMES = frozenset(call.removesuffix("(") for call in CALLS)

_TENSOR = re.compile(r"[\w.]*(Tensor|[Aa]rray)(\[.*\])?")
"""What type checkers alone may know, and nothing can evaluate."""


def evaluated(function: Callable[..., Any], name: str, annotation: Any, tracer: Tracer) -> Any:
    """An annotation that is text, because of ``from __future__ import annotations`` or quotes, as what it says.

    Raises:
        CellError: a text, a number, a list or a function, which says nothing by itself.
    """
    own = inspect.unwrap(function)
    if not isinstance(annotation, str):
        return _checked(own, name, annotation, tracer)
    if own.__code__.co_flags & __future__.annotations.compiler_flag:
        text = _text_of(own, annotation)
        if text is None and not any(call in annotation for call in CALLS):
            found = _known(own, annotation)
            return annotation if found is None else _checked(own, name, found, tracer)
        annotation = annotation if text is None else text
    if any(call in annotation for call in CALLS):
        return _value(own, name, annotation, tracer)
    if annotation.rsplit(".")[-1] in (*NAMES, "float", "int") or _TENSOR.fullmatch(annotation):
        return annotation
    found = _known(own, annotation)
    if found is None or isinstance(found, Real | str):
        return _checked(own, name, annotation, tracer)
    return annotation if isinstance(found, type) else _checked(own, name, found, tracer)


def _text_of(own: Callable[..., Any], source: str) -> str | None:
    """The text that an annotation's source is, or a size or a part without quotes; None for other source."""
    bare = source.replace(" ", "")
    if (is_size(bare) and not bare.isdigit()) or _is_part(own, bare):
        return bare
    try:
        found = ast.literal_eval(source)
    except (ValueError, SyntaxError):
        return None
    return found if isinstance(found, str) else None


def _is_part(own: Callable[..., Any], text: str) -> bool:
    return text.startswith(f"{own.__code__.co_varnames[0]}.") and text.count(".") == 1


def _known(own: Callable[..., Any], source: str) -> Any:
    """What the source of an annotation is, None if that cannot be told."""
    try:
        return eval(source, _names(own))
    except Exception:
        return None


def _names(own: Callable[..., Any]) -> dict[str, Any]:
    closure = inspect.getclosurevars(own).nonlocals if inspect.isfunction(own) else {}
    known = getattr(own, "__globals__", {})
    return {**known, **closure} if closure else known


def _value(own: Callable[..., Any], name: str, source: str, tracer: Tracer) -> Any:
    try:
        return eval(source, _names(own))
    except CellError as error:
        raise tracer.error(f"the annotation of {name}, {source}: {error}", "Correct it") from error
    except Exception as error:
        raise tracer.error(
            f"the annotation of {name}, {source}, raised {type(error).__name__}: {error}",
            "Import or define at the top of the file what it uses",
        ) from error


def _checked(own: Callable[..., Any], name: str, annotation: Any, tracer: Tracer) -> Any:
    """An annotation, unless it is a plain value, which was meant as one of the language's."""
    if isinstance(annotation, str):
        text = annotation.replace(" ", "")
        known = is_size(text) or _is_part(own, text)
        remedy = f'Write {name}: Size("{text}")' if known else f'Write {name}: Size("H"), or no annotation'
        raise tracer.error(f"{name} is annotated with the text {annotation!r}, which says nothing by itself", remedy)
    if inspect.isfunction(annotation):
        fact, remedy = "a function", f"Write {name}: Learned(...) or {name}: Fixed(...) around it"
    elif isinstance(annotation, Real):
        fact, remedy = f"the number {annotation!r}", f"Write {name}: Learned({annotation!r}) for its first value"
        if isinstance(annotation, int) and not isinstance(annotation, bool):
            remedy = (
                f"Write {name}: Size({annotation}) for its elements, or {name}: Learned({annotation}) for its "
                f"first value"
            )
    elif isinstance(annotation, list | tuple | set | dict):
        fact, remedy = f"a {type(annotation).__name__}", f"Write {name}: Members(f=Learned(1.0)) for several members"
    elif hasattr(annotation, "dtype") and not isinstance(annotation, type):
        fact, remedy = f"a {type(annotation).__name__}", f"Write {name}: Fixed(lambda i, j: ...) by its elements"
    else:
        return annotation
    raise tracer.error(f"{name} is annotated with {fact}, which says nothing by itself", remedy)
