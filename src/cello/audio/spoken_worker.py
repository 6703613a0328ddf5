"""Speak in a separate process: a job as JSON on standard input, 16-bit audio on standard output.

eSpeak NG is free software under GPL-3.0-or-later. It is loaded here only, in a process of its own that imports nothing
of Cello, and is talked to over a pipe. A process of its own is also what makes the sound the same every time: the
synthesiser carries state from one utterance to the next which nothing but a fresh process resets.

Job: ``library`` and ``data`` (paths), ``seed``, ``longest_ms``, ``utterances``: a list of [voice, text, rate, pitch].
Answer: the sample rate as a little-endian uint32, then for each utterance its sample count and its samples (int16).
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
from pathlib import Path

SYNCHRONOUS = 2
DONT_EXIT = 0x8000
RATE, VOLUME, PITCH = 1, 2, 3
UTF8 = 1
CHARACTERS = 1
FASTEST = 450
QUIET_VOLUME = 60

CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_char), ctypes.c_int, ctypes.c_void_p)


class Voice:
    """The synthesiser, collecting what it says."""

    def __init__(self, library: str, data: str, seed: int) -> None:
        self.data = Path(data)
        self.espeak = ctypes.CDLL(library)
        self.rate_hz = int(self.espeak.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(data), DONT_EXIT))
        if self.rate_hz <= 0:
            raise SystemExit(f"eSpeak NG does not start with the data in {data} (code {self.rate_hz})")
        self.chunks: list[bytes] = []
        self.callback = CALLBACK(self._collect)
        self.espeak.espeak_SetSynthCallback(self.callback)
        self.espeak.espeak_ng_SetRandSeed(ctypes.c_long(seed))

    def _collect(self, sound: ctypes._Pointer[ctypes.c_char], samples: int, _events: int) -> int:
        if sound and samples > 0:
            self.chunks.append(ctypes.string_at(sound, 2 * samples))
        return 0

    def choose(self, voice: str) -> None:
        """Select an accent and a variant such as ``en-us+f3``; eSpeak itself ignores unknown variants."""
        variant = voice.partition("+")[2]
        if variant and not (self.data / "voices" / "!v" / variant).is_file():
            raise SystemExit(f"eSpeak NG's data in {self.data} has no voice variant {variant!r}")
        code = self.espeak.espeak_SetVoiceByName(voice.encode())
        if code != 0:
            raise SystemExit(f"eSpeak NG refuses the voice {voice!r} (code {code})")

    def say(self, text: str, rate: int, pitch: int) -> bytes:
        """The sound of a text at a rate in words per minute and a pitch from 0 to 99."""
        self.chunks.clear()
        for parameter, value in ((RATE, rate), (PITCH, pitch), (VOLUME, QUIET_VOLUME)):
            self.espeak.espeak_SetParameter(parameter, value, 0)
        spoken = text.encode() + b"\0"
        size = ctypes.c_size_t(len(spoken))
        code = self.espeak.espeak_Synth(spoken, size, 0, CHARACTERS, 0, UTF8, None, None)
        if code != 0:
            raise SystemExit(f"eSpeak NG cannot say {text!r} (code {code})")
        self.espeak.espeak_Synchronize()
        return b"".join(self.chunks)

    def say_within(self, text: str, rate: int, pitch: int, longest: int) -> bytes:
        """Speak a text, faster if needed, within ``longest`` samples."""
        while len(sound := self.say(text, rate, pitch)) > 2 * longest:
            if rate >= FASTEST:
                raise SystemExit(f"eSpeak NG needs more than {longest} samples to say {text!r} at its fastest")
            rate = min(FASTEST, rate * 5 // 4)
        return sound


def main() -> None:
    """Read the job, render it, and write the answer."""
    # What the library itself might print must not get between the samples, so standard output becomes standard error.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    job = json.load(sys.stdin)
    voice = Voice(job["library"], job["data"], job["seed"])
    longest = voice.rate_hz * job["longest_ms"] // 1000
    answer.write(struct.pack("<I", voice.rate_hz))
    for name, text, rate, pitch in job["utterances"]:
        voice.choose(name)
        sound = voice.say_within(text, rate, pitch, longest)
        answer.write(struct.pack("<I", len(sound) // 2) + sound)
    answer.close()


if __name__ == "__main__":
    main()
