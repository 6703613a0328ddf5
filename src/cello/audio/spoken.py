"""Render the embedded corpus: the 35 words of Speech Commands, spoken by eSpeak NG.

A voice variant is a speaker. Accent, pitch, rate, level, the place of the word in the clip and the noise behind it vary
from clip to clip; all of it, and so every byte, follows from the config alone.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import wave
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import soxr
from numpy.typing import NDArray

from cello.audio import espeak
from cello.audio.corpus import SPLITS, Split
from cello.audio.espeak import Engine, Utterance
from cello.audio.noise import MADE, coloured, unit_power
from cello.audio.progress import Progress, paced
from cello.audio.staging import locked, resumed
from cello.errors import ConfigError, CorpusError
from cello.files import DamagedFileError, read_stored, write_whole

RENDERING = 1
"""Raised whenever the same config would give other bytes than before, so that old renderings are not taken for new."""
RATE_HZ = 16_000
CLIP_SAMPLES = 16_000
SHORTEST_SAMPLES = 11_200
SHORTER_SHARE = 0.3
LONGEST_WORD_MS = 900
RECORD = "spoken.json"
"""The file in a rendered folder that says what it was rendered from."""

_WORDS = """
    backward bed bird cat dog down eight five follow forward four go happy house learn left marvin nine no off on one
    right seven sheila six stop three tree two up visual wow yes zero
"""
WORDS: tuple[str, ...] = tuple(_WORDS.split())
_ACCENTS = "en-us en-us-nyc en en-gb-x-rp en-gb-scotland en-gb-x-gbclan en-gb-x-gbcwmd en-029"
ACCENTS: tuple[str, ...] = tuple(_ACCENTS.split())
# eSpeak's 104 variants less 20 that can hardly be told from another one: benjamin, edward2, klatt6, mike2 and Reed from
# adam; klatt2 from klatt; klatt4 and klatt5 from klatt3; steph2 and steph3 from steph; robosoft3 from robosoft2;
# anikaRobot from anika; Gene2 from Gene; fast and grandpa from croak; Henrique, Hugo, michel and miguel from Diogo;
# robert from rob. Kept, they would put one speaker on both sides of a split. And less kaukovalta and zac, which lie so
# far from anybody's voice that a model not trained on them recognises one word in six, and one in twenty.
_VARIANTS = """
    Alex, Alicia, Andrea, Andy, Annie, AnxiousAndy, Demonic, Denis, Diogo, Gene, Jacky, Lee, Marco, Mario, Michael,
    Mike, Mr serious, Nguyen, RicishayMax, RicishayMax2, RicishayMax3, Storm, Tweaky, UniRobot, adam, anika, announcer,
    antonio, aunty, belinda, boris, caleb, croak, david, ed, edward, f1, f2, f3, f4, f5, grandma, gustave, ian, iven,
    iven2, iven3, iven4, john, klatt, klatt3, linda, m1, m2, m3, m4, m5, m6, m7, m8, marcelo, max, norbert,
    pablo, paul, pedro, quincy, rob, robosoft, robosoft2, robosoft4, robosoft5, robosoft6, robosoft7, robosoft8, sandro,
    shelby, steph, travis, victor, whisper, whisperf
