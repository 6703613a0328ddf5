"""Write a kernel's exported C functions: workspace sizes, all clips forward and backward."""

from __future__ import annotations

from string import Template

from cello.compiler.c.expression import Body
from cello.compiler.c.sizes import elements, padded
from cello.compiler.c.source import Names
from cello.compiler.gradient import invariant_gradient

TILES = Template("""\
static struct clips clips_of(const struct arguments *a, long tile, long backward) {
    const long begin = tile * TILE, count = a->B - begin < TILE ? a->B - begin : TILE;
    return tile_of(a->place + begin, a->length + begin, count, a->reverse != 0, backward);
}
static long tiles_of(const struct arguments *a) { return (a->B + TILE - 1) / TILE; }
/* The row at which a tile begins in history, which has the states before the first step too, and in kept. */
struct offset { long history, kept; };
static struct offset beyond(const struct arguments *a, struct offset before, long tile, long end) {
    for (; tile < end; tile++) {
        const struct clips c = clips_of(a, tile, 0);
        before.history += (c.steps + 1) * c.rows;
        before.kept += c.steps * c.rows;
    }
    return before;
}
/* Whether every matrix is used just once, by the products of one step of one tile: none is packed beforehand then. */
static int once(const struct arguments *a) { return $once; }
/* Whether the derivatives of matrices are products of one row each: they are written where they belong then. */
static int one_row(const struct arguments *a) { return once(a) && a->B == 1 && a->length[0] == 1; }
/* Tiles are shared out in groups, the same for any number of threads. */
static long groups_of(const struct arguments *a) { return tiles_of(a) < GROUPS ? tiles_of(a) : GROUPS; }
static long first_tile(const struct arguments *a, long group) { return group * tiles_of(a) / groups_of(a); }
static struct offset offset_of(const struct arguments *a, long tile) {
    const struct offset none = {0, 0};
    return beyond(a, none, 0, tile);
}
""")

CALLS = Template("""\
/* How often d_packed holds the derivatives: once for all and, where there are groups, once for each thread. */
static long parts_of(const struct arguments *a) {
    const long groups = groups_of(a);
    return groups < 2 ? 1 : 1 + (a->threads < groups ? a->threads : groups);
}
/* How many elements packed, packed_back, history, kept and d_packed hold. */
void workspace_sizes(const struct arguments *a, long *found) {
$sizes
    const struct offset end = offset_of(a, tiles_of(a));
    const long packed = $packed, derived = $derived;
    found[0] = $packed_or_panels;
    found[1] = $packed_back;
    found[2] = end.history * ($history);
    found[3] = end.kept * ($kept);
    found[4] = parts_of(a) * (packed + derived);
}
static int forward_group(const void *given, long group, long member, struct team *team) {
    const struct arguments *a = given;
    const long begin = first_tile(a, group), end = first_tile(a, group + 1);
    struct offset offset = offset_of(a, begin);
    int failed = 0;
    for (long tile = begin; tile < end; offset = beyond(a, offset, tile, tile + 1), tile++)
        failed |= forward_tile(a, tile, offset);
    return failed;
}
/* The derivatives of the parameters come from each group, then to those of the groups before; of one alone, at once. */
static int backward_group(const void *given, long group, long member, struct team *team) {
    const struct arguments *a = given;
$sizes
    const long packed = $packed, part = packed + $derived;
    const int apart = parts_of(a) > 1;
    real *d_packed = a->d_packed + (apart ? 1 + member : 0) * part, *d_rows = d_packed + packed;
    if ($clear) memset(d_packed, 0, packed * sizeof(real));
    memset(d_rows, 0, (part - packed) * sizeof(real));
    const long begin = first_tile(a, group), end = first_tile(a, group + 1);
    struct offset offset = offset_of(a, begin);
    int failed = 0;
    for (long tile = begin; tile < end; offset = beyond(a, offset, tile, tile + 1), tile++)
        failed |= backward_tile(a, tile, offset, d_packed, d_rows);
    if (apart) add_in_turn(team, group, a->d_packed, d_packed, part);
    return failed;
}
/* All clips, all steps; 1 if there is no memory. */
int forward(const struct arguments *a) {
$sizes$centred
    if (!once(a)) {
$pack
    }
    return run_in_threads(forward_group, a, groups_of(a), a->threads);
}
int backward(const struct arguments *a) {
$sizes$centred_back
$pack_back
    if (run_in_threads(backward_group, a, groups_of(a), a->threads)) return 1;
    ${const}real *d_rows = a->d_packed + $packed;
$unpack
    return 0;
}
""")


