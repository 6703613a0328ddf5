"""Where lanes of a warp that a branch parted meet again: at the first instruction that all of their ways lead to."""

from __future__ import annotations

from ptx.text import Program


def meeting_places(program: Program) -> dict[int, int]:
    """For each branch under a predicate the number of that instruction; past the last one if they part for good."""
    begins, after = _blocks(program)
    end = len(begins)
    ways = [{*range(end + 1)} for _ in begins] + [{end}]  # the blocks that every way from a block leads through
    changed = True
    while changed:
        changed = False
        for block in reversed(range(end)):
            found = {block} | set.intersection(*(ways[each] for each in after[block]))
            changed |= found != ways[block]
            ways[block] = found
    places = [*begins, len(program.instructions)]
    meeting = {}
    for block, last in enumerate(each - 1 for each in places[1:]):
        if len(after[block]) > 1:
            beyond = ways[block] - {block}
            meeting[last] = places[max(beyond, key=lambda each: len(ways[each]))]
    return meeting


def _blocks(program: Program) -> tuple[list[int], list[list[int]]]:
    """Where straight pieces of the program begin, and to which pieces each goes on; the last is no piece: the end."""
    instructions = program.instructions
    jumps = [each for each in instructions if each.opcode.split(".")[0] in ("bra", "ret", "exit")]
    begins = sorted({0, *program.labels.values(), *(each.number + 1 for each in jumps)} - {len(instructions)})
    block_of = {begin: block for block, begin in enumerate(begins)} | {len(instructions): len(begins)}
    after = []
    for block in range(len(begins)):
        beyond = begins[block + 1] if block + 1 < len(begins) else len(instructions)
        last = instructions[beyond - 1]
        if last.opcode in ("ret", "exit"):
            after.append([len(begins)])
        elif last.opcode.startswith("bra"):
            target = block_of[program.labels[str(last.operands[0])]]
            after.append([target] if last.guard is None else [target, block_of[beyond]])
        else:
            after.append([block_of[beyond]])
    return begins, after
