"""Files damaged as disks, copies and strangers damage them, from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

KINDS = ("bit", "cut", "twice", "zeros", "gone", "rubbish")


def damaged(content: bytes, count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """``count`` copies that differ from the content, each with what was done to it."""
    rng, made = random.Random(seed), 0
    while made < count:
        kind, at = KINDS[made % len(KINDS)], rng.randrange(len(content))
        end = min(len(content), at + rng.choice((1, 7, 64, 512, 4096)))
        block = content[at:end]
        changed = {
            "bit": content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :],
            "cut": content[:at],
            "twice": content[:end] + block + content[end:],
            "zeros": content[:at] + bytes(len(block)) + content[end:],
            "gone": content[:at] + content[end:],
            "rubbish": content[:at] + rng.randbytes(rng.randrange(1, 9)) + content[at:],
        }[kind]
        made += 1
        if changed != content:
            yield f"{kind} at {at} of {len(content)}, number {made}", changed


HOSTILE = {
    "a number beyond all": b'{"format":1,"labels":1e999,"run":1e999,"event":1e999}',
    "deep nesting": b'{"format":1,"study":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a huge integer": b'{"format":' + b"9" * 5000 + b"}",
    "a format that never was": b'{"format":-1}',
    "a field twice": b'{"format":1,"format":1}',
    "a list": b"[1, 2]",
    "a number": b"3",
    "nothing": b"",
    "not UTF-8": b'{"format":1,"name":"\xc9","run":"\xc9","labels":["\xc9"],"event":"\xc9"}',
    "half a surrogate": b'{"format":1,"name":"\\ud800","run":"\\ud800"}',
    "NaN": b'{"format":NaN}',
    "another type": b'{"format":"1","study":3,"run":[],"name":{}}',
}
"""JSON that no reader may fall over, whatever it reads."""