def tiles(names: Names) -> str:
    """How clips are shared out in tiles; pairs of bfloat16 numbers are always packed beforehand."""
    text = TILES.substitute(once="0" if names.bf16 else "a->T == 1 && tiles_of(a) == 1")
    if not names.plan.centred:
        return text
    packed = f"once(a) ? {_panels(names)} : {names.all_packed()}"
    lines = [
        "/* Where forward's means of matrices lie, behind those that are packed. */",
        "static real *means_of(const struct arguments *a) {",
        *names.definitions(),
        f"    return a->packed + ({packed});",
        "}\n",
    ]
    return text + "\n".join(lines)


def calls(names: Names) -> str:
    """``workspace_sizes``, ``forward`` and ``backward``."""
    plan, of = names.plan, names.of
    pack, pack_back, unpack = [], [], []
    frame = {m for each in plan.sums for m, v in each.products if v in names.inputs}
    other = {m for each in plan.sums for m, v in each.products if v not in names.inputs}
    back_through = {m for each in plan.sums for m, v in each.products if plan.learns(v)}
    vectors = {m: [v for each in plan.sums for k, v in each.products if k == m] for m in plan.matrices}
    for k in plan.matrices:
        high, low = map(elements, names.nodes[k].shape)
        place, back = names.place(k), names.place(k, back=True)
        when = "if (a->d_x) " if k in frame - other else ""
        if names.old.keys() >= {*vectors[k]}:  # otherwise nothing but first states is behind them
            when = f"if ({' || '.join(['a->T > 1', *dict.fromkeys(map(names.first, vectors[k]))])}) "
        pack.append(f"        {names.packed_from(k)}, a->packed + {place});")
        if k in back_through:
            pack_back.append(f"    {when}{names.packed_from(k, back=True)}, a->packed_back + {back});")
        if plan.learns(k) and k not in plan.group_of:
            call = f"unpack_heads(a->d_packed + {place}, {high}, {low}" if k in plan.blocks else ""
            call = call or f"unpack(a->d_packed + {place}, {low}, {high}"
            packed = " && !one_row(a)" if names.by_rows else ""
            unpack.append(f"    if (a->d_weight_{of[k]}{packed}) {call}, a->d_weight_{of[k]});")
    for group in plan.centred:
        if plan.learns(group[0]):
            unpack += _unpack_group(names, group)
    unpack += _through_computed(names)
    for k in filter(plan.learns, plan.invariant):
        unpack += _unpack_rows(names, k)
    panels, packed_back = _panels(names), names.all_packed(back=True)
    return CALLS.substitute(
        sizes="\n".join(names.definitions()),
        packed=names.all_packed(),
        packed_back=packed_back + (f" + {names.all_means} + {names.largest_group}" if plan.centred else ""),
        packed_or_panels=f"(once(a) ? {panels} : packed) + {names.all_means}"
        if plan.centred
        else f"once(a) ? {panels} : packed",
        centred=_centring(names, "means_of(a)", {*plan.matrices}, set()),
        centred_back=_centring(names, f"a->packed_back + {packed_back}", back_through, frame - other),
        const="" if plan.computed else "const ",
        derived=names.all_derived,
        clear="!one_row(a)" if names.by_rows else "1",
        history=names.history,
        kept=names.kept,
        pack="\n".join(pack),
        pack_back="\n".join(pack_back),
        unpack="\n".join(unpack),
    )


