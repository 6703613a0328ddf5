"""What hurts: a cell that is another one after it was stored, and a damaged or forged one that is believed."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.cells.stored import StoredCell
from cello.errors import CellError
from sized_cells import SIZED


def decoded(text: bytes) -> Cell:
    return msgspec.json.decode(text, type=StoredCell).cell()


@pytest.mark.parametrize("cell", zoo().values(), ids=lambda cell: cell.name)
def test_every_cell_comes_back_as_it_was(cell: Cell) -> None:
    again = decoded(msgspec.json.encode(StoredCell.of(cell)))
    assert again.graph == cell.graph
    assert again.graph.fingerprint() == cell.graph.fingerprint()
    assert list(again.parameters(3, 4).items()) == list(cell.parameters(3, 4).items())
    assert (again.name, again.doc, again.reference, again.gates) == (cell.name, cell.doc, cell.reference, cell.gates)


def test_a_stored_cell_says_that_its_function_is_not_there() -> None:
    cell = StoredCell.of(zoo()["lstm"]).cell()
    with pytest.raises(CellError, match=r"cell 'lstm' came from a store, .* without its Python function\."):
        cell(1.0, 2.0, 3.0)


def changed(**fields: Any) -> dict[str, Any]:
    return {**msgspec.json.decode(msgspec.json.encode(StoredCell.of(zoo()["rnn"]))), **fields}


def node(which: str, /, **fields: Any) -> dict[str, Any]:
    tree = changed()
    place = next(k for k, each in enumerate(tree["graph"]["nodes"]) if each["op"] == which)
    tree["graph"]["nodes"][place].update(fields)
    return tree


def chain(length: int) -> dict[str, Any]:
    tree = changed()
    last = len(tree["graph"]["nodes"]) - 1
    for k in range(length):
        tree["graph"]["nodes"].append({"op": "tanh", "args": [last + k], "shape": ["H"]})
    tree["graph"]["outputs"] = [last + length]
    return tree


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        (changed(name="a();system"), "its name is not one of a function"),
        (changed(doc="d" * 100_001), "its documentation has more than 100,000 letters"),
        (changed(arguments=["x", "h", "h", "U", "b"]), "its arguments are not different names"),
        (changed(arguments=["x", "h", "W */", "U", "b"]), "its arguments are not different names"),
        (changed(arguments=["x"]), "its states .* are not the arguments after the frame"),
        (node("tanh", op="system"), "no equation has such an operation"),
        (node("tanh", op="mask", args=[]), "no equation has such an operation"),
        (node("tanh", args=[99]), "its arguments are not 1 earlier nodes"),
        (node("product", args=[2]), "its arguments are not 2 earlier nodes"),
        (node("tanh", args=[-1]), "its arguments are not 1 earlier nodes"),
        (node("tanh", value=1.0), "only a constant has a value"),
        (node("parameter", name="W; }"), "'W; }' is not a name that it may have"),
        (node("parameter", name="Q"), "'Q' is not a name that it may have"),
        (node("parameter", name="W.a.b"), "is not a name that it may have"),
        (node("state", name="c"), "'c' is not a name that it may have"),
        (node("tanh", name="*/ int"), r"'\*/ int' is not a name that it may have"),
        (chain(5000), "more than 3,000 operations follow on one another"),
        (chain(10_001), "operations, not 1 to 10,000"),
        (node("tanh", shape=["D"]), "illegal graph: node"),
        (changed(graph={**changed()["graph"], "outputs": []}), "illegal graph: outputs"),
    ],
    ids=range(20),
)
def test_a_forged_cell_is_refused_with_its_fault(tree: dict[str, Any], fault: str) -> None:
    with pytest.raises(CellError, match=fault):
        decoded(msgspec.json.encode(tree))


def mutated(text: bytes, chance: random.Random) -> bytes:
    """The text with some bytes changed, left out or doubled, or some digits changed, which leaves it JSON."""
    out = bytearray(text)
    digits = [k for k, letter in enumerate(out) if letter in b"0123456789"]
    for _ in range(chance.randint(1, 3)):
        kind, place = chance.randrange(4), chance.randrange(len(out) - 30)
        if kind == 0:
            out[place] = chance.randrange(256)
        elif kind == 1:
            del out[place : place + chance.randint(1, 20)]
        elif kind == 2:
            out[place:place] = out[place : place + chance.randint(1, 20)]
        else:
            out[chance.choice(digits[: len(digits) // 2])] = chance.choice(b"0123456789")
    return bytes(out)


def test_whatever_happens_to_a_stored_cell_is_named_or_harmless() -> None:
    """300 mutations: a decoding error, a ``CellError``, or a legal cell whose fingerprint tells what it computes."""
    chance = random.Random(12)
    cells = list(zoo().values())
    refused = 0
    for _ in range(300):
        cell = chance.choice(cells)
        try:
            again = decoded(mutated(msgspec.json.encode(StoredCell.of(cell)), chance))
        except (msgspec.DecodeError, UnicodeDecodeError, CellError):
            refused += 1
        else:
            same = again.graph.fingerprint() == cell.graph.fingerprint()
            leaves = [[(n.op, n.args, n.shape, n.value) for n in c.graph.nodes] for c in (again, cell)]
            assert not same or leaves[0] == leaves[1]
    assert refused > 150


def sized(**fields: Any) -> dict[str, Any]:
    return {**msgspec.json.decode(msgspec.json.encode(StoredCell.of(SIZED["gaps"]))), **fields}


def sized_node(which: str, name: str = "gaps", /, **fields: Any) -> dict[str, Any]:
    tree = msgspec.json.decode(msgspec.json.encode(StoredCell.of(SIZED[name])))
    place = next(k for k, each in enumerate(tree["graph"]["nodes"]) if each["op"] == which)
    tree["graph"]["nodes"][place].update(fields)
    return tree


@pytest.mark.parametrize("cell", SIZED.values(), ids=lambda cell: cell.name)
def test_a_cell_of_several_sizes_comes_back_as_it_was(cell: Cell) -> None:
    again = decoded(msgspec.json.encode(StoredCell.of(cell)))
    assert (again.fingerprint(), again.parts, again.graph) == (cell.fingerprint(), cell.parts, cell.graph)


def test_a_cell_stored_before_there_were_parts_is_read() -> None:
    tree = changed()
    del tree["parts"]
    assert decoded(msgspec.json.encode(tree)).fingerprint() == zoo()["rnn"].fingerprint()


PARTS = "(D-1)/2"


@pytest.mark.parametrize(
    ("tree", "fault"),
    [
        (sized(parts=[["value", PARTS], ["value", PARTS], ["gap", "1"]]), "the parts of its frame are not different"),
        (sized(parts=[["value; }", PARTS], ["mask", PARTS], ["gap", "1"]]), "the parts of its frame are not different"),
        (sized(parts=[["value", "9999999"], ["mask", PARTS], ["gap", "1"]]), "a part of its frame has the size '99999"),
        (sized(parts=[["value", "H"], ["mask", PARTS], ["gap", "1"]]), "a part of its frame has the size 'H'"),
        (sized(parts=[["value", PARTS], ["gap", "1"]]), r"'x\.mask' is not a name that it may have"),
        (sized(parts=[]), "is not a name that it may have"),
        (
            sized_node("input", shape=["D"]),
            r"'x\.(gap|mask|value)' is not a name that it may have",
        ),
        (sized_node("broadcast", shape=["H", "H"]), "illegal graph: node"),
        (sized_node("size", "normalised", name="2 * H"), r"'2 \* H' is not a name that it may have"),
        (sized_node("size", "normalised", name=None), "'None' is not a name that it may have"),
        (sized_node("total", "normalised", shape=["H"]), "illegal graph: node"),
        (sized_node("row_sum", "heads", args=[0]), "illegal graph: node"),
        (sized_node("rows", "heads", shape=["H", "H/99999"]), "illegal graph: node"),
        (sized_node("columns", "heads", args=[0, 1]), "its arguments are not 1 earlier nodes"),
    ],
    ids=range(14),
)
def test_a_forged_cell_of_several_sizes_is_refused_with_its_fault(tree: dict[str, Any], fault: str) -> None:
    with pytest.raises(CellError, match=fault):
        decoded(msgspec.json.encode(tree))
