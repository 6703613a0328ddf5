"""The text formats: Markdown, LaTeX, CSV, JSON and the page, on the same studies."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import msgspec
import pytest

from cello.cells.load import load_cell, zoo
from cello.compiler.latex import latex as equations
from cello.report import ranking, tables
from cello.report.formats import csv as csv_format
from cello.report.formats import html as html_format
from cello.report.formats import json as json_format
from cello.report.formats import latex, markdown
from cello.report.results import Run, StudyResults
from cello.study.growth import Growth
from cello.study.own_cells import WrittenCell

NASTY = 'a|b_<i>&"$x$ {%} #\\~^'
Page = Callable[[StudyResults], str]
Weighed = Callable[[StudyResults], StudyResults]
DOCUMENT = Path(__file__).parents[3] / "docs" / "report-json.md"


@pytest.fixture
def nasty(gates: StudyResults, recompared: Weighed) -> StudyResults:
    """A study whose title and first row name are full of characters that formats take for their own."""

    def rename(run: Run) -> Run:
        return msgspec.structs.replace(run, row=NASTY) if run.row == "lstm" else run

    rows, runs = (NASTY, *gates.rows[1:]), tuple(map(rename, gates.runs))
    return recompared(msgspec.structs.replace(gates, title=NASTY, rows=rows, runs=runs))


def test_markdown_rows_are_as_wide_as_their_heading(nasty: StudyResults) -> None:
    widths: list[set[int]] = [set()]
    for line in markdown.report(nasty).splitlines():
        if line.startswith("|"):
            widths[-1].add(len(re.findall(r"(?<!\\)\|", line)))
        elif widths[-1]:
            widths.append(set())
    assert widths
    assert all(len(width) <= 1 for width in widths)


def test_markdown_escapes_names(nasty: StudyResults) -> None:
    assert "<i>" not in markdown.report(nasty).replace("\\<i\\>", "")


def test_markdown_names_each_group_once(windows: StudyResults) -> None:
    for table in (tables.details(windows), ranking.table(windows)):
        assert table is not None
        assert markdown.table(table).count("| **40 ms** |") == 1


def test_latex_braces_and_environments_balance(nasty: StudyResults, windows: StudyResults) -> None:
    for study in (nasty, windows):
        text = latex.report(study)
        bare = re.sub(r"\\[{}%&#$_\\]", "", text)
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        for name in ("table", "tabular"):
            assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") > 0


def test_latex_rows_are_as_wide_as_their_tabular(nasty: StudyResults) -> None:
    text = latex.report(nasty)
    tabulars = re.findall(r"\\begin\{tabular\}\{@\{\}(l*r*)@\{\}\}(.*?)\\end\{tabular\}", text, re.S)
    assert len(tabulars) == text.count(r"\begin{tabular}") > 0
    for columns, body in tabulars:
        rows = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(columns)}


def test_latex_takes_no_name_for_the_argument_of_a_lines_end(gates: StudyResults, recompared: Weighed) -> None:
    name = "[a] *b"
    runs = tuple(msgspec.structs.replace(run, row=name) if run.row == "lstm" else run for run in gates.runs)
    text = latex.report(recompared(msgspec.structs.replace(gates, rows=(name, *gates.rows[1:]), runs=runs)))
    assert "{[}a{]} {*}b &" in text
    assert not re.search(r"\n\s*[\[*]", text)


TITLES = (
    NASTY,
    r"100 % & #1 _a_ \input{x} \end{table}",
    "שלום עולם",
    "日本語",
    "a\u202eb\x00",
    "ñandú e\u0301 Ħ",
    "😀 [x] *",
)
WHOLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{amsmath,booktabs,graphicx}
\begin{document}
\input{tables}

\input{methods}
\end{document}
"""


def compiled(folder: Path, study: StudyResults) -> str:
    """What pdfLaTeX says of a study's tables and methods, in its log; it must end well."""
    (folder / "tables.tex").write_text(latex.report(study), encoding="utf-8")
    (folder / "methods.tex").write_text(latex.methods(study), encoding="utf-8")
    (folder / "whole.tex").write_text(WHOLE)
    command = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "whole.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
    log = (folder / "whole.log").read_text("utf-8", "replace")
    assert done.returncode == 0, log[log.find("\n!") :][:500]
    return log


