"""What hurts: a stranger's corpus read otherwise than meant, or split so that speakers leak, without a word."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cello.audio.choice import Choice
from cello.audio.corpus import SPLITS, Corpus
from cello.audio.open import open_corpus
from cello.audio.reading import Reading
from cello.errors import CorpusError

WORDS, SPEAKERS = ("yes", "no"), ("ann", "bob", "cy", "dora", "eve", "fay")


def write(path: Path, seed: int = 0, rate_hz: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = np.random.default_rng(seed).normal(0, 0.1, rate_hz // 5)
    soundfile.write(path, sound, rate_hz, subtype="PCM_16")


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """Six speakers, two words, in names as word/word_speaker_take.wav."""
    for seed, (word, who, take) in enumerate((w, s, t) for w in WORDS for s in SPEAKERS for t in range(3)):
        write(tmp_path / "clips" / word / f"{word}_{who}_{take}.wav", seed)
    return tmp_path / "clips"


def opened(root: Path, strict: bool = True, **told: object) -> Corpus:
    reading = Reading(**told)  # type: ignore[arg-type]
    return open_corpus(f"folder:{root}", cache=root.parent / "cache", reading=reading, strict=strict)


def shared(corpus: Corpus) -> set[str]:
    """Speakers by the names' middle part that are in more than one split."""
    splits: dict[str, set[str]] = {}
    for clip in corpus.manifest.clips:
        splits.setdefault(clip.name.split("_")[1], set()).add(clip.split)
    return {who for who, found in splits.items() if len(found) > 1}


def test_speakers_that_names_tell_are_confirmed_before_anything_is_split(named: Path) -> None:
    with pytest.raises(CorpusError) as raised:
        opened(named)
    text = str(raised.value)
    assert text.startswith(
        "the file names of clips seem to contain speakers: 6 speakers (ann, bob, cy, …), each with about 6 clips"
    )
    pattern = text.partition("--speaker-pattern '")[2].partition("'")[0]
    confirmed = opened(named, speaker_pattern=pattern)
    assert not shared(confirmed)
    assert confirmed.manifest.speakers_known
    denied = opened(named, unknown_speakers=True)
    assert shared(denied)
    assert "so accuracy is too optimistic for new ones: confirm them with --speaker-" in denied.manifest.warnings[0]


def test_where_nothing_is_refused_the_refusal_is_the_first_warning(named: Path) -> None:
    found = opened(named, strict=False).manifest
    assert found.warnings[0].startswith("the file names of clips seem to contain speakers")
    assert len(found.clips) == 36


def test_lists_that_share_speakers_by_name_are_used_and_said(named: Path) -> None:
    names = sorted(path.relative_to(named).as_posix() for path in named.rglob("*.wav"))
    (named / "validation_list.txt").write_text("\n".join(name for name in names if name.endswith("_1.wav")))
    (named / "testing_list.txt").write_text("\n".join(name for name in names if name.endswith("_2.wav")))
    (warning,) = opened(named).manifest.warnings
    assert warning.startswith(
        "file names seem to contain 6 speakers (ann, bob, cy); 6 are in several splits, so accuracy is"
    )


def test_a_speaker_pattern_that_captures_the_label_is_refused(named: Path) -> None:
    for word in ("up", "left"):
        shutil.copytree(named / "yes", named / word)
    with pytest.raises(
        CorpusError, match=r"the speakers of clips are its labels: 'left' says only 'left', .* for all 4"
    ):
        opened(named, speaker_pattern="^([a-z]+)/")


def test_a_table_gives_labels_speakers_splits_and_parts(named: Path) -> None:
    table = named / "meta" / "clips.csv"
    table.parent.mkdir()
    lines = [
        f"{path.name},{path.name.split('_')[0]},{path.name.split('_')[1]},{path.name.split('_')[2][0]}"
        for path in sorted(named.rglob("*.wav"))
    ]
    table.write_text("file,category,who,take\n" + "\n".join(lines))
    corpus = opened(named, table="meta/clips.csv", columns={"speaker": "who"})
    assert corpus.manifest.labels == ("no", "yes")
    assert not shared(corpus)
    assert corpus.manifest.clips[0].columns == {"take": "0"}
    other = open_corpus(
        f"folder:{named}", cache=named.parent / "cache", reading={"table": str(table), "columns": {"speaker": "who"}}
    )
    assert other.manifest.checksum == corpus.manifest.checksum
    table.write_text(
        "path,label,split,start,end\n"
        + "".join(
            f"yes/yes_ann_0.wav,{word},{split},{0.1 * n},{0.1 * n + 0.05}\n"
            for n, (word, split) in enumerate([("a", "train"), ("b", "train")])
        )
        + "no/no_ann_0.wav,a,test,,\nno/no_bob_0.wav,b,dev,,0.05\n"
    )
    parts = opened(named, table="meta/clips.csv")
    assert [clip.samples for clip in parts.manifest.clips] == [3200, 800, 800, 800]
    whole, _ = soundfile.read(named / "yes/yes_ann_0.wav", dtype="float32")
    sound, _ = parts.audio(np.array([3]))
    np.testing.assert_array_equal(sound[0], whole[1600:2400])


