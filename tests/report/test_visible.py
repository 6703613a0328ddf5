"""What hurts: a name that moves a terminal's cursor, turns the direction of reading, is computed, or links away."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cello.audio.origin import Origin
from cello.report import paper, plots
from cello.report.formats import csv as csv_format
from cello.report.formats import json as json_format
from cello.report.formats import latex, markdown
from cello.report.results import StudyResults, shown
from cello.report.visible import elided, names, visible, without_paths
from cello.report.write import write_report
from cello.study.store import Store

HIDDEN = ("\x1b[2J", "\u202egpj.exe", "\u2066x\u2069", "\x07", "\x9b31m", "\x00", "\u200b", "\ufeff", "\u2028")


@given(st.text())
def test_nothing_invisible_is_left_of_any_text(text: str) -> None:
    assert all(
        letter.isprintable() or letter in "\u200c\u200d \u00a0\u3000" or letter.isspace() for letter in visible(text)
    )
    assert not {"\x1b", "\n", "\r", "\u202e", "\u2028"} & set(visible(text))


@given(st.lists(st.text(alphabet="ab\x1b\u202e", max_size=4), unique=True))
def test_two_names_are_never_shown_alike(found: list[str]) -> None:
    changed = names(found, lambda name: elided(visible(name), 3))
    assert list(changed) == found
    assert len(set(changed.values())) == len(found)


def hostile_store(folder: Path, study: StudyResults, fill: Callable[[Path, StudyResults], Store]) -> None:
    """A store whose title, models, columns, labels, corpus and machines carry what is invisible."""
    fill(folder, study)
    ugly = "".join(HIDDEN)

    def change(path: Path, pairs: dict[str, str]) -> None:
        text = path.read_text("utf-8")
        for old, new in pairs.items():
            text = text.replace(json.dumps(old), json.dumps(new))
        path.write_text(re.sub(r',\s*"crc32":\s*"\w+"', "", text), "utf-8")  # as whoever edits it on purpose has to

    pairs = {name: f"{name}{ugly}" for name in (*study.rows, *study.columns, *study.corpus.labels, study.title)}
    pairs |= {"Example CPU 3 GHz": f"cpu{ugly}", "cpu": f"{{0.__class__}}{ugly}", "made up": f"made up{ugly}"}
    for path in (folder / "study.json", folder / "corpus.json", *folder.glob("runs/*/result.json")):
        change(path, pairs)


def test_no_format_carries_what_is_invisible(
    tmp_path: Path, small: StudyResults, fill: Callable[[Path, StudyResults], Store]
) -> None:
    folder = tmp_path / "study"
    hostile_store(folder, msgspec.structs.replace(small, title="Title"), fill)
    written = write_report(folder, formats=("md", "html", "csv", "latex", "json", "notebook"), execute=False)
    assert {".md", ".html", ".csv", ".tex", ".json", ".ipynb"} <= {path.suffix for path in written}
    for path in written:
        text = path.read_bytes().decode("utf-8-sig" if path.suffix == ".csv" else "utf-8")
        assert not [letter for letter in "\x1b\u202e\u2066\x07\x9b\x00\u200b\ufeff\u2028" if letter in text], path.name
        if path.suffix in (".md", ".csv", ".html") and path.name not in ("clips.csv", "groups.csv"):
            assert "gru⟨U+001B⟩[2J".replace("[", "\\[" if path.suffix == ".md" else "[") in text, path.name


def test_a_stored_key_is_no_format(small: StudyResults) -> None:
    keys = {"{0.__class__}": "x", "{": "y", "%s %d {}": "z"}
    runs = tuple(
        msgspec.structs.replace(run, result=msgspec.structs.replace(run.result, hardware=keys)) for run in small.runs
    )
    assert "{0.__class__} x, { y, %s %d {} z" in paper.paragraph(msgspec.structs.replace(small, runs=runs))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1", "＝1"])
def test_a_spreadsheet_computes_no_name(small: StudyResults, text: str) -> None:
    runs = tuple(msgspec.structs.replace(run, row=text) if run.row == "gru" else run for run in small.runs)
    rows = tuple(text if row == "gru" else row for row in small.rows)
    study = msgspec.structs.replace(small, rows=rows, runs=runs)
    found = list(csv.DictReader(io.StringIO(csv_format.report(study), newline="")))
    assert {row["row"] for row in found} == {"rnn", "'" + text.replace("\r", "\n")}
    assert not any(value.startswith("'") for row in found for key, value in row.items() if key != "row")


def test_a_spreadsheet_reads_utf_8(tmp_path: Path, stored: Path) -> None:
    paths = write_report(stored, formats=("csv",), out=tmp_path)
    heads = [path.read_bytes().split(b",")[0] for path in paths]
    assert heads == [b"\xef\xbb\xbf" + head for head in (b"study", b"clip", b"by")]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("[x](javascript:a)", r"\[x\](javascript:a)"),
        ("http://a.org www.a.org a@b.c", r"http\://a.org www\.a.org a\@b.c"),
        (r"\(x\) \begin{x}", "&#92;(x&#92;) &#92;begin{x}"),
        ("&lt;b&gt;", r"\&lt;b\&gt;"),
        ("a | b `c` ~~d~~", r"a \| b \`c\` \~\~d\~\~"),
    ],
)
def test_markdown_shows_a_text_as_it_stands(text: str, escaped: str) -> None:
    assert markdown.escape(text) == escaped


@pytest.mark.parametrize("text", ["1. x", "- x", "+ x", "    x", "# x", "> x", "---", "=== x", "3) x", "```"])
def test_a_point_that_looks_like_a_block_is_none(text: str) -> None:
    line = markdown.points([text]).removeprefix("- ")
    assert line.startswith("\\") or "\\" in line[:3] or line == "x"


@pytest.mark.parametrize("text", [r"\input{/etc/passwd}", r"\write18{id}", "^^5cinput x", "a\r\\end{x}", "{", "}", "%"])
def test_latex_runs_no_name(text: str) -> None:
    escaped = latex.escape(text)
    assert "\r" not in escaped
    assert "^^" not in escaped
    plain = escaped.replace(r"\textbackslash{}", "").replace(r"\textasciicircum{}", "")
    plain = plain.replace(r"\{", "").replace(r"\}", "").replace(r"\%", "")
    assert not set("\\{}%") & set(plain)


def test_a_pictures_texts_are_not_taken_for_tags(small: StudyResults) -> None:
    name = 'id="x" url(#y) href="#z" #005dc8'
    runs = tuple(msgspec.structs.replace(run, row=name) if run.row == "gru" else run for run in small.runs)
    study = msgspec.structs.replace(small, rows=("rnn", name), runs=runs, comparisons=())
    svg = plots.svg(plots.cost(study)[0], "x")
    assert ">" + name.replace('"', "&quot;") in svg.replace('"', "&quot;")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("folder:/home/anna k/clips, split by SHA-1", "folder:clips, split by SHA-1"),
        ("folder:~/clips, split by x", "folder:clips, split by x"),
        (r"folder:C:\Users\anna\clips, split by x", "folder:clips, split by x"),
        ("/home/anna/clips, split by x", "clips, split by x"),
        ("folder:../clips, split by x", "folder:../clips, split by x"),
        ("speech-commands:v0.02, split by x", "speech-commands:v0.02, split by x"),
        ("my own opener", "my own opener"),
    ],
)
def test_no_local_path_is_told(small: StudyResults, source: str, told: str) -> None:
    study = msgspec.structs.replace(small, corpus=msgspec.structs.replace(small.corpus, source=source, origin=Origin()))
    assert shown(study).corpus.source == told


def test_a_cell_file_is_told_without_its_folder(small: StudyResults, reconfigured: Callable[..., StudyResults]) -> None:
    own = reconfigured(small, "model", row="gru", cell="/home/anna/mine.py:my_cell", equations="0123456789abcdef")
    text = markdown.report(shown(own)) + csv_format.report(shown(own)) + json_format.report(shown(own))
    assert "mine.py:my" in text
    assert "anna" not in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("OSError: '/home/anna k/x.wav' is gone", "OSError: 'x.wav' is gone"),
        ("cannot open /tmp/a/b.npz: no", "cannot open b.npz: no"),
        ("16/24 kHz and/or 1 / 2", "16/24 kHz and/or 1 / 2"),
        ("see https://a.org/b/c", "see https://a.org/b/c"),
    ],
)
def test_paths_in_reasons_lose_their_folders(text: str, told: str) -> None:
    assert without_paths(text) == told


def test_results_that_are_fit_to_be_shown_stay_as_they_are(small: StudyResults) -> None:
    same = shown(small)
    assert same == small
    assert all(new.result is old.result for new, old in zip(same.runs, small.runs, strict=True))