@pytest.mark.wants("pdflatex")
def test_latex_compiles_with_titles_and_labels_of_others(foreign: StudyResults, tmp_path: Path) -> None:
    new = dict(zip(foreign.rows, TITLES, strict=False))
    named = msgspec.structs.replace(
        foreign,
        rows=tuple(new.values()),
        runs=tuple(msgspec.structs.replace(run, row=new[run.row]) for run in foreign.runs),
        own_cells=tuple(WrittenCell(f"{TITLES[1]}\n}} {cell}", "", equations(load_cell(cell))) for cell in zoo()),
        comparisons=(),
    )
    assert foreign.clips is not None
    clips = tuple(msgspec.structs.replace(clip, name=TITLES[k % 7] * 9) for k, clip in enumerate(foreign.clips.clips))
    groups = tuple(msgspec.structs.replace(g, by=TITLES[1], value=TITLES[6]) for g in foreign.clips.groups)
    study = msgspec.structs.replace(
        named, clips=msgspec.structs.replace(foreign.clips, clips=clips, groups=groups, best=(TITLES[2], "40 ms"))
    )
    compiled(tmp_path, study)


@pytest.mark.wants("pdflatex")
def test_latex_has_the_matrix_and_the_tables_of_speakers_and_clips(foreign: StudyResults, tmp_path: Path) -> None:
    text = latex.report(foreign)
    for title in ("Which model is better than which.", "Accuracy by speaker.", "Accuracy by ward.", "Clips most often"):
        assert rf"\caption{{{title}" in text
    log = compiled(tmp_path, msgspec.structs.replace(foreign, own_cells=()))
    assert "Overfull" not in log.partition("methods.tex")[0]  # no table is wider than the page


def test_latex_defines_the_letters_beyond_t1_only_where_there_are_some(foreign: StudyResults) -> None:
    assert "celloletters" not in latex.report(foreign)
    named = msgspec.structs.replace(foreign, title="x", name="שם", own_cells=())
    study = msgspec.structs.replace(named, corpus=msgspec.structs.replace(named.corpus, name="שם"))
    assert r"\celloletters{05E9 05DD}{שם}" in latex.methods(study)
    assert latex.methods(study).count("providecommand") == 2
    assert latex.escape("a\u202eb") == r"a\celloletters{202E}{}b"
    assert latex.escape("e\u0301") == "é"


def test_the_page_gives_room_to_long_texts_alone_and_shows_that_a_table_goes_on() -> None:
    heads = tuple(map(tables.Heading, ("Clip", "Label", "Reason")))
    rows = (("a.wav", "yes", "truncated: 8,000 of 16,000 samples"),)
    text = html_format.table(tables.Table(key="t", title="T", note="", headings=heads, rows=rows, words=3))
    assert '<td class="words">yes</td>' in text
    assert '<td class="words long">truncated' in text
    style = (resources.files("cello.report.formats") / "html.css").read_text("utf-8")
    assert "var(--shade), transparent) right" in style


def test_csv_has_one_row_a_run_and_exact_numbers(windows: StudyResults) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_format.report(windows))))
    assert len(rows) == len(windows.runs)
    by_run = {r.result.run: r.result for r in windows.runs}
    for row in rows:
        result = by_run[row["run"]]
        assert float(row["test_accuracy"]) == result.test.accuracy
        assert float(row["train_accuracy"]) == result.train.accuracy
        assert float(row["config.features.window_ms"]) == result.config.features.window_ms
        assert row["hardware.cpu"] == "Example CPU 3 GHz"


def test_csv_has_the_whole_epoch_beside_its_training(windows: StudyResults) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_format.report(windows))))
    by_run = {r.result.run: r.result for r in windows.runs}
    for row in rows:
        result = by_run[row["run"]]
        assert float(row["seconds_per_epoch"]) == result.seconds_per_epoch
        assert float(row["epoch_seconds"]) == result.epoch_seconds == result.history[0].epoch_seconds
        assert float(row["epoch_clips_per_second"]) == result.epoch_clips_per_second
        assert row["epoch_cpu_seconds"] == ""  # not recorded