def test_a_part_beyond_the_recording_is_named(named: Path) -> None:
    lines = [f"yes/yes_{who}_0.wav,{word},{at}\n" for who in SPEAKERS for word, at in (("a", 0), ("b", 0.1))]
    (named / "clips.csv").write_text("path,label,start\n" + "".join(lines) + "yes/yes_ann_0.wav,b,9\n")
    found = opened(named, strict=False, table="clips.csv").manifest
    (bad,) = found.bad
    assert (bad.name, bad.reason) == ("yes/yes_ann_0.wav#9-", "it starts at 9 s, but the recording lasts 0.2 s")


def test_a_pattern_reads_flat_folders(named: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in named.rglob("*.wav"):
        path.rename(flat / path.name)
    (flat / "README.md").write_text("about")
    with pytest.raises(CorpusError, match="no class folders"):
        opened(flat)
    corpus = opened(flat, pattern=r"^(?P<label>[^_]+)_(?P<speaker>[^_]+)_")
    assert corpus.manifest.labels == ("no", "yes")
    assert not shared(corpus)
    with pytest.raises(CorpusError, match=r"finds no label in 'no_ann_0.wav'; it must match every name"):
        opened(flat, pattern=r"^(?P<label>yes)_")


def test_speakers_on_top_are_not_taken_for_labels(named: Path, tmp_path: Path) -> None:
    for path in sorted(named.rglob("*.wav")):
        word, who, take = path.stem.split("_")
        write(tmp_path / "by" / f"spk{SPEAKERS.index(who)}" / word / f"{take}.wav", int(take))
    with pytest.raises(CorpusError) as raised:
        opened(tmp_path / "by")
    text = str(raised.value)
    assert (
        "are not its folders: the folders spk0, spk1, spk2, … are speakers, and those in them (no, yes) labels" in text
    )
    pattern = text.partition("--pattern '")[2].partition("'")[0]
    assert opened(tmp_path / "by", pattern=pattern).manifest.labels == ("no", "yes")


def test_folders_of_folds_are_read_and_said(named: Path, tmp_path: Path) -> None:
    for seed, path in enumerate(sorted(named.rglob("*.wav"))):
        write(tmp_path / "folds" / f"fold{1 + seed % 4}" / path.parent.name / f"c{seed}.wav", seed)
    manifest = opened(tmp_path / "folds").manifest
    assert manifest.labels == ("no", "yes")
    assert {clip.fold for clip in manifest.clips if clip.split == "test"} == {"fold4"}
    assert "folds: 'fold4' tests, 'fold3' validates, the other 2 train" in manifest.source


def test_labels_are_chosen_the_others_pooled(named: Path) -> None:
    for word in ("up", "down"):
        for path in (named / "yes").iterdir():
            write(named / word / path.name.replace("yes", word), len(word))
    told = {"speaker_pattern": "_([a-z]+)_", "choice": Choice(labels=("yes", "no"), unknown=50)}
    manifest = opened(named, **told).manifest
    assert manifest.labels == ("yes", "no", "_unknown_")
    assert {clip.split for clip in manifest.clips} == set(SPLITS)


def test_another_rate_is_said(named: Path) -> None:
    for seed, path in enumerate(named.rglob("*.wav")):
        write(path, seed, rate_hz=8000)
    warnings = opened(named, speaker_pattern="_([a-z]+)_").manifest.warnings
    assert any("recorded at 8,000 Hz and are resampled to 16,000 Hz" in text for text in warnings)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"pattern": "("}, r"pattern '\(' is not a valid regular expression"),
        ({"pattern": "(?P<word>x)"}, r"has a group 'word'; its groups are \(\?P<label>…\) and, where names tell"),
        ({"pattern": "(?P<speaker>x)"}, "has no group for the label"),
        ({"pattern": "(?P<label>x)", "table": "a.csv"}, "--pattern and --table cannot be combined; give one of them"),
        (
            {"unknown_speakers": True, "speaker_pattern": "(x)"},
            "--unknown-speakers and --speaker-pattern cannot be comb",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(told: dict[str, object], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        Reading(**told)  # type: ignore[arg-type]
