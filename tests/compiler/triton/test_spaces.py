"""Sizes of tiles: rounded up to powers of two, shared by programs, and how kernels write them."""

from __future__ import annotations

from collections import Counter

from cello.compiler.triton.spaces import ONCE, VECTOR, Sizes, extent, groups_of, space
from cello.compiler.triton.text import names_of
from sized_cells import SIZED


def test_elements_are_rounded_up_so_that_programs_share_them() -> None:
    sizes = Sizes(SIZED["heads"], 7, 24)
    padded = {shape: sizes.padded(shape, units=32) for shape in (VECTOR, ONCE, ("40",), ("5",), ("H", "H/3"))}
    assert padded == {VECTOR: 32, ONCE: 1, ("40",): 64, ("5",): 16, ("H", "H/3"): 256}
    assert [sizes.parts(shape, units=32, split=2) for shape in (VECTOR, ("40",), ("5",), ("H", "H/3"))] == [2, 2, 1, 2]
    assert sizes.spans([VECTOR, (), ("D",)]) == [slice(0, 24), slice(24, 25), slice(25, 32)]


def test_places_are_written_with_the_kernels_constants() -> None:
    assert [extent(Counter(elements)) for elements in ([], ["1", "1"], ["H"], ["H", "L2", "H"])] == [
        "0",
        "2",
        "H",
        "(2 * H + L2)",
    ]
    assert space(("5",), 3).constants() == ("L3", "L3_UNITS", "L3_OWN", "L3_WHOLE")
    assert space(("50",), 3).constants() == ("L3", "L3_UNITS", "L3_OWN", "L3_WHOLE", "L3_PARTS")
    assert space(ONCE, 3).constants() == ()


def test_rows_of_matrices_are_rounded_up_and_each_program_has_their_vectors() -> None:
    names, sizes = names_of(SIZED["columns"]), Sizes(SIZED["columns"], 7, 24)
    matrix, vector = names.spaces[("H", "5")], names.spaces[("5",)]
    assert (sizes.of(("H", "5")), sizes.padded(("H", "5"), units=32)) == (120, 256)
    assert matrix.in_rows == f", {matrix.columns}, {matrix.padded}" != ""
    assert (matrix.common, vector.common, vector.in_rows) == (False, True, "")


def test_heads_are_rounded_up_one_by_one_where_matrices_are_in_blocks() -> None:
    """Three heads of five units take four of eight rows each, more than 15 units rounded up."""
    sizes, names = Sizes(SIZED["heads"], 7, 15), names_of(SIZED["generated"])
    shapes = {("H", "H/3"): (5, 8, 32, 256), ("H", "H"): (15, 16, 16, 256), ("H", "5"): (15, 16, 16, 128)}
    for shape, expected in shapes.items():
        assert (*sizes.head(shape, 16), sizes.rows(shape, 16), sizes.padded(shape, 16)) == expected
    matrix, vector = names.spaces[("H", "D")], names.spaces[("H*D",)]
    assert matrix.in_rows == f", {matrix.columns}, {matrix.padded}, {matrix.head}, {matrix.head_padded}"
    assert all(each.common for each in names.spaces.values())  # no programs share units
    assert (vector.in_rows, vector.has_parts) == ("", False)


def test_tiles_of_one_shape_are_packed() -> None:
    shapes = {"a": VECTOR, "b": ONCE, "c": VECTOR, "d": VECTOR}
    assert groups_of([*shapes], shapes.__getitem__) == (("a", "c"), ("d",), ("b",))
    assert groups_of([*shapes], shapes.__getitem__, (1,)) == (("a",), ("c",), ("d",), ("b",))