def test_csv_has_a_column_for_each_condition(noisy: StudyResults) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_format.report(noisy))))
    by_run = {r.result.run: r.result for r in noisy.runs}
    assert {row["run"] for row in rows} == set(by_run)
    for row in rows:
        assert float(row["test_snr_db=-5_accuracy"]) == by_run[row["run"]].conditions[1].test.accuracy
        assert float(row["test_shift_ms=100_accuracy"]) == by_run[row["run"]].conditions[3].test.accuracy


def test_csv_quotes_names(nasty: StudyResults) -> None:
    named = msgspec.structs.replace(nasty, title="x", name='a,"b"\nc')
    assert {row["study"] for row in csv.DictReader(io.StringIO(csv_format.report(named), newline=""))} == {'a,"b"\nc'}


def _paths(value: object, path: str = "") -> Iterator[str]:
    if path in ("runs[].config",):
        yield path
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _paths(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for inner in value:
            yield from _paths(inner, f"{path}[]")
    else:
        yield path


def _documented() -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", DOCUMENT.read_text("utf-8"), flags=re.M)


def _pattern(field: str) -> str:
    return re.escape(field).replace(r"\*", r"[^.\[\]]+")


def test_every_json_field_is_documented_and_every_documented_field_written(
    windows: StudyResults, noisy: StudyResults, foreign: StudyResults, folded: StudyResults
) -> None:
    failed = json.loads('[{"row": "gru", "column": "40 ms", "seed": 0, "reason": "killed", "fold": ""}]')
    document = {**json.loads(json_format.report(windows)), "failures": failed}
    late = Growth(time=0.0, finished=1, rows=("gru",), columns=("40 ms",), seeds=(1,))
    grown = msgspec.structs.replace(noisy, growth=(late,))
    documents = (document, *(json.loads(json_format.report(study)) for study in (grown, foreign, folded)))
    written, documented = {path for one in documents for path in _paths(one)}, _documented()
    figures = {f"cells[].{name}" for name, value in document["cells"][0].items() if isinstance(value, dict)}
    for path in written | figures:
        assert any(re.fullmatch(_pattern(field), path) for field in documented), f"{path} is not documented"
    for field in documented:
        assert any(re.fullmatch(_pattern(field), path) for path in written | figures), f"{field} is never written"


def test_json_states_its_format_and_turns_infinite_numbers_into_null(windows: StudyResults) -> None:
    diverged = msgspec.structs.replace(windows.runs[0].result.test, loss=float("nan"))
    result = msgspec.structs.replace(windows.runs[0].result, test=diverged)
    run = msgspec.structs.replace(windows.runs[0], result=result)
    document = json.loads(json_format.report(msgspec.structs.replace(windows, runs=(run, *windows.runs[1:]))))
    assert document["format"] == json_format.FORMAT == 1
    assert document["runs"][0]["test"]["loss"] is None


class _Page(HTMLParser):
    """Counts what a browser would fetch and checks that tags close in order and ids stand once."""

    VOID = frozenset(("meta", "path", "use", "image", "rect", "br", "link", "img"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        for name in ("src", "href", "xlink:href", "data", "action"):
            value = values.get(name) or ""
            if value and not value.startswith(("#", "data:")):
                self.fetched.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_whole_fetches_nothing_and_has_unique_ids(nasty: StudyResults) -> None:
    parser = _Page()
    text = html_format.report(nasty)
    parser.feed(text)
    assert parser.open == []
    assert parser.fetched == []
    assert len(parser.ids) == len(set(parser.ids))
    assert not parser.tags & {"script", "link", "iframe", "i", "metadata"}
    assert "url(http" not in text
    assert "@import" not in text


def test_the_page_gives_every_picture_a_description(gates: StudyResults, page: Page) -> None:
    text = page(gates)
    assert text.count("<svg") == text.count('role="img" aria-label=') == 4 + 2 * len(gates.rows)


def test_the_page_folds_all_but_each_models_best_column(small: StudyResults, page: Page) -> None:
    text = page(small)
    assert text.count("<details>") == 2  # curves and confusions
    assert "The other 2" in text
    assert len(text.encode()) < 400_000


def test_more_pictures_than_a_page_should_hold_are_named_and_not_drawn(
    small: StudyResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html_format, "MOST_PICTURES", 1)
    text = html_format.report(small)
    assert text.count("<details>") == 0
    assert text.count("The other 3 are not drawn here, for a page of so many pictures opens slowly; their figures") == 2
    assert text.count("<svg") == 5  # accuracy, forests, costs, curves and confusions
