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
"""How often every block may look in vain whether the others are there, and once more wherever a warp looks."""
RARELY = 20
"""Every which turn a slow warp has."""
LOOKING = "ld.global.gpu.", "ld.volatile."
"""Instructions that do."""
MOST_ROUNDS = 10_000
"""How often a warp may go back in its program."""
BARRIER, CLUSTER, ELSEWHERE, END = "a barrier", "a barrier of the cluster", "another block", "its end"
"""What a warp waits for."""


@dataclass(frozen=True)
class Order:
    """How warps and blocks take turns: whether the last goes first, how many blocks run at the same time, and which
    warp of every other block, if any, goes on only every ``RARELY`` turns."""

    reverse: bool = False
    at_once: int = 1 << 16
    slow: int | None = None

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
        self.looks: dict[int, Run] = {}
        self.begin()

    def begin(self) -> None:
        self.at = self.rounds = 0
        self.mask: Mask | None = None
        self.until = -1
        self.arrived = False
        self.waiting: list[tuple[int, int, Mask | None]] = []
        self.warp.asked.clear()
        self.warp.groups.clear()
        self.warp.multiplied.clear()

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
            if self.warp.multiplied:
                raise KernelError("a product of several warps was not waited for")
            self.at += 1
            return BARRIER
        elif name.startswith("barrier.cluster."):
            self._whole(name)
            self.at += 1
            self.arrived = self.arrived or ".arrive" in name
            if ".wait" in name:
                if not self.arrived:
                    raise KernelError("it waits at a barrier of the cluster at which it has not arrived")
                self.arrived = False
                return CLUSTER
        elif name in ("ret", "exit"):
            self._whole(name)
            return END
        else:
            step = self.looks.get(at) or bound(instruction, self.warp)
            if name.startswith(LOOKING):  # by turns with other blocks
                self.looks[at] = step
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
    cluster: _Cluster
    done: list[str] = field(default_factory=list)
    turns: int = 0

    def run(self) -> Iterator[None]:
        """Go on to the end; others are let go on where it looks whether they are there."""
        self.block.running = True
        while True:
            self.done = ["" for _ in self.threads]
            going = self.order.of(len(self.threads))
            while True:
                self.turns += 1
                slow = self.order.slow if self.block.clock.block % 2 else None
                for number in going:
                    if number != slow or self.turns % RARELY == 0:
                        self.done[number] = self.threads[number].run()
                going = [number for number in going if self.done[number] in ("", ELSEWHERE)]
                if not going:
                    break
                yield
            if {*self.done} == {END}:
                if self.block.shared.others_wrote:
                    raise KernelError(
                        f"block {self.block.clock.block} ends, and others wrote into its shared memory since the last "
                        "barrier of the cluster"
                    )
                self.block.running = False
                return
            if {*self.done} == {CLUSTER}:
                yield from self.cluster.wait()
                continue
            if {*self.done} != {BARRIER}:
                raise KernelError(
                    f"some warps of block {self.block.clock.block} wait at a barrier, and others are at an end"
                )
            self.block.shared.barrier()
            self.block.clock.barrier()


@dataclass(eq=False)
class _Cluster:
    """Blocks that begin together."""

    blocks: list[Block] = field(default_factory=list)
    arrived: int = 0
    passed: int = 0

    def wait(self) -> Iterator[None]:
        """Let others go on until all blocks are at this barrier; each then sees what all have done."""
        before = self.passed
        self.arrived += 1
        if self.arrived == len(self.blocks):
            self.arrived, self.passed = 0, before + 1
            for block in self.blocks:
                block.shared.barrier()
                block.shared.others_wrote = False
                block.clock.barrier()
            seen = np.maximum.reduce([block.clock.seen for block in self.blocks])
            for block in self.blocks:
                seen[block.clock.block] = block.clock.epoch
            for block in self.blocks:
                block.clock.seen = seen.copy()
        while self.passed == before:
            yield


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
        places, of = [(x, y) for y in range(grid[1]) for x in range(grid[0])], self.program.cluster
        if grid[0] % of or self.order.at_once < of:
            raise KernelError(
                f"a cluster has {of} blocks, of {grid[0]} blocks side by side, and {self.order.at_once} run at once"
            )
        waiting = iter([[n * of + each for each in self.order.of(of)] for n in self.order.of(len(places) // of)])
        running: list[tuple[_Running, Iterator[None]]] = []
        turns, writes, total = 0, -1, len(places)
        looks = sum(each.opcode.startswith(LOOKING) for each in self.program.instructions)
        most = MOST_TURNS + looks * self.program.threads // WARP
        while True:
            while len(running) + of <= self.order.at_once and (numbers := next(waiting, None)) is not None:
                begun = [self._begun((n, *places[n]), (grid, total), memory, given) for n in numbers]
                together = _Cluster([each.block for each in sorted(begun, key=lambda each: each.block.clock.block)])
                for each in begun:
                    each.cluster, each.block.cluster = together, together.blocks if of > 1 else ()
                running += [(each, each.run()) for each in begun]
            if not running:
                return
            left = [each for each in running if next(each[1], self) is not self]
            self._idle += [each for each, _ in running if all(each is not kept for kept, _ in left)]
            turns = turns + 1 if len(left) == len(running) and memory.writes == writes else 0
            if turns > most * (1 if self.order.slow is None else RARELY):
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
        base = SharedMemory.ALIGNED if self.program.numbers_of("wgmma") else SharedMemory.BASE
        block = Block(memory, SharedMemory(self.shared, base), parameters, Clock(0, np.zeros(1, np.int32)), places)
        warps = [Warp.of(number, block, self.program.registers) for number in range(self.program.threads // WARP)]
        threads = [_Thread(self.program, self.meeting, warp, self.counts) for warp in warps]
        return _Running(block, threads, self.order, _Cluster([block]))
