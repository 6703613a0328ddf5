"""Run the blocks of a kernel: each warp by itself, up to where it waits for the other warps or another block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ptx.arithmetic import NotEmulatedError
from ptx.flow import meeting_places
from ptx.instructions import Run, bound
from ptx.memory import Clock, GlobalMemory, KernelError, SharedMemory
from ptx.text import Program
from ptx.warp import WARP, Block, Mask, Warp

MOST_TURNS = 200
"""How often every block may look in vain whether the others are there, beyond the looks that all of its warps take at
what others leave to it."""
MOST_ROUNDS = 10_000
"""How often a warp may go back in its program."""
BARRIER, ELSEWHERE, END = "a barrier", "another block", "its end"
"""What a warp waits for."""


@dataclass(frozen=True)
class Order:
    """How warps and blocks take turns: whether the last goes first, and how many blocks run at the same time."""

    reverse: bool = False
    at_once: int = 1 << 16

    def of(self, count: int) -> list[int]:
        """Numbers below ``count`` in this order."""
        return [*range(count)][:: -1 if self.reverse else 1]


IN_ORDER = Order()


@dataclass
class Counts:
    """How often the warps together executed each instruction, and by how many warps."""

    executed: list[int]
    warps: int = 0

    @property
    def a_thread(self) -> float:
        """Instructions that a thread executed, on average."""
        return sum(self.executed) / max(self.warps, 1)

    def a_step(self, loop: range) -> float:
        """Those that it executed each time it went through a loop, on average."""
        return sum(self.executed[loop.start : loop.stop]) / max(self.executed[loop.start], 1) if loop else 0.0


class _Thread:
    """A warp on its way through the program; where its lanes part, some go first to where all meet again."""

    def __init__(self, program: Program, meeting: Mapping[int, int], warp: Warp, counts: Counts) -> None:
        self.program, self.meeting, self.warp, self.counts = program, meeting, warp, counts
        self.steps: list[Run | None] = [None] * len(program.instructions)
        self.begin()

    def begin(self) -> None:
        self.at = self.rounds = 0
        self.mask: Mask | None = None
        self.until = -1
        self.waiting: list[tuple[int, int, Mask | None]] = []
        self.warp.asked.clear()
        self.warp.groups.clear()

    def run(self) -> str:
        """Go on, and say what it waits for."""
        instructions, steps, executed = self.program.instructions, self.steps, self.counts.executed
        try:
            while True:
                while self.at == self.until:
                    self.at, self.until, self.mask = self.waiting.pop()
                at = self.at
                executed[at] += 1
                step = steps[at]
                if step is not None:
                    step(self.mask)
                    self.at = at + 1
                elif (waits := self._other(at)) is not None:
                    return waits
        except (KernelError, NotEmulatedError) as error:
            where = f"block {self.warp.block.clock.block}, warp {self.warp.number}"
            raise type(error)(f"{error}: {instructions[self.at]} ({where})") from None

    def _other(self, at: int) -> str | None:
        """Control flow, and instructions that are executed for the first time; what the warp waits for then."""
        instruction = self.program.instructions[at]
        name = instruction.opcode
        if name in ("bra", "bra.uni"):
            self._branch(self.program.labels[str(instruction.operands[0])])
        elif name == "bar.sync":
            self._whole("bar.sync")
            self.at += 1
            return BARRIER
        elif name in ("ret", "exit"):
            self._whole(name)
            return END
        else:
            step = bound(instruction, self.warp)
            if name.startswith(("ld.global.gpu.", "ld.volatile.global.")):  # by turns with other blocks
                step(self.mask)
                self.at += 1
                return ELSEWHERE
            self.steps[at] = step
            step(self.mask)
            self.at += 1
        return None

    def _whole(self, what: str) -> None:
        if self.mask is not None or self.program.instructions[self.at].guard:
            raise KernelError(f"only some threads of a warp come to {what}")

    def _branch(self, target: int) -> None:
        guard = self.program.instructions[self.at].guard
        self.rounds += target <= self.at
        if self.rounds > MOST_ROUNDS:
            raise KernelError(f"a loop ends not even after {MOST_ROUNDS:,} rounds")
        if guard is None:
            self.at = target
            return
        register, negated = guard
        goes = self.warp.row(register, "pred") != negated
        here = np.ones(WARP, np.bool_) if self.mask is None else self.mask
        if not (goes & here).any():
            self.at += 1
        elif (goes | ~here).all():
            self.at = target
        else:
            meet = self.meeting[self.at]
            self.waiting.append((meet, self.until, self.mask))
            self.waiting.append((self.at + 1, meet, here & ~goes))
            self.at, self.until, self.mask = target, meet, here & goes


@dataclass(eq=False)
class _Running:
    """A block on its way: its warps, and what they share."""

    block: Block
    threads: list[_Thread]
    order: Order
    done: list[str] = field(default_factory=list)

    def run(self) -> Iterator[None]:
        """Go on to the end; others are let go on where it looks whether they are there."""
        while True:
            self.done = ["" for _ in self.threads]
            for number in self.order.of(len(self.threads)):
                while (waits := self.threads[number].run()) == ELSEWHERE:
                    yield
                self.done[number] = waits
            if {*self.done} == {END}:
                return
            if {*self.done} != {BARRIER}:
                raise KernelError(
                    f"some warps of block {self.block.clock.block} wait at a barrier, and others are at an end"
                )
            self.block.shared.barrier()
            self.block.clock.barrier()


class Machine:
    """A GPU of one kernel: runs a grid of its blocks."""

    def __init__(self, program: Program, shared: int, order: Order = IN_ORDER) -> None:
        self.program, self.shared, self.order = program, shared, order
        self.counts = Counts([0] * len(program.instructions))
        self.meeting = meeting_places(program)
        self._idle: list[_Running] = []

    def launch(self, grid: tuple[int, int], memory: GlobalMemory, parameters: Sequence[int]) -> None:
        """Run all blocks; what they leave is in the buffers of the memory.

        Raises:
            KernelError: a block does what none may, or waits for ever.
            NotEmulatedError: one of the instructions is not emulated.
        """
        given = dict(zip(self.program.parameters, parameters, strict=True))
        places = [(x, y) for y in range(grid[1]) for x in range(grid[0])]
        waiting = iter([(number, *places[number]) for number in self.order.of(len(places))])
        running: list[tuple[_Running, Iterator[None]]] = []
        turns, writes, total = 0, -1, len(places)
        looks = len(self.program.numbers_of("ld.volatile.global")) * self.program.threads // WARP
        while True:
            while len(running) < self.order.at_once and (place := next(waiting, None)) is not None:
                begun = self._begun(place, (grid, total), memory, given)
                running.append((begun, begun.run()))
            if not running:
                return
            left = [each for each in running if next(each[1], self) is not self]
            self._idle += [each for each, _ in running if all(each is not kept for kept, _ in left)]
            turns = turns + 1 if len(left) == len(running) and memory.writes == writes else 0
            if turns > MOST_TURNS + looks:
                raise KernelError(f"{len(running)} of {total} blocks wait for each other for ever")
            running, writes = left, memory.writes

    def _begun(
        self,
        place: tuple[int, int, int],
        of: tuple[tuple[int, int], int],
        memory: GlobalMemory,
        parameters: Mapping[str, int],
    ) -> _Running:
        number, x, y = place
        grid, total = of
        found = self._idle.pop() if self._idle else self._made(memory, parameters)
        block = found.block
        block.memory, block.parameters = memory, parameters
        block.clock = Clock(number, np.zeros(total, np.int32))
        values = {"%ctaid.x": x, "%ctaid.y": y, "%nctaid.x": grid[0], "%nctaid.y": grid[1]}
        for name, value in values.items():
            block.places[name][:] = value
        block.shared.begin()
        for thread in found.threads:
            thread.begin()
        self.counts.warps += len(found.threads)
        return found

    def _made(self, memory: GlobalMemory, parameters: Mapping[str, int]) -> _Running:
        names = ("%ctaid.x", "%ctaid.y", "%nctaid.x", "%nctaid.y")
        places: dict[str, Any] = {name: np.zeros(1, np.uint32) for name in names}
        block = Block(memory, SharedMemory(self.shared), parameters, Clock(0, np.zeros(1, np.int32)), places)
        warps = [Warp.of(number, block, self.program.registers) for number in range(self.program.threads // WARP)]
        return _Running(block, [_Thread(self.program, self.meeting, warp, self.counts) for warp in warps], self.order)
