"""Memory of a GPU as an emulated kernel sees it: buffers at made-up addresses, and the shared memory of a block.

Both look for what a device would not tell: an address outside every buffer, or one that is no multiple of what is
read; bytes that nobody wrote; two warps, or two blocks, of which one writes what the other reads or writes with no
barrier between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]

OF_A_BUFFER = 40
"""The bits of an address within a buffer: those above tell which it is."""
WATCHED = 1 << 24
"""Bytes of a buffer up to which it is watched for what blocks do there without waiting for each other."""


class KernelError(Exception):
    """What a kernel must not do."""


@dataclass(eq=False)
class Buffer:
    """A tensor's memory, which begins at the address ``base``."""

    name: str
    data: Bytes
    base: int
    watch: Watch | None = None


@dataclass(eq=False)
class Watch:
    """Which warp of which block wrote each two bytes last, in which of its epochs, and which blocks read them when.

    An epoch of a block ends at a barrier of all its threads.
    """

    writer: NDArray[np.int32]
    warp: NDArray[np.int32]
    written: NDArray[np.int32]
    read: dict[int, NDArray[np.int32]] = field(default_factory=dict)


@dataclass(eq=False)
class Clock:
    """The epoch of a block, and up to which epoch it has seen what others did."""

    block: int
    seen: NDArray[np.int32]
    epoch: int = 1
    acquired: NDArray[np.int32] | None = None

    def barrier(self) -> None:
        """All threads of the block see from here on what one of them has acquired."""
        self.epoch += 1
        if self.acquired is not None:
            self.seen = np.maximum(self.seen, self.acquired)


