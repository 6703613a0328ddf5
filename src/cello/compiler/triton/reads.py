"""Write what both passes begin with, and what they read in a step."""

from __future__ import annotations

from cello.compiler.triton.names import Names
from cello.compiler.triton.spaces import Space, is_large
from cello.compiler.triton.tiles import Read

PLACE = "at = tl.load(place + replicate * B + clip, mask=valid, other=0)"


def mask_arguments(names: Names) -> list[str]:
    """The parameters that masks are given by: where they lie, and elements to the next replicate, clip and frame."""
    found = []
    for k in names.plan.masks:
        name = names.of[k]
        found += [f"mask_{name}", f"mask_{name}_replicate", f"mask_{name}_clip", f"mask_{name}_frame"]
    return found


def prologue(names: Names) -> list[str]:
    """What both passes begin with: which clips, which units, and what is the same at every step."""
    lines = [
        *(["saved = saved_float32"] if names.digits.all else []),
        "tile, part = program(SPLIT)",
        *(f"{here.part} = part % {here.parts}" for here in names.spaces.values() if here.has_parts),
        "replicate = tl.program_id(1)",
        "if LARGE:",
        "    replicate = replicate.to(tl.int64)",
        "clip = tile * ROWS + tl.arange(0, ROWS)",
        "valid = clip < B",
        "frames = tl.load(length + replicate * B + clip, mask=valid, other=0)",
        PLACE,
        "begin = tl.load(start + replicate * B + clip, mask=valid, other=0)",
        "if LARGE:",
        "    at, begin = at.to(tl.int64), begin.to(tl.int64)",
        "reversed_time = tl.load(reverse + replicate)",
        "steps = tl.load(length + replicate * B + tile * ROWS)  # of the longest clip, which stands first",
    ]
    rows = [] if names.reads_rows else [line for lines in _rows(names).values() for line in lines]
    scratch = ["scratch = workspace + (group * ROWS + tl.arange(0, ROWS)) * (2 * HALF)"] if names.in_blocks else []
    return [*lines, *_of_states(names), "group = replicate * TILES + tile", "meeting = 0", *scratch, *rows]


def places_again(names: Names) -> list[str]:
    """The lines that find where states of clips lie once more, so that no register need hold it until then."""
    return [PLACE, "if LARGE:", "    at = at.to(tl.int64)", *_of_states(names)]


def _of_states(names: Names) -> list[str]:
    begin = f"replicate * {names.extent(names.state_shapes)} * B"
    sizes = dict.fromkeys(names.spaces[shape].elements for shape in names.state_shapes)
    return [f"of_state_{elements} = {begin} + at * {elements}" for elements in sizes]


def _rows(names: Names) -> dict[str, list[str]]:
    """What is the same at every step: numbers, and of all others this program's elements; by the variable."""
    invariant, lines = names.plan.invariant, dict[str, list[str]]()
    shapes = [names.shape(k) for k in invariant]
    for n, k in enumerate(invariant):
        base = f"invariants + replicate * {names.extent(shapes)} + {names.extent(shapes[:n])}"
        load = "load_block_row" if shapes[n] and names.space(k).head else "load_row"
        taken = f"{load}({base}, {_tile_of(names.space(k))})" if shapes[n] else f"tl.load({base}).to(tl.float32)"
        lines[f"{names.of[k]}_row"] = [f"{names.of[k]}_row = {taken}"]
    return lines


def rows_again(names: Names) -> dict[str, list[str]]:
    """The lines that read what is the same at every step, where that is read anew; by the variable that they set."""
    return _rows(names) if names.reads_rows else {}


def matrices_again(names: Names) -> set[str]:
    """The variables of those that have more elements than a vector, in blocks: no register holds them between uses."""
    large = [k for k in names.plan.invariant if names.few_registers and is_large(names.shape(k))]
    return {f"{names.of[k]}_row" for k in large}


def running(names: Names) -> str:
    """The line that says of each clip whether it has this step; the one clip of a program in blocks always has it, and
    no old state need be there until the new one is."""
    return "running = (step < frames) | (ROWS == 1)" if names.in_blocks else "running = step < frames"


def step_reads(names: Names, prefix: str) -> list[Read]:
    """What both passes read in a step: masks, and the frame where it is used element by element."""

    def of_mask(k: int) -> str:
        name = f"mask_{names.of[k]}"
        return f"{name} + replicate * {name}_replicate + at * {name}_clip + time * {name}_frame"

    def read(k: int, base: str) -> Read:
        variables, here = (f"{names.of[k]}_now",), names.space(k)
        return Read(variables, names.read(variables, base, "running", here, names.like(here, prefix)))

    of_frame = "x_rows + (replicate * rows + begin + time) * FRAME + "
    return [
        *(read(k, of_mask(k)) for k in names.plan.masks),
        *(read(k, of_frame + names.begins[k]) for k in names.frames),
    ]


def _tile_of(here: Space) -> str:
    return f"{here.part}, {here.elements}, {here.own}{here.in_rows}"
