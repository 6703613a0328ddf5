"""Read the text of one kernel in PTX: its parameters, labels and instructions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Register:
    """``%r5``: its bank, ``r``, and its number there."""

    bank: str
    number: int


@dataclass(frozen=True)
class Address:
    """``[%rd5 + 16]``: a register, or the name of a parameter or of shared memory, and bytes beyond it."""

    base: Register | str
    offset: int = 0


Scalar = Register | str
"""A register; or the text of a number, a label, a special register (``%tid.x``) or a name."""
Operand = Scalar | Address | tuple[Scalar, ...]


@dataclass(frozen=True)
class Instruction:
    """One instruction: ``guard`` is the predicate it runs under, and whether that is negated."""

    number: int
    opcode: str
    operands: tuple[Operand, ...]
    text: str
    source: str
    guard: tuple[Register, bool] | None = None

    def __str__(self) -> str:
        return f"instruction {self.number}, {self.text!r}, of {self.source or 'no line of the kernel'}"


@dataclass(frozen=True)
class Program:
    """A kernel: parameters in their order, each with its type; where labels stand; threads of a block, and blocks of a
    cluster."""

    name: str
    parameters: dict[str, str]
    threads: int
    instructions: tuple[Instruction, ...]
    labels: dict[str, int]
    registers: dict[str, int] = field(default_factory=dict)
    cluster: int = 1

    def without(self, number: int) -> Program:
        """The same but for one instruction, whose place a ``nop`` takes."""
        kept = list(self.instructions)
        old = kept[number]
        kept[number] = Instruction(number, "nop", (), f"no more {old.text}", old.source)
        return replace(self, instructions=tuple(kept))

    def numbers_of(self, opcode: str) -> list[int]:
        """Those of the instructions of an opcode, or of all whose opcode begins so."""
        return [each.number for each in self.instructions if each.opcode.startswith(opcode)]

    @property
    def loop(self) -> range:
        """The instructions of the longest loop, none if there is none."""
        branches = [each for each in self.instructions if each.opcode.startswith("bra")]
        every = [range(self.labels[str(each.operands[0])], each.number + 1) for each in branches]
        return max(every, key=len, default=range(0))


ENTRY = re.compile(r"\.visible \.entry (\w+)\((.*?)\)\s*(.*?)\n\{\n(.*?)\n\}\n", re.DOTALL)
PARAMETER = re.compile(r"\.param\s+\.(\w+)[^,]*?\s(\w+)\s*(?:,|$)", re.DOTALL)
FILE = re.compile(r'^\s*\.file\s+(\d+)\s+"([^"]*)"', re.MULTILINE)
PLACE = re.compile(r"\.loc\s+(\d+)\s+(\d+)")
REGISTERS = re.compile(r"\.reg\s+\.\w+\s+%(\w+)<(\d+)>;")
REGISTER = re.compile(r"%(p|rs|rd|r)(\d+)$")
OWN_REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+([^%;]+);")
BANKS = {"pred": "p", "b16": "rs", "b32": "r", "f32": "r", "b64": "rd"}
OF_A_THREAD = "%SPL"
"""The register of the address of a thread's own memory."""
LABEL = re.compile(r"(\$\w+):")
GUARD = re.compile(r"@(!?)%p(\d+)\s+")
PARTS = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*")


def parse(ptx: str) -> Program:
    """The one kernel of a module.

    Raises:
        ValueError: there is no kernel, or not one alone.
    """
    found = ENTRY.findall(ptx)
    if len(found) != 1:
        raise ValueError(f"the module has {len(found)} kernels; give one of one kernel")
    name, parameters, directives, body = found[0]
    threads = re.search(r"\.reqntid\s+(\d+)", directives)
    if threads is None:
        raise ValueError(f"kernel {name} does not say how many threads a block has (.reqntid)")
    files = dict(FILE.findall(ptx))
    banks = {bank: int(count) for bank, count in REGISTERS.findall(body)}
    if OF_A_THREAD in body:
        body, banks["r"] = body.replace(OF_A_THREAD, f"%r{banks.get('r', 1)}"), banks.get("r", 1) + 1
    instructions, labels = list[Instruction](), dict[str, int]()
    source = ""
    for line in _without_scopes(body, banks):
        bare = line.split("//")[0].strip()
        if place := PLACE.match(bare):
            source = f"{files.get(place[1], place[1])}:{place[2]}"
        elif label := LABEL.match(bare):
            labels[label[1]] = len(instructions)
        elif bare and not bare.startswith("."):
            instructions += _statements(bare, source, len(instructions))
    types = {name: kind for kind, name in PARAMETER.findall(parameters)}
    blocks = re.search(r"\.reqnctapercluster\s+(\d+)", directives)
    return Program(name, types, int(threads[1]), tuple(instructions), labels, banks, int(blocks[1]) if blocks else 1)


def _without_scopes(body: str, banks: dict[str, int]) -> Iterator[str]:
    """The lines of a kernel in which registers of a block in braces are further registers of the kernel."""
    known: dict[str, str] | None = None
    for line in body.splitlines():
        bare = line.split("//")[0].strip()
        if bare == "{":
            known = {}
        elif bare == "}":
            known = None
        elif known is not None and (own := OWN_REGISTERS.match(bare)):
            bank = BANKS[own[1]]
            for name in own[2].split(","):
                known[name.strip()] = f"%{bank}{banks.setdefault(bank, 1)}"
                banks[bank] += 1
        else:
            yield re.sub(r"(?<![%.$\w])([A-Za-z]\w*)\b", _renamed(known), line) if known else line


def _renamed(known: dict[str, str]) -> Callable[[re.Match[str]], str]:
    return lambda found: known.get(found[1], found[1])


def _statements(line: str, source: str, number: int) -> Iterator[Instruction]:
    for text in filter(None, map(str.strip, line.split(";"))):
        guard = GUARD.match(text)
        opcode, *rest = text[guard.end() if guard else 0 :].split(maxsplit=1)
        operands = tuple(_operand(part.strip()) for part in PARTS.findall(rest[0] if rest else ""))
        under = (Register("p", int(guard[2])), guard[1] == "!") if guard else None
        yield Instruction(number, opcode, operands, " ".join(text.split()), source, under)
        number += 1


def _operand(text: str) -> Operand:
    if text.startswith("{"):
        return tuple(_scalar(part.strip()) for part in text[1:-1].split(","))
    if "|" in text:
        return tuple(map(_scalar, text.split("|")))
    if text.startswith("["):
        base, _, offset = text[1:-1].replace(" ", "").partition("+")
        return Address(_scalar(base), int(offset or 0))
    return _scalar(text)


def _scalar(text: str) -> Scalar:
    found = REGISTER.match(text)
    return Register(found[1], int(found[2])) if found else text