class GlobalMemory:
    """All buffers that a kernel is given."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.released: dict[int, NDArray[np.int32]] = {}
        self.writes = 0

    def add(self, name: str, data: Bytes, *, beyond: int = 0, first: int = 0) -> int:
        """Place a buffer, its first byte as many ``beyond`` a multiple of 512 as a tensor's is; its address.

        ``first``: how many bytes of the tensor stand before those that are there.
        """
        base = ((len(self.buffers) + 1) << OF_A_BUFFER) + beyond % 512
        watch = None
        if len(data) <= WATCHED:
            size = len(data) // 2 + 1
            watch = Watch(np.full(size, -1, np.int32), *np.zeros((2, size), np.int32))
        self.buffers.append(Buffer(name, data, base + first, watch))
        return base

    def _found(self, addresses: NDArray[np.uint64], width: int) -> Iterator[tuple[Buffer, Places, NDArray[np.intp]]]:
        """The buffers that lanes address, the places of each one's bytes, and which lanes."""
        which = addresses >> np.uint64(OF_A_BUFFER)
        for number in sorted({*which.tolist()}):
            lanes = np.flatnonzero(which == number)
            mine = addresses[lanes]
            if not 1 <= number <= len(self.buffers):
                raise KernelError(f"address {int(mine[0]):#x} is in no buffer")
            buffer = self.buffers[number - 1]
            places = mine.astype(np.int64) - buffer.base
            if (outside := (places < 0) | (places > len(buffer.data) - width)).any():
                place = int(places[outside][0])
                raise KernelError(
                    f"{width} bytes at byte {place:,} of {buffer.name}, which has {len(buffer.data):,}"
                    f" (lane {int(lanes[outside][0])})"
                )
            if (mine % np.uint64(width)).any():
                raise KernelError(f"an address in {buffer.name} is no multiple of the {width} bytes at it")
            yield buffer, places, lanes

    def load(self, addresses: NDArray[np.uint64], width: int, clock: Clock | None, warp: int) -> Bytes:
        """So many bytes at each address, (lanes, width); no clock: others may write there at the same time."""
        found = np.empty((len(addresses), width), np.uint8)
        for buffer, places, lanes in self._found(addresses, width):
            if clock is not None:
                self._watch_read(buffer, _each(places, width) // 2, clock, warp)
            found[lanes] = buffer.data[_each(places, width)]
        return found

    def never_written(self, addresses: NDArray[np.uint64], width: int) -> None:
        """What is read as if it stayed the same must do so: the kernel wrote none of it."""
        for buffer, places, _ in self._found(addresses, width):
            if buffer.watch is not None and (buffer.watch.writer[_each(places, width) // 2] >= 0).any():
                raise KernelError(f"what the kernel wrote to {buffer.name} is read as if nobody did")

    def store(self, addresses: NDArray[np.uint64], values: Bytes, clock: Clock | None, warp: int) -> None:
        """Write the bytes of each lane, (lanes, width)."""
        width = values.shape[1]
        self.writes += 1
        for buffer, places, lanes in self._found(addresses, width):
            at = _each(places, width)
            if clock is not None:
                self._watch_write(buffer, at, buffer.data[at] != values[lanes], clock, warp)
            buffer.data[at] = values[lanes]

    def _watch_read(self, buffer: Buffer, at: Places, clock: Clock, warp: int) -> None:
        if (watch := buffer.watch) is None:
            return
        unseen = self._unseen(watch, at, clock, warp)
        if unseen.any():
            raise KernelError(f"{self._of(watch, at, unseen, clock, warp)} {buffer.name}, without having waited for it")
        if clock.block not in watch.read:
            watch.read[clock.block] = np.zeros(len(watch.writer), np.int32)
        watch.read[clock.block][at] = clock.epoch

    def _watch_write(
        self, buffer: Buffer, bytes_at: Places, changed: NDArray[np.bool_], clock: Clock, warp: int
    ) -> None:
        """What several blocks have alike each of them may write; any other byte only after those that used it."""
        if (watch := buffer.watch) is None:
            return
        at = bytes_at // 2
        unseen = self._unseen(watch, at, clock, warp)
        if (wrong := unseen & changed).any():
            what = self._of(watch, at, wrong, clock, warp).replace(" reads ", " writes ")
            raise KernelError(f"{what} {buffer.name}, without having waited for it")
        for block, epochs in watch.read.items():
            if block != clock.block and (changed & (epochs[at] >= max(1, clock.seen[block]))).any():
                raise KernelError(f"block {clock.block} writes to {buffer.name} what block {block} may be reading")
        mine = at[~unseen]
        watch.writer[mine], watch.warp[mine], watch.written[mine] = clock.block, warp, clock.epoch

    def _unseen(self, watch: Watch, at: Places, clock: Clock, warp: int) -> NDArray[np.bool_]:
        """Where another block, or another warp of this one, wrote what this one need not see yet."""
        writer, written = watch.writer[at], watch.written[at]
        of_block = (writer >= 0) & (writer != clock.block) & (written >= clock.seen[writer])
        found: NDArray[np.bool_] = of_block | (
            (writer == clock.block) & (watch.warp[at] != warp) & (written == clock.epoch)
        )
        return found

    def _of(self, watch: Watch, at: Places, which: NDArray[np.bool_], clock: Clock, warp: int) -> str:
        block = int(watch.writer[at][which][0])
        if block != clock.block:
            return f"block {clock.block} reads what block {block} wrote to"
        return f"warp {warp} reads what warp {int(watch.warp[at][which][0])} wrote since the last barrier to"

    def release(self, addresses: NDArray[np.uint64], clock: Clock) -> None:
        """Whoever acquires at these addresses sees what this block did before its last barrier."""
        mine = clock.seen.copy()
        mine[clock.block] = clock.epoch
        for address in map(int, addresses):
            self.released[address] = np.maximum(self.released.get(address, mine), mine)

    def acquire(self, addresses: NDArray[np.uint64], clock: Clock) -> None:
        """See, from the next barrier on, what others did that released at these addresses."""
        for address in map(int, addresses):
            if (found := self.released.get(address)) is not None:
                known = found if clock.acquired is None else np.maximum(clock.acquired, found)
                clock.acquired = known

    def add_atomically(self, addresses: NDArray[np.uint64], values: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Add to the number at each address, lane by lane; what was there before."""
        before = np.zeros(len(addresses), np.uint32)
        self.writes += bool(values.any())
        for buffer, places, lanes in self._found(addresses, 4):
            for place, lane in zip(places, lanes, strict=True):
                number = buffer.data[place : place + 4].view(np.uint32)
                before[lane] = number[0]
                number += values[lane]
        return before


def _each(places: Places, width: int) -> Any:
    return places[:, None] + _up_to(width)


_up_to = cache(np.arange)


class SharedMemory:
    """That of a block: which warps wrote and read each byte since the last barrier, and what is still on its way; and
    what blocks of its cluster left there."""

    BASE, ALIGNED = 0x430, 0x400
    """Where it begins: a multiple of the 16 bytes that are promised, and of no more; or, for a kernel with instructions
    that permute by addresses, where it begins on devices."""

    def __init__(self, size: int, base: int = BASE) -> None:
        self.base = base
        self.data = np.full(size, 0xFF, np.uint8)
        self.known = np.zeros(size, np.bool_)
        self.coming = np.zeros(size, np.bool_)
        self.writers = np.zeros(size, np.uint32)
        self.readers = np.zeros(size, np.uint32)
        self.unread = np.zeros(size, np.bool_)
        self.left = np.full(size, -1, np.int32)
        self.seen_by: list[tuple[Clock, NDArray[np.int32]]] = []
        self.others_wrote = False
        self.unfenced = np.zeros(size, np.uint32)

    def begin(self) -> None:
        """Forget all, as at the begin of another block."""
        self.data[:] = 0xFF
        for each in (self.known, self.coming, self.writers, self.readers, self.unread, self.unfenced):
            each[:] = 0
        self.left[:] = -1
        self.seen_by.clear()
        self.others_wrote = False

    def barrier(self) -> None:
        """All threads have come so far."""
        self.writers[:] = 0
        self.readers[:] = 0

    def fence(self, warp: int) -> None:
        """What a warp wrote may be read by products of several warps."""
        self.unfenced[self.unfenced == warp + 1] = 0

    def _places(self, addresses: NDArray[np.uint32], width: int) -> Any:
        places = addresses.astype(np.int64) - self.base
        if places.min() < 0 or places.max() > len(self.data) - width:
            outside = places[(places < 0) | (places > len(self.data) - width)]
            raise KernelError(
                f"{width} bytes at byte {int(outside[0]):,} of shared memory, which has {len(self.data):,}"
            )
        if (addresses % width).any():
            raise KernelError(f"an address in shared memory is no multiple of the {width} bytes at it")
        return _each(places, width)

    def load(self, addresses: NDArray[np.uint32], width: int, warp: int, *, fenced: bool = False) -> Bytes:
        """So many bytes at each address, (lanes, width); ``fenced``: by a product of several warps."""
        at, bit = self._places(addresses, width), np.uint32(1 << warp)
        if self.coming[at].any():
            raise KernelError("it reads from shared memory what a copy that was not waited for is still bringing")
        if not self.known[at].all():
            raise KernelError("it reads from shared memory what nobody has written")
        if self.unread[at].any():
            raise KernelError("it reads from shared memory what another block left there and nobody waited for")
        if (self.writers[at] & ~bit).any():
            raise KernelError(f"warp {warp} reads from shared memory what another warp wrote since the last barrier")
        if fenced and self.unfenced[at].any():
            raise KernelError(
                "a product of several warps reads from shared memory what was written with no fence since"
            )
        self.readers[at] |= bit
        found: Bytes = self.data[at]
        return found

    def store(self, addresses: NDArray[np.uint32], values: Bytes, warp: int, clock: Clock | None = None) -> None:
        """Write the bytes of each lane, (lanes, width); a ``clock`` is that of a block in a cluster."""
        at = self._places(addresses, values.shape[1])
        if clock is not None:
            self.left[at] = self._now(clock)
        if self.coming[at].any():
            raise KernelError("it writes to shared memory where a copy that was not waited for is going")
        self._alone(at, values, warp)
        self.data[at], self.known[at], self.unfenced[at] = values, True, warp + 1

    def leave(self, addresses: NDArray[np.uint32], values: Bytes, element: int, clock: Clock) -> None:
        """Write the elements of each lane, any of which others may look for at the same time.

        What a block left may another one overwrite if it has seen that; what nobody has read, nobody may. The same once
        more each may leave.
        """
        at = self._places(addresses, values.shape[1]).reshape(-1, element)
        values = values.reshape(-1, element)
        changed = (self.data[at] != values).any(1)
        at, values = at[changed], values[changed]
        if self.unread[at].any():
            raise KernelError(f"block {clock.block} overwrites in shared memory what nobody has read yet")
        for number in sorted({*self.left[at].ravel().tolist()}):
            if number >= 0:
                before, known = self.seen_by[number]
                if before is not clock and known[before.block] >= clock.seen[before.block]:
                    raise KernelError(
                        f"block {clock.block} overwrites in shared memory what block {before.block} wrote, without "
                        "having waited for it"
                    )
        self.data[at], self.known[at], self.unread[at] = values, True, True
        self.left[at] = self._now(clock)

    def look(self, addresses: NDArray[np.uint32], width: int, clock: Clock) -> Bytes:
        """So many bytes at each address, which others may write at the same time; what they had seen is seen then."""
        at = self._places(addresses, width)
        if not self.known[at].all():
            raise KernelError("it reads from shared memory what nobody has written")
        self.unread[at] = False
        for number in sorted({*self.left[at].ravel().tolist()}):
            if number >= 0:
                known = self.seen_by[number][1]
                clock.acquired = known if clock.acquired is None else np.maximum(clock.acquired, known)
        found: Bytes = self.data[at]
        return found

    def _now(self, clock: Clock) -> int:
        """The number of what a block has seen now."""
        if not self.seen_by or self.seen_by[-1][0] is not clock or self.seen_by[-1][1][clock.block] != clock.epoch:
            known = clock.seen.copy()
            known[clock.block] = clock.epoch
            self.seen_by.append((clock, known))
        return len(self.seen_by) - 1

    def _alone(self, at: Any, values: Bytes | None, warp: int) -> None:
        """Only this warp is there since the last barrier, or others have written the same."""
        bit = np.uint32(1 << warp)
        if (self.readers[at] & ~bit).any():
            raise KernelError(f"warp {warp} writes to shared memory what another warp read since the last barrier")
        others = (self.writers[at] & ~bit) != 0
        if others.any() and (values is None or (others & (self.data[at] != values)).any()):
            raise KernelError(f"warp {warp} writes to shared memory where another warp wrote since the last barrier")
        self.writers[at] |= bit

    def expect(self, addresses: NDArray[np.uint32], width: int, warp: int) -> None:
        """A copy goes there, which may come at any time until it is waited for."""
        at = self._places(addresses, width)
        self._alone(at, None, warp)
        self.coming[at] = True

    def arrive(self, addresses: NDArray[np.uint32], values: Bytes, warp: int) -> None:
        """What a copy brought is there for the warp that asked for it, and for others behind a barrier."""
        at = self._places(addresses, values.shape[1])
        self.data[at], self.known[at], self.coming[at] = values, True, False
        self.writers[at] |= np.uint32(1 << warp)
