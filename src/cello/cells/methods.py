"""Know a tensor's methods: those that values of a cell have too, and what to write instead of the others."""

from __future__ import annotations

REDUCTIONS = {"sum": "total", "mean": "mean", "max": "largest"}
"""The methods that take all elements of a value, and the operations that they are."""

_UNITS = "the language works unit by unit"
METHODS: dict[str, str] = {
    "softmax": "Write softmax({v})",
    **dict.fromkeys(("min", "amin"), "Write -(-{v}).max()"),
    "amax": "Write {v}.max()",
    "norm": "Write sqrt(({v} * {v}).sum())",
    **dict.fromkeys(("var", "std"), "Write d = {v} - {v}.mean(), and (d * d).mean() for the variance"),
    **dict.fromkeys(("detach", "data"), "Write stop({v}): the value without its derivative"),
    **dict.fromkeys(
        ("argmax", "cumsum", "sort", "topk"),
        "Of functions over units there are sum(), mean(), max(), softmax({v}), and C @ {v} with a fixed matrix C",
    ),
    **dict.fromkeys(("clamp", "clip"), "Write minimum(maximum({v}, low), high)"),
    **dict.fromkeys(("square", "pow"), "Write {v} * {v}, or {v} ** 2"),
    **dict.fromkeys(
        (
            "view",
            "reshape",
            "unsqueeze",
            "squeeze",
            "expand",
            "flatten",
            "chunk",
            "split",
            "size",
            "shape",
            "transpose",
        ),
        f"Leave it away: a cell is one example and one step, and {_UNITS}",
    ),
    **dict.fromkeys(
        ("to", "float", "double", "half", "cuda", "cpu", "clone", "contiguous"),
        "Leave it away: types and devices are the tensors' that the cell is given",
    ),
}
"""What to write instead of a tensor's method; {v} is the value."""
