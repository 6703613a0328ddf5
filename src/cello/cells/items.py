"""Say what to write instead of an element or a part of a value: ``v[0]``, ``v[:4]``, ``v[:, None]``, ``U["a"]``."""

from __future__ import annotations

from typing import Any

from cello.cells.methods import METHODS


def instead_of_item(name: str, op: str, key: Any) -> tuple[str, str]:
    """What a message says of ``name[key]``, and what it says to write; ``op`` is that of the value's record."""
    keys = key if isinstance(key, tuple) else (key,)
    shown = ", ".join(_shown(each) for each in keys)
    fact = f"{name}[{shown}] is read, but equations act on whole vectors"
    if op == "parameter" and name.endswith(".shape"):
        return f"{name}[{shown}] is read, but sizes are known later", METHODS["shape"]
    if isinstance(key, str):
        loop = f'getattr({name}, "{key}")'
        if op != "argument" or not key.isidentifier():
            return fact, "Only arguments after the states have members, such as W.i"
        return f"{name}[{shown}] is read, but members of a group are attributes", f"Write {name}.{key}, or {loop}"
    if None in keys:
        return fact, f"Write outer(v, k) for v[:, None] * k, beside a state S: Heads(4), and {name} itself elsewhere"
    if op == "input":
        return fact, f'Name the parts of the frame, as in {name}: Parts("value", gap=1), and use {name}.gap'
    if isinstance(key, int):
        several = f'one of several parameters is {name}.a, in a loop getattr({name}, f"n{{k}}"); ' * (op == "argument")
        return fact, f"Compute each such number by itself; {several}w.a @ v is one number a step with w: Size(1)"
    return (
        fact,
        "Compute each part by itself, with a matrix of its own: W.a @ x and W.b @ x, in place of parts of W @ x",
    )


def _shown(key: Any) -> str:
    """A key as it was written."""
    if not isinstance(key, slice):
        return "..." if key is Ellipsis else repr(key)
    ends = ["" if end is None else repr(end) for end in (key.start, key.stop)]
    return ":".join(ends if key.step is None else [*ends, repr(key.step)])
