"""Write a kernel's exported C functions: workspace sizes, all clips forward and backward."""

from __future__ import annotations

from string import Template

from cello.compiler.c.source import Names

TILES = """\
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
static int once(const struct arguments *a) { return a->T == 1 && tiles_of(a) == 1; }
/* Tiles are shared out in groups, the same for any number of threads. */
static long groups_of(const struct arguments *a) { return tiles_of(a) < GROUPS ? tiles_of(a) : GROUPS; }
static long first_tile(const struct arguments *a, long group) { return group * tiles_of(a) / groups_of(a); }
static struct offset offset_of(const struct arguments *a, long tile) {
    const struct offset none = {0, 0};
    return beyond(a, none, 0, tile);
}
"""

CALLS = Template("""\
struct sizes { long H, D, P, wide, square, wide_back, packed, packed_back, part, parts, groups; };
static struct sizes sizes_of(const struct arguments *a) {
    struct sizes s = {a->H, a->D, round_up(a->H, V)};
    s.wide = packed_size(s.D, s.P);
    s.square = packed_size(s.H, s.P);
    s.wide_back = packed_size(s.H, round_up(s.D, V));
    s.packed = $wides * s.wide + $squares * s.square;
    s.packed_back = $wides * s.wide_back + $squares * s.square;
    s.part = s.packed + $invariants * s.P;
    s.groups = groups_of(a);
    s.parts = s.groups < 2 ? 1 : 1 + (a->threads < s.groups ? a->threads : s.groups);
    return s;
}
/* How many elements packed, packed_back, history, kept and d_packed hold. */
void workspace_sizes(const struct arguments *a, long *found) {
    const struct sizes s = sizes_of(a);
    const struct offset end = offset_of(a, tiles_of(a));
    found[0] = once(a) ? $terms * PANEL * (s.H > s.D ? round_up(s.H, V) : round_up(s.D, V)) : s.packed;
    found[1] = s.packed_back;
    found[2] = end.history * $states * s.P;
    found[3] = end.kept * $kept * s.P;
    found[4] = s.parts * s.part;
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
    const struct sizes s = sizes_of(a);
    real *d_packed = a->d_packed + (s.parts > 1 ? 1 + member : 0) * s.part, *d_rows = d_packed + s.packed;
    memset(d_packed, 0, s.part * sizeof(real));
    const long begin = first_tile(a, group), end = first_tile(a, group + 1);
    struct offset offset = offset_of(a, begin);
    int failed = 0;
    for (long tile = begin; tile < end; offset = beyond(a, offset, tile, tile + 1), tile++)
        failed |= backward_tile(a, tile, offset, d_packed, d_rows);
    if (s.parts > 1) add_in_turn(team, group, a->d_packed, d_packed, s.part);
    return failed;
}
/* All clips, all steps; 1 if there is no memory. */
int forward(const struct arguments *a) {
    const struct sizes s = sizes_of(a);
    if (!once(a)) {
$pack
    }
    return run_in_threads(forward_group, a, s.groups, a->threads);
}
int backward(const struct arguments *a) {
    const struct sizes s = sizes_of(a);
$pack_back
    if (run_in_threads(backward_group, a, s.groups, a->threads)) return 1;
$unpack
    return 0;
}
""")


def calls(names: Names) -> str:
    """``workspace_sizes``, ``forward`` and ``backward``."""
    plan, of = names.plan, names.of
    pack, pack_back, unpack = [], [], []
    for k in plan.matrices:
        high = "s.H" if names.square(k) else "s.D"
        place, back = names.place(k, of="s."), names.place(k, "wide_back", of="s.")
        when = "" if names.square(k) else "if (a->d_x) "
        pack.append(f"        pack(a->weight_{of[k]}, {high}, s.H, 1, {high}, a->packed + {place});")
        pack_back.append(f"    {when}pack(a->weight_{of[k]}, s.H, {high}, {high}, 1, a->packed_back + {back});")
        unpack.append(f"    if (a->d_weight_{of[k]}) unpack(a->d_packed + {place}, {high}, s.H, a->d_weight_{of[k]});")
    for number, k in enumerate(plan.invariant):
        row = f"a->d_packed + s.packed + {number} * s.P"
        unpack.append(f"    if (a->d_invariant_{of[k]}) memcpy(a->d_invariant_{of[k]}, {row}, s.H * sizeof(real));")
    return CALLS.substitute(
        wides=len(names.wide),
        squares=len(names.squares),
        terms=max(len(each.products) for each in plan.sums),
        invariants=len(plan.invariant),
        states=len(plan.graph.states),
        kept=len(plan.kept),
        pack="\n".join(pack),
        pack_back="\n".join(pack_back),
        unpack="\n".join(unpack),
    )
