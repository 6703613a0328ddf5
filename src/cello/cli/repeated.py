"""Join what a repeated option gives; refuse to repeat an option that takes one value.

The parser keeps the last of several ``--map a=x --map b=x``, without a word; nothing that was given may be lost so. It
takes ``RUN`` in ``--map a=x RUN --split all`` for a mapping too, and calls ``RUN`` missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from tyro.conf import Positional, Suppress, UseAppendAction

from cello.errors import ConfigError

Takes = Literal["one value", "several values", "a list", "one value a time"]
KEY_VALUE = re.compile(r"[\w.]+=.*", re.DOTALL)


@dataclass(frozen=True)
class Option:
    """What an option takes: several values after it, a list with commas, one value each time, or one at all.

    ``follows`` says whether a word after the first value can be the next value.
    """

    takes: Takes
    follows: Callable[[str], bool] = lambda _: True


def options_of(command: type) -> dict[str, Option]:
    """The options of a command that take values, by their flags; those of its configs too."""
    return dict(_options(command, "--"))


def _options(kind: type, front: str) -> Iterator[tuple[str, Option]]:
    for field, hint in get_type_hints(kind, include_extras=True).items():
        marks: tuple[Any, ...] = getattr(hint, "__metadata__", ())
        plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        named = next((mark.name for mark in marks if getattr(mark, "name", None)), field.strip("_"))
        flag = front + named.replace("_", "-")
        if any(mark in marks for mark in (_mark(Positional), _mark(Suppress))) or plain is bool:
            continue
        if isinstance(plain, type) and (is_dataclass(plain) or issubclass(plain, msgspec.Struct)):
            yield from _options(plain, f"{flag}.")
        elif option := _option(plain, marks):
            yield flag, option


def _option(plain: Any, marks: Sequence[Any]) -> Option | None:
    if get_origin(plain) is not tuple:
        listed = any("," in (getattr(mark, "metavar", None) or "") for mark in marks)
        return Option("a list" if listed else "one value")
    inner = get_args(plain)[0]
    if _mark(UseAppendAction) not in marks:
        pairs = any("=" in (getattr(mark, "metavar", None) or "") for mark in marks)
        return Option("several values", (lambda word: "=" in word) if pairs else lambda _: True)
    if get_origin(inner) is tuple:
        return None  # it is joined by the command
    choices = get_args(inner)
    return Option("one value a time", choices.__contains__ if choices else lambda word: bool(KEY_VALUE.fullmatch(word)))


def _mark(kind: Any) -> Any:
    """What a mark of the parser's leaves in a type."""
    return kind[int].__metadata__[0]


@dataclass
class _Given:
    """An option as it stands among the arguments, with the words after it up to the next option.

    The first word is written to it with ``=`` where ``inline``: the others are then not its own.
    """

    flag: str
    words: list[str]
    inline: bool = False

    @property
    def key(self) -> str:
        return self.flag.replace("_", "-")

    @property
    def written(self) -> list[str]:
        if not self.inline:
            return [self.flag, *self.words]
        return [f"{self.flag}={self.words[0]}", *self.words[1:]]


def needed(command: type) -> str:
    """What a command cannot do without, as its help calls it: the first argument without a flag; empty if none."""
    hints = get_type_hints(command, include_extras=True)
    for field in fields(command):
        marks = getattr(hints[field.name], "__metadata__", ())
        if _mark(Positional) in marks and field.default is MISSING and field.default_factory is MISSING:
            return next((mark.metavar for mark in marks if getattr(mark, "metavar", None)), field.name)
    return ""


def gathered(arguments: Sequence[str], options: Mapping[str, Option], needs: str = "", commands: int = 1) -> list[str]:
    """The arguments with each option once, or where it takes one value each time, that often.

    ``needs`` is what has to stand without a flag after the ``commands`` words of the command, if anything. Where it
    does not stand before the options, it is the first word that cannot be a value of the option before it.

    Raises:
        ConfigError: an option that takes one value is given several, or one took what is needed for a value of its own.

    >>> gathered(["x", "--map", "a=b", "--out", "y", "--map", "c=d"], {"--map": Option("several values")})
    ['x', '--map', 'a=b', 'c=d', '--out', 'y']
    """
    front, given = _split(arguments)
    if needs and len(front) == commands:
        front += _needed_among(given, options, needs)
    first: dict[str, _Given] = {}
    kept: list[_Given] = []
    for one in given:
        option, before = options.get(one.key), first.get(one.key)
        if option is not None and option.takes == "one value a time":
            kept += _one_a_time(one, option)
        elif option is None or before is None or not (one.words and before.words):
            first.setdefault(one.key, one)
            kept.append(one)
        else:
            front += _joined(before, one, option)
    return [*front, *(word for one in kept for word in one.written)]


def _split(arguments: Sequence[str]) -> tuple[list[str], list[_Given]]:
    front: list[str] = []
    given: list[_Given] = []
    for word in arguments:
        if word.startswith("--") and len(word) > 2:
            flag, equals, value = word.partition("=")
            given.append(_Given(flag, [value] if equals else [], bool(equals)))
        else:
            (given[-1].words if given else front).append(word)
    return front, given


def _needed_among(given: Sequence[_Given], options: Mapping[str, Option], needs: str) -> list[str]:
    """Take what is needed from an option of several values that would swallow it; of the last one the parser does."""
    if any(_stands_after(one, options.get(one.key)) for one in given):
        return []
    swallowing = []
    for one in given[:-1]:
        option = options.get(one.key)
        if option is not None and option.takes == "several values" and len(one.words) > 1:
            if loose := [word for word in one.words[1:] if one.inline or not option.follows(word)]:
                one.words = [one.words[0], *(word for word in one.words[1:] if word not in loose)]
                return loose
            swallowing.append(one)
    if swallowing:
        one = swallowing[-1]
        raise ConfigError(
            f"{needs} is missing: {one.flag} takes every word after it for a value, {one.words[-1]!r} too; write "
            f"{needs} before the options"
        )
    return []


def _stands_after(one: _Given, option: Option | None) -> bool:
    """Whether a word stands after an option that is no value of it."""
    if option is None:
        return bool(one.words)
    if option.takes in ("one value", "a list"):
        return len(one.words) > 1
    return option.takes == "one value a time" and not all(map(option.follows, one.words[1:]))


def _one_a_time(one: _Given, option: Option) -> Iterator[_Given]:
    """``--to onnx c99 RUN`` as ``--to onnx --to c99 RUN``."""
    words, at = one.words, 1
    while not one.inline and at < len(words) and option.follows(words[at]):
        yield _Given(one.flag, [words[at - 1]])
        at += 1
    yield _Given(one.flag, words[at - 1 :], one.inline)


def _joined(before: _Given, one: _Given, option: Option) -> list[str]:
    """Put what an option gives once more where it stood before; the words that are neither's own."""
    if option.takes == "several values":
        own, loose = _own(before)
        more, looser = _own(one)
        before.words, before.inline = own + more, False
        return loose + looser
    value, *loose = one.words
    if option.takes == "a list":
        before.words[0] += f",{value}"
    elif before.words[0] != value:
        raise ConfigError(f"{one.flag} takes one value and is given twice ({before.words[0]}, {value}); give it once")
    return loose


def _own(given: _Given) -> tuple[list[str], list[str]]:
    """The values of an option that takes several, and the words after them that are not its own."""
    return (given.words[:1], given.words[1:]) if given.inline else (given.words, [])
