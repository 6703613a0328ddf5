"""What hurts: a mistake in a study's file that is not named by its place, a file that makes everybody wait."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cello.errors import ConfigError, StudyError
from cello.study.study_file import load_study, parse_study

HEAD = 'name = "x"\n'
ROWS = '[[rows]]\nname = "A"\n[[rows]]\nname = "B"\n[[rows]]\nname = "C"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'nam = "x"',
            r"f\.toml: unknown key nam; did you mean 'name'\? Known: base, columns, folds, match, match_to, name",
        ),
        (
            HEAD + ROWS + "[rows.model]\nhiden = 3",
            r"unknown key rows\[2\]\.model\.hiden; did you mean 'hidden'\? Known: b",
        ),
        (HEAD + "[base.optimizer]\nepochs = 1", r"unknown key base\.optimizer; did you mean 'optimiser'\?"),
        (HEAD + '[[columns]]\nname = "c"\nwindow_ms = 3', r"unknown key columns\[0\]\.window_ms"),
        (HEAD + '[base.model]\nhidden = "64"', r"base\.model\.hidden = '64': Expected 'int', got 'str'"),
        (HEAD + "[base.model]\nhidden = true", r"base\.model\.hidden = True: Expected 'int', got 'bool'"),
        (HEAD + '[base.model]\nreadout = "lst"', r"pooling = 'lst': .* choose one of 'last', 'mean', 'attention'"),
        (
            HEAD + "rows = 3",
            r"f\.toml: Expected 'array', got 'int' - at 'rows' \(rows = 3\); write for example \[\[rows\]\] and below",
        ),
        ("seeds = 0\n" + HEAD + ROWS, r"'seeds' \(seeds = 0\); write for example seeds = \[0, 1, 2\]"),
        ("", r"f\.toml: Object missing required field 'name'; write for example name = \"mine\""),
        (HEAD + '[base]\nmodel = "lstm"', r"Expected 'object', got 'str' - at 'base\.model'"),
        (HEAD + "[[rows]]\n", r"missing required field 'name' - at 'rows\[0\]'; write for example \[\[rows\]\] and"),
        (HEAD + 'stage = "three"\n' + ROWS, r"Invalid enum value 'three' - at 'stage'"),
        (
            HEAD + 'match = "size"\n' + ROWS,
            r"Invalid enum value 'size' - at 'match' \(match = 'size'\); write for example match = \"parameters\"; the",
        ),
        (HEAD + "match_to = 3\n" + ROWS, r"at 'match_to' \(match_to = 3\); write for example match_to = \"LSTM\", the"),
        (HEAD + "stage == 3\n", r"f\.toml: not valid TOML: .*line 2.*; correct the file"),
    ],
)
def test_mistakes_in_the_file_are_named_by_their_path(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_study(text, "f.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD, r"f\.toml: study 'x' has no rows, so nothing to run; add at least one \[\[rows\]\]"),
        (HEAD + "seeds = []\n" + ROWS, r"study 'x' has no seeds"),
        (HEAD + "seeds = [0, -1]\n" + ROWS, r"seed -1 of study 'x' is negative"),
        (HEAD + "seeds = [3, 3]\n" + ROWS, r"seed 3 stands twice in study 'x'"),
        (HEAD + ROWS + ROWS, r"row 'A' stands twice in study 'x'; each must be unique"),
        (HEAD + ROWS + '[[columns]]\nname = "c"\n[[columns]]\nname = "c"', r"column 'c' stands twice"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        parse_study(text, "f.toml")


def test_unknown_studies_protocols_and_files(tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=r"unknown study 'gate'; did you mean 'gates'\? Known: data, gates, .*, zoo\. Or"
    ):
        load_study("gate")
    with pytest.raises(StudyError, match=r"unknown protocol 'fare'; did you mean 'fair'\?"):
        load_study("gates", "fare")
    with pytest.raises(
        StudyError, match=r"unknown protocol 'published'.* Known: fair, quick\. Those are the ones of 'zoo'"
    ):
        load_study("zoo", "published")
    with pytest.raises(ConfigError, match=r"study file '.*none\.toml' cannot be read: .*No such file"):
        load_study(tmp_path / "none.toml")
    file = tmp_path / "mine.toml"
    file.write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match=r"mine\.toml' is not UTF-8 \(byte 8 is 0xff\); save it as UTF-8$"):
        load_study(file)
    file.write_text(HEAD + ROWS)
    assert load_study(file, "fair") == load_study(str(file))
    with pytest.raises(StudyError, match=r"states no protocol, but 'published' was asked for"):
        load_study(file, "published")
    file.write_text('protocol = "fair"\n' + HEAD + ROWS)
    with pytest.raises(StudyError, match=r"states protocol = 'fair', but 'published' was asked for"):
        load_study(file, "published")


def test_a_file_is_read_as_editors_write_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    plain = parse_study(HEAD + ROWS, "mine.toml")
    for text in (b"\xef\xbb\xbf" + (HEAD + ROWS).encode(), (HEAD + ROWS).replace("\n", "\r\n").encode()):
        file.write_bytes(text)
        assert load_study(file) == plain


def as_folder(file: Path) -> None:
    file.mkdir()


def as_pipe(file: Path) -> None:
    os.mkfifo(file)


def as_huge(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(1 << 40)


def as_link_to_itself(file: Path) -> None:
    file.symlink_to(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((HEAD + ROWS).encode("utf-16"), r"is not UTF-8 \(byte 0 is 0xff\); save it as UTF-8$"),
        ((HEAD + ROWS).encode("utf-16-le"), r"holds zero bytes, as UTF-16 does; save it as UTF-8$"),
        ((HEAD + ROWS).encode("utf-32"), r"is not UTF-8 \(byte 0 is 0xff\); save it as UTF-8$"),
        ('name = "caf\xe9"'.encode("latin-1"), r"is not UTF-8 \(byte 11 is 0xe9\); save it as UTF-8$"),
        (b"x = " + b"[" * 100_000, r"not valid TOML: lists or tables are nested too deeply; correct the file$"),
        (b"x = " + b"9" * 10_000, r"not valid TOML: a value cannot be read: .*; correct the file$"),
        (b"name = 1\nname = 2", r"not valid TOML: Cannot overwrite a value .*; correct the file$"),
        (b"\x00", r"holds zero bytes"),
        (as_folder, r"is a folder, not a regular file; give the path of a TOML file$"),
        (as_pipe, r"is not a regular file; give the path of a TOML file$"),
        (
            as_huge,
            r"is 1099511627776 bytes, more than the 16777216 such a file may have; give the path of a TOML file$",
        ),
        (as_link_to_itself, r"cannot be read: Too many levels of symbolic links; give the path of a TOML file$"),
    ],
)
def test_what_is_no_study_file_is_named_and_nobody_waits(
    tmp_path: Path, content: bytes | Callable[[Path], None], message: str
) -> None:
    file = tmp_path / "mine.toml"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        content(file)
    with pytest.raises(ConfigError, match=message):
        load_study(file)