"""
VARIANTS: tuple[str, ...] = tuple(name.strip() for name in _VARIANTS.split(","))
_NEIGHBOURS = 7
_SHARD = 200
_MARKS = ".shards"
"""Beside the clips while they are rendered: a file for each shard that is whole, with the hash of its clips."""
_BABBLE_VOICES = 6
_BABBLE_SAMPLES = 20 * RATE_HZ
_BABBLE = (
    "The morning train was late again, and everybody on the platform looked at the grey sky above the station.",
    "She asked whether the shop could send the parcel by Thursday, because her brother would be travelling then.",
    "Most of the apples were picked before the rain, and the children carried them to the kitchen in baskets.",
)


class SpokenConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The size and the noise of the corpus: ``clips_per_word`` counts training clips.

    Validation and test have as many clips a speaker as training has. The signal-to-noise ratio of a clip is drawn
    uniformly from [``snr_low_db``, ``snr_high_db``].

    Raises:
        ConfigError: a value that no corpus can be rendered with.
    """

    clips_per_word: int = 100
    words: tuple[str, ...] = WORDS
    snr_low_db: float = 15.0
    snr_high_db: float = 45.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.clips_per_word < 1:
            raise ConfigError(f"spoken.clips_per_word={self.clips_per_word} is invalid: it must be at least 1")
        if self.snr_low_db > self.snr_high_db:
            raise ConfigError(
                f"spoken.snr_low_db={self.snr_low_db} is invalid: it must be at most snr_high_db={self.snr_high_db}"
            )
        if self.seed < 0:
            raise ConfigError(f"spoken.seed={self.seed} is invalid: it must be ≥ 0")
        bad = [word for word in self.words if not word.isalpha()]
        if bad or not self.words or len(set(self.words)) != len(self.words):
            raise ConfigError(
                f"spoken.words={list(self.words)} is invalid: give at least one word, only letters, none twice"
            )


DEFAULT = SpokenConfig()


class Planned(msgspec.Struct, frozen=True):
    """One clip before it is rendered; ``number`` seeds its random draws."""

    number: int
    word: str
    split: Split
    variant: str
    take: int

    @property
    def name(self) -> str:
        """The clip's path below the corpus, as Speech Commands would name it."""
        return f"{self.word}/{speaker(self.variant)}_nohash_{self.take}.wav"


def speaker(variant: str) -> str:
    """A voice variant's name as it stands in file names.

    >>> speaker("Mr serious")
    'mrserious'
    """
    return variant.replace(" ", "").lower()


def folder_name(config: SpokenConfig) -> str:
    """The name of a rendering in the cache, which depends on the config and on how it is rendered.

    >>> folder_name(SpokenConfig()) == folder_name(SpokenConfig(seed=1))
    False
    """
    return f"spoken-{hashlib.sha256(_record(config)).hexdigest()[:12]}"


def voices(config: SpokenConfig) -> dict[Split, tuple[str, ...]]:
    """The voice variants of each split; no variant is in two splits.

    Of every seven neighbours by name, which often sound alike, one is drawn for validation and one or two for test, so
    that validation and test are about equally hard.
    """
    rng = np.random.default_rng([config.seed, 0])
    cast: dict[Split, list[str]] = {split: [] for split in SPLITS}
    for number, first in enumerate(range(0, len(VARIANTS), _NEIGHBOURS)):
        roles: list[Split] = ["validation", "test", "test" if number % 2 else "train"]
        neighbours = VARIANTS[first : first + _NEIGHBOURS]
        for place, drawn in enumerate(rng.permutation(len(neighbours))):
            cast[roles[place] if place < len(roles) else "train"].append(neighbours[drawn])
    return {split: tuple(people) for split, people in cast.items()}


