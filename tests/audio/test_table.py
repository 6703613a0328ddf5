"""What hurts: a table of clips read otherwise than meant, or a line dropped without a word."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cello.audio.table import Entry, read_table, resolve
from cello.errors import CorpusError


def table(folder: Path, text: str | bytes, name: str = "clips.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_table_of_esc_50_needs_no_words(tmp_path: Path) -> None:
    text = "filename,fold,target,category,esc10,src_file,take\n1-100032-A-0.wav,1,0,dog,True,100032,A\n"
    (entry,) = read_table(table(tmp_path, text))
    assert (entry.path, entry.label, entry.fold) == ("1-100032-A-0.wav", "dog", "1")
    assert entry.columns == {"target": "0", "esc10": "True", "src_file": "100032", "take": "A"}


def test_the_times_of_urbansound_say_where_a_file_was_cut_from_and_do_not_cut_it_again(tmp_path: Path) -> None:
    text = (
        "slice_file_name,fsID,start,end,salience,fold,classID,class\n100032-3-0-0.wav,100032,0.0,0.3,1,5,3,dog_bark\n"
    )
    (entry,) = read_table(table(tmp_path, text), {"speaker": "fsID"})
    assert (entry.start, entry.end, entry.speaker, entry.fold) == (None, None, "100032", "5")


def test_a_file_on_several_lines_is_cut_at_the_times(tmp_path: Path) -> None:
    text = "file\tlabel\tonset\toffset\nlong.wav\tyes\t0\t1.5\nlong.wav\tno\t1,5\t3\n"
    first, second = read_table(table(tmp_path, text, "clips.tsv"))
    assert (first.name, second.name) == ("long.wav#0-1.5", "long.wav#1.5-3")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_delimiters_and_a_byte_order_mark_are_read(tmp_path: Path, delimiter: str, start: str) -> None:
    lines = [("Path", "Label", "Split", "Speaker ID"), ("a b.wav", '"y, e; s"', "dev", "ann"), ("c.wav", "no", "", "")]
    text = start + "\r\n".join(delimiter.join(line) for line in lines)
    first, second = read_table(table(tmp_path, text))
    assert (first.path, first.label, first.split, first.speaker) == ("a b.wav", "y, e; s", "validation", "ann")
    assert (second.split, second.speaker) == (None, None)


def test_json_lines_and_parquet_say_the_same(tmp_path: Path) -> None:
    lines = '{"path": "a.wav", "label": 3, "age": null}\n\n{"path": "b.wav", "label": 4, "age": 61}\n'
    found = read_table(table(tmp_path, lines, "clips.jsonl"))
    assert [(e.path, e.label, e.columns) for e in found] == [("a.wav", "3", {"age": ""}), ("b.wav", "4", {"age": "61"})]
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"path": ["a.wav", "b.wav"], "label": [3, 4], "age": [None, 61]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "clips.parquet")
    assert read_table(tmp_path / "clips.parquet") == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("path,label\n", "is empty"),
        (
            "path,word_\na,b\n",
            r"no column for the label of a clip \(its columns: path, word_\); name it with --columns la",
        ),
        ("path,label\na.wav,\n", r"line 2 of clips.csv has no label \(column 'label'\); fill it in or remove the line"),
        ("path,label\n\na.wav,x\n,y\n", r"line 4 of clips.csv has no path"),
        (
            "path,label,split\na,b,holdout\n",
            r"line 2 .* is in split 'holdout' \(column 'split'\); the splits are train, v",
        ),
        ("path,label\na,b\na,c\n", r"gives 'a' the labels 'b' and 'c'; a clip has one label"),
        ("path,label\na,b\na,b\n", r"names 1 clips twice; remove the duplicate lines"),
        ("path,label,start\na,b,x\na,b,2\n", r"line 2 of clips.csv has 'x' in column 'start'; give seconds"),
        ("path,label,start,end\na,b,2,1\na,b,2,4\n", r"line 2 of clips.csv ends at 1 s, not after its start at 2 s"),
        (b"path,label\n\xff,a\n", r"cannot be read: not UTF-8 \(byte 11 is 0xff\); give a CSV, JSON lines or Parquet"),
        ('path,label\n"a,b\n', r"cannot be read: unexpected end of data"),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_table(table(tmp_path, text))


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    path = table(tmp_path, "path,lable\na,b\n")
    with pytest.raises(
        CorpusError, match=r"unknown column of clips.csv 'labl'; did you mean 'lable'\? Known: lable, pat"
    ):
        read_table(path, {"label": "labl"})
    with pytest.raises(CorpusError, match="unknown meaning of a column 'lbl'; did you mean 'label'"):
        read_table(path, {"lbl": "lable"})
    with pytest.raises(CorpusError, match=r"line 2 of clips.jsonl is not a JSON object"):
        read_table(table(tmp_path, '{"path": "a", "label": "b"}\n[1]\n', "clips.jsonl"))
    with pytest.raises(CorpusError, match=r"table '.*nowhere.csv' cannot be read: No such file"):
        read_table(tmp_path / "nowhere.csv")


def test_files_are_found_beside_the_table_below_the_root_or_by_their_name_alone(tmp_path: Path) -> None:
    for place in ("meta/b.wav", "audio/a.wav", "audio/fold1/c.wav", "audio/fold2/d.wav", "audio/fold1/d.wav"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    path = table(tmp_path / "meta", "path,label\n")

    def of(*paths: str) -> dict[str, str]:
        found = resolve([Entry(path=p, label="x") for p in paths], tmp_path, path)
        return {name: place.relative_to(tmp_path).as_posix() for name, place in found.items()}

    assert of("audio/a.wav", "b.wav", "c.wav", "fold2/d.wav") == {
        "audio/a.wav": "audio/a.wav",
        "b.wav": "meta/b.wav",
        "c.wav": "audio/fold1/c.wav",
        "fold2/d.wav": "audio/fold2/d.wav",
    }
    with pytest.raises(CorpusError, match=r"'d.wav' of clips.csv is in 2 folders below .*; write its folder too"):
        of("d.wav")
    with pytest.raises(
        CorpusError, match=r"2 of 3 files of clips.csv are not below .*, 'x.wav' first; give the folder"
    ):
        of("c.wav", "x.wav", "y.wav")


@given(st.text())
def test_any_text_is_a_table_or_named(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = table(tmp_path_factory.getbasetemp(), text.encode("utf-8", "surrogatepass"))
    with suppress(CorpusError):
        assert all(entry.path and entry.label for entry in read_table(path))