def _centring(names: Names, memory: str, matrices: set[int], frame: set[int]) -> str:
    """Take the means of these matrices' groups, those that multiply the ``frame`` alone where it has a derivative."""
    if not names.plan.centred:
        return ""
    lines = [f"real *means = {memory};"]
    for group in names.plan.centred:
        if not matrices.isdisjoint(group):
            weights = [f"a->weight_{names.of[k]}" for k in group]
            lines.append(f"{'if (a->d_x) ' if group[0] in frame else ''}{_mean(names, group, weights)}")
    return "".join(f"\n    {line}" for line in lines)


def _mean(names: Names, group: tuple[int, ...], matrices: list[str]) -> str:
    high, low = map(elements, names.nodes[group[0]].shape)
    listed = f"(const real *const[]){{{', '.join(matrices)}}}"
    return f"mean_row({len(group)}, {listed}, {high}, {low}, means + {names.means[group[0]]});"


def _unpack_group(names: Names, group: tuple[int, ...]) -> list[str]:
    """Hand out the derivatives of matrices that are centred, which are centred too."""
    high, low = map(elements, names.nodes[group[0]].shape)
    places = [f"means + {names.all_means} + {n} * {high} * {low}" for n in range(len(group))]
    lines = [f"    if ({names.wanted(group[0]).removeprefix('(').removesuffix(')')}) {{"]
    for k, place in zip(group, places, strict=True):
        lines.append(f"        unpack(a->d_packed + {names.place(k)}, {low}, {high}, {place});")
    lines.append(f"        {_mean(names, group, places)}")
    for k, place in zip(group, places, strict=True):
        to = f"a->d_weight_{names.of[k]}"
        lines.append(f"        if ({to}) less_row({place}, means + {names.means[k]}, {high}, {low}, {to});")
    return [*lines, "    }"]


def _panels(names: Names) -> str:
    """The elements of the panels of one sum's matrices, at most, when they are packed panel by panel."""
    each = [
        "PANEL * (" + " + ".join(padded(names.nodes[v].shape[0]) for _, v in one.products) + ")"
        for one in names.plan.sums
    ]
    found = "0"
    for text in dict.fromkeys(each):
        found = text if found == "0" else f"larger({found}, {text})"
    return found


def _through_computed(names: Names) -> list[str]:
    """Lead the derivatives of loop-invariant vectors that the kernel computes on to what they are computed of."""
    plan, lines = names.plan, list[str]()
    nodes, added = invariant_gradient(
        plan.graph.nodes, plan.computed, {*plan.invariant}, None if plan.active is None else plan.active.nodes
    )

    def row(k: int) -> str:
        return f"d_rows + {names.derived[k, nodes[k].shape]} + j"

    def loads(k: int) -> str | None:
        if nodes[k].op == "later":
            return f"load({row(int(nodes[k].value or 0))})"
        given = k in plan.invariant
        return f"load_within(a->invariant_{names.of[k]}, j, {elements(nodes[k].shape[0])})" if given else None

    for shape in dict.fromkeys(nodes[k].shape for k, _ in added):
        stores = [(f"accumulate({row(k)}, {{}});", at) for k, at in added if nodes[k].shape == shape]
        lines += names.over_units(shape, Body(nodes, names.of, loads, {}, {}).write(stores))
    return lines


def _unpack_rows(names: Names, k: int) -> list[str]:
    """Hand out the derivative of a loop-invariant value."""
    target, lines, before = f"a->d_invariant_{names.of[k]}", [], list[str]()
    for shape in names.pieces(k):
        row = f"d_rows + {names.derived[k, shape]}"
        to = " + ".join([target, *before])
        units = elements(shape[0])
        if len(shape) == 2:
            lines.append(f"    if ({target}) unfill_heads({to}, {row}, H, {elements(shape[1])});")
        else:
            lines.append(f"    if ({target}) memcpy({to}, {row}, {units} * sizeof(real));")
        before.append(units)
    return lines