def plan(config: SpokenConfig) -> list[Planned]:
    """Plan all clips in rendering order; every voice says each word about equally often."""
    cast = voices(config)
    each = config.clips_per_word / len(cast["train"])
    clips: list[Planned] = []
    for split in SPLITS:
        people = cast[split]
        wanted = max(1, round(each * len(people)))
        for place, word in enumerate(config.words):
            for k in range(wanted):
                # Words start at different voices, so that those with one clip more are not the same for every word.
                variant = people[(k + place * 7) % len(people)]
                clips.append(Planned(len(clips), word, split, variant, k // len(people)))
    return clips


def render_to(
    folder: Path,
    *,
    progress: Progress | None = None,
    config: SpokenConfig = DEFAULT,
    workers: int | None = None,
) -> None:
    """Render the corpus as an ordinary folder of class folders, with its lists of validation and test clips.

    The bytes do not depend on ``workers`` (default: as many as cores). The folder appears when it is complete; one that
    is complete already is left as it is. Stopped and called again, it keeps what was rendered whole and goes on to the
    same bytes.

    Raises:
        CorpusError: eSpeak NG is not installed or fails, or ``folder`` holds something else.
    """
    with locked(folder):
        if _complete(folder, config):
            return
        with espeak.engine() as engine, resumed(folder, _origin(config, engine)) as target:
            _render(target, config, engine, progress, workers or os.cpu_count() or 1)


def _render(target: Path, config: SpokenConfig, engine: Engine, progress: Progress | None, workers: int) -> None:
    clips = plan(config)
    step = paced(progress, "rendering the spoken corpus", len(clips))
    step(0)
    for name in (*config.words, _MARKS):
        (target / name).mkdir(exist_ok=True)
    babble = {split: _babble(voices(config)[split], engine) for split in SPLITS}
    shards = [clips[i : i + _SHARD] for i in range(0, len(clips), _SHARD)]
    done = 0
    with ThreadPoolExecutor(workers) as pool:
        waiting = {pool.submit(_render_shard, target, config, shard, babble, engine) for shard in shards}
        try:
            while waiting:
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                done += sum(future.result() for future in ready)
                step(done)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    for split, name in (("validation", "validation_list.txt"), ("test", "testing_list.txt")):
        listed = sorted(clip.name for clip in clips if clip.split == split)
        (target / name).write_text("".join(f"{line}\n" for line in listed), encoding="utf-8")
    _write_background(target / "_background_noise_", babble["train"], config.seed)
    shutil.rmtree(target / _MARKS)
    (target / RECORD).write_bytes(_record(config))


def _render_shard(
    target: Path,
    config: SpokenConfig,
    shard: Sequence[Planned],
    babble: dict[Split, NDArray[np.float32]],
    engine: Engine,
) -> int:
    """Say a stretch of the plan in one process and write its clips, unless they are there; how many there were."""
    mark = target / _MARKS / str(shard[0].number)
    if mark.is_file() and mark.read_bytes() == _hash(target, shard):
        return len(shard)
    draws = [np.random.default_rng([config.seed, 1, clip.number]) for clip in shard]
    spoken = [_utterance(clip, rng) for clip, rng in zip(shard, draws, strict=True)]
    rate_hz, sounds = espeak.say(engine, spoken, longest_ms=LONGEST_WORD_MS)
    for clip, rng, sound in zip(shard, draws, sounds, strict=True):
        word = soxr.resample(sound.astype(np.float32) / 32768, rate_hz, RATE_HZ)
        snr_db = rng.uniform(config.snr_low_db, config.snr_high_db)
        _write(target / clip.name, in_noise(word, snr_db, babble[clip.split], rng))
    write_whole(mark, _hash(target, shard))
    return len(shard)


def _hash(target: Path, shard: Sequence[Planned]) -> bytes:
    """SHA-256 over the names of a shard's clips and what their files hold, a missing one as an empty one."""
    digest = hashlib.sha256()
    for clip in shard:
        path = target / clip.name
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{clip.name} {len(content)} ".encode() + content)
    return digest.digest()


def _utterance(clip: Planned, rng: np.random.Generator) -> Utterance:
    accent = ACCENTS[rng.integers(len(ACCENTS))]
    return Utterance(f"{accent}+{clip.variant}", clip.word, int(rng.integers(130, 201)), int(rng.integers(35, 66)))


def in_noise(
    word: NDArray[np.float32], snr_db: float, babble: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.int16]:
    """A word (N,) somewhere in a clip of 0.7 to 1 s, in noise of some colour, at some level.

    10·log₁₀(P_word / P_noise) = ``snr_db``, P_word over the word alone and P_noise over the clip.
    """
    shortest = max(SHORTEST_SAMPLES, len(word))
    samples = int(rng.integers(shortest, CLIP_SAMPLES + 1)) if rng.random() < SHORTER_SHARE else CLIP_SAMPLES
    start = int(rng.integers(samples - len(word) + 1))
    clip = _some_noise(samples, babble, rng) * np.float32(10 ** (-snr_db / 20))
    clip[start : start + len(word)] += unit_power(word)
    peak_db = rng.uniform(-20.0, -1.0)
    clip *= np.float32(32767 * 10 ** (peak_db / 20)) / np.abs(clip).max()
    return np.round(clip).astype(np.int16)


def _some_noise(samples: int, babble: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A stretch of noise of unit power: made of a colour, or cut from the babble of the split's own voices."""
    which = int(rng.integers(len(MADE) + 1))
    if which < len(MADE):
        # Made at one length and cut: the Fourier transform of a length that happens to be prime is slow.
        return unit_power(coloured(MADE[which], CLIP_SAMPLES, RATE_HZ, rng)[:samples])
    start = int(rng.integers(len(babble) - samples + 1))
    return unit_power(babble[start : start + samples])


def _babble(cast: Sequence[str], engine: Engine) -> NDArray[np.float32]:
    """Several voices of a split talking at once, (N,) of unit power."""
    talking = cast[:: max(1, len(cast) // _BABBLE_VOICES)][:_BABBLE_VOICES]
    said = [
        Utterance(f"{ACCENTS[i % len(ACCENTS)]}+{variant}", _BABBLE[(i + k) % len(_BABBLE)], 160, 50)
        for i, variant in enumerate(talking)
        for k in range(len(_BABBLE))
    ]
    rate_hz, sounds = espeak.say(engine, said, longest_ms=20_000)
    mixed = np.zeros(_BABBLE_SAMPLES, dtype=np.float32)
    for i in range(len(talking)):
        own = np.concatenate(sounds[i * len(_BABBLE) : (i + 1) * len(_BABBLE)])
        mixed += np.resize(unit_power(soxr.resample(own.astype(np.float32), rate_hz, RATE_HZ)), _BABBLE_SAMPLES)
    return unit_power(mixed)


def _write_background(folder: Path, babble: NDArray[np.float32], seed: int) -> None:
    """Recordings of noise for augmentation, one a colour; the babble is of training voices."""
    folder.mkdir(exist_ok=True)
    noises = {"babble": babble}
    for i, colour in enumerate(MADE):
        noises[colour] = coloured(colour, len(babble), RATE_HZ, np.random.default_rng([seed, 2, i]))
    for name, noise in noises.items():
        _write(folder / f"{name}.wav", np.round(noise * (0.5 * 32767 / np.abs(noise).max())).astype(np.int16))


def _write(path: Path, sound: NDArray[np.int16]) -> None:
    whole = io.BytesIO()
    with wave.open(whole, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(sound.astype("<i2").tobytes())
    path.write_bytes(whole.getvalue())


def _record(config: SpokenConfig) -> bytes:
    return msgspec.json.encode({"rendering": RENDERING, "config": msgspec.to_builtins(config)})


def _origin(config: SpokenConfig, engine: Engine) -> str:
    """What a rendering is made from, this very eSpeak NG included: one begun with another is not gone on with."""
    return hashlib.sha256(_record(config) + engine.library.read_bytes()).hexdigest()[:12]


def _complete(folder: Path, config: SpokenConfig) -> bool:
    """Whether the folder is this very corpus; a rendering is moved into place whole, so its record speaks for it."""
    if not folder.exists():
        return False
    with suppress(OSError, DamagedFileError):
        if read_stored(folder / RECORD) == _record(config):
            return True
    raise CorpusError(
        f"{folder} exists but is not the spoken corpus of this config (no matching {RECORD}); "
        f"move it away or choose another folder"
    )
