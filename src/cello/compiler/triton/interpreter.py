"""Run the programs that share the units of some clips side by side in Triton's interpreter, which knows one at a time.

Each is a thread; only one of them runs at any time, until it has to wait for the others.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

with suppress(ImportError):  # then no kernel is made either
    import triton.language as tl
    from triton.runtime import interpreter
    from triton.runtime.interpreter import InterpretedFunction, interpreter_builder

    _converted = interpreter._convert_float

_program = threading.local()
COMBINE = {"plus": "_sum_combine", "larger": "_elementwise_max"}
"""How the interpreter calls the functions of two numbers that it reduces whole arrays by."""


def plain_functions(space: dict[str, Any]) -> None:
    """Let the functions that kernels share be called as Python's own: Triton prepares its whole language anew at each
    call of another."""
    for name, known in COMBINE.items():  # any other function is called for each element
        space[name] = getattr(tl.standard, known, space[name])
    options = interpreter_builder.options  # each sum of places would be computed twice to look for an overflow
    interpreter_builder.options = replace(options, sanitize_overflow=False)
    types_known_once()
    interpreter._convert_float = _rounded
    shared = {name: function for name, function in space.items() if isinstance(function, InterpretedFunction)}
    space.update({name: function.rewrite() for name, function in shared.items() if name not in COMBINE})


@cache
def types_known_once() -> None:
    """Let the type of a tile be computed once for each shape; the interpreter does so for every value of every step."""
    begin_type, begin_tensor, numpy_type = tl.block_type.__init__, tl.tensor.__init__, interpreter._get_np_dtype
    types = dict[tuple[str, tuple[int, ...]], dict[str, Any]]()
    tensors, numpy_types = dict[str, dict[str, Any]](), dict[str, np.dtype[Any]]()

    def of_type(self: Any, element_ty: Any, shape: Any) -> None:
        key = element_ty.name, tuple(getattr(size, "value", size) for size in getattr(shape, "values", shape))
        if key not in types:
            begin_type(self, element_ty, shape)
            types[key] = {**vars(self)}
        vars(self).update(types[key], element_ty=element_ty)

    def of_tensor(self: Any, handle: Any, type: Any) -> None:
        if type.name not in tensors:
            begin_tensor(self, handle, type)
            tensors[type.name] = {**vars(self), "handle": None}
        vars(self).update(tensors[type.name], handle=handle, type=type, dtype=type.scalar)

    def in_numpy(of: Any) -> np.dtype[Any]:
        name = of.scalar.name
        if name not in numpy_types:
            numpy_types[name] = numpy_type(of)
        return numpy_types[name]

    tl.block_type.__init__, tl.tensor.__init__, interpreter._get_np_dtype = of_type, of_tensor, in_numpy


def _rounded(data: Any, given: Any, wanted: Any, mode: Any) -> Any:
    """Convert numbers, to bfloat16 half to even as a GPU does; the interpreter itself cuts off the other bits."""
    if (given, wanted) != (tl.float32, tl.bfloat16):
        return _converted(data, given, wanted, mode)
    bits = np.ascontiguousarray(data).view(np.uint32)
    rounded = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
    return np.where(bits << 1 > 0xFF000000, 0x7FC0, rounded).astype(np.uint16).reshape(data.shape)


def take_turns(space: dict[str, Any]) -> None:
    """Let the kernels of an interpreted module run as many programs for each place of their grid as share its units."""
    space["program"] = lambda split: (tl.program_id(0), _program.part)
    space["meet"] = _meet
    for name in ("forward", "backward"):
        kernel = space[name]
        InterpretedFunction.rewritten_fn[kernel.fn] = _together(kernel.rewrite())


def _meet() -> None:
    _program.turns.meet()


def _together(one: Callable[..., None]) -> Callable[..., None]:
    def all_parts(**arguments: Any) -> None:
        split = arguments["SPLIT"]
        _Turns(getattr(split, "value", split)).run(one, arguments)

    all_parts.__signature__ = inspect.signature(one)  # type: ignore[attr-defined]
    all_parts.__annotations__ = one.__annotations__
    return all_parts


class _Turns:
    def __init__(self, count: int) -> None:
        self.count, self.turn = count, threading.Lock()
        self.barrier = threading.Barrier(count)
        self.faults: list[BaseException] = []

    def run(self, one: Callable[..., None], arguments: dict[str, Any]) -> None:
        others = range(1, self.count)
        threads = [threading.Thread(target=self._part, args=(number, one, arguments)) for number in others]
        for thread in threads:
            thread.start()
        self._part(0, one, arguments)
        for thread in threads:
            thread.join()
        if self.faults:
            raise self.faults[0]

    def _part(self, number: int, one: Callable[..., None], arguments: dict[str, Any]) -> None:
        _program.part, _program.turns = number, self
        try:
            with self.turn, np.errstate(all="ignore"):  # what rows and units of padding hold counts for nothing
                one(**arguments)
        except BaseException as error:
            self.faults.append(error)
            self.barrier.abort()

    def meet(self) -> None:
        """Wait for the others."""
        self.turn.release()
        try:
            self.barrier.wait()
        finally:
            self.turn.acquire()
