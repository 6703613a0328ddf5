"""What hurts: a methods paragraph that claims what was not run, or that a paper cannot take as it is."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import pytest

from cello.audio.origin import Origin
from cello.audio.twelve import ABOUT
from cello.cells.load import zoo
from cello.report import paper
from cello.report.formats import latex, markdown
from cello.report.results import Failure, StudyResults
from cello.study.space import Dimension, Tuned

Change = Callable[..., StudyResults]
NASTY = r"a_b & 50 % \cite{x} ~^{}$#"


def renamed(study: StudyResults, name: str) -> StudyResults:
    """The first row under another name."""
    old = study.rows[0]
    runs = tuple(msgspec.structs.replace(run, row=name) if run.row == old else run for run in study.runs)
    return msgspec.structs.replace(study, rows=(name, *study.rows[1:]), runs=runs)


def split_by(study: StudyResults, source: str) -> StudyResults:
    return msgspec.structs.replace(study, corpus=msgspec.structs.replace(study.corpus, source=source, origin=Origin()))


def test_the_paragraph_tells_what_was_run(gates: StudyResults) -> None:
    text = paper.paragraph(gates)
    for fact in (
        "We compared 6 models: lstm (Gers et al. 2000), lstm-peephole-full (Gers and Schmidhuber 2000),",
        "and lstm-no-output (Greff et al. 2017). Papers are those of the cells, or of what the cells vary. The corpus",
        "12 labels",
        "into 6,060 training clips (126 speakers), 648 validation clips (13 speakers) and 2,676 test clips (55 "
        "speakers)",
        "; 1 unusable clip was left out",
        "13 MFCCs of 40 mel bands from 20 to 8000 Hz with first and second differences over 9 frames",
        "from windows of 40 ms that overlap by half, each standardised by its mean and deviation over the training "
        "clips",
        "1 recurrent layer of 64 units",
        "for 4 epochs in batches of 64 clips with AdamW: learning rate 0.002, falling to 0 along half a cosine after a",
        "moved by up to 100 ms either way",
        "Every model was trained with 5 random seeds (0 to 4), 30 runs in all.",
        "The 15 pairs of models were compared on the same test clips",
        "by Holm’s method at 5 %",
        "on cpu Example CPU 3 GHz, 2 cores, with Cello 0.1.0, PyTorch 2.13.0.",
    ):
        assert fact in text, fact
    for absent in ("indicative", "Friedman", "nearest", "missing", "condition"):
        assert absent not in text, absent


def test_tests_that_were_not_run_are_not_claimed(windows: StudyResults) -> None:
    silent = msgspec.structs.replace(windows, comparisons=())
    assert "Holm" not in paper.paragraph(silent)
    assert "Friedman" in paper.paragraph(silent)
    assert "The 15 pairs of models of each window were compared" in paper.paragraph(windows)
    part = msgspec.structs.replace(windows, comparisons=windows.comparisons[:1])
    assert "The 15 pairs of models (in 20 ms) were compared" in paper.paragraph(part)


def test_a_study_of_one_model_and_one_seed_compares_nothing(gates: StudyResults) -> None:
    text = paper.paragraph(msgspec.structs.replace(gates, runs=gates.runs[:1], comparisons=()))
    assert text.startswith("We trained one model: lstm (Gers et al. 2000). Papers are")
    assert "with 1 random seed (0), 1 run in all." in text
    assert "Of 30 runs planned, 29 are missing here." in text
    assert "With fewer than 5 seeds, intervals and tests are indicative only." in text
    for absent in ("t-interval", "Holm", "Friedman", "pairs"):
        assert absent not in text, absent


def test_unfinished_runs_are_counted_and_failed_ones_named_so(gates: StudyResults) -> None:
    failed = Failure(row="lstm", column="40 ms", seed=4, reason="killed")
    gone = [run for run in gates.runs if run.row != "lstm" or run.seed < 3]
    text = paper.paragraph(msgspec.structs.replace(gates, runs=tuple(gone), failures=(failed,)))
    assert "with 3 to 5 random seeds (0 to 4), 28 runs in all." in text
    assert "Of 30 runs planned, 2 (1 of them failed) are missing here." in text


def test_a_run_that_two_rows_share_is_counted_once(gates: StudyResults) -> None:
    twins = {run.seed: run.result for run in gates.runs if run.row == "lstm"}
    runs = tuple(
        msgspec.structs.replace(run, result=twins[run.seed]) if run.row == "lstm-coupled" else run for run in gates.runs
    )
    text = paper.paragraph(msgspec.structs.replace(gates, runs=runs))
    assert "25 runs in all (30 places of the table, of which equal ones share their run)." in text
    hours = sum(run.result.total_seconds for run in runs if run.row != "lstm-coupled") / 60
    assert f"add up to {hours:.0f} minutes" in text


def test_seeds_that_have_gaps_are_listed(gates: StudyResults, without: Callable[..., StudyResults]) -> None:
    text = paper.paragraph(without(gates, lambda run: run.seed in (1, 3)))
    assert "3 random seeds (0, 2 and 4)" in text


def test_columns_are_called_what_they_are(windows: StudyResults, noisy: StudyResults) -> None:
    assert "6 models with 4 analysis windows (20 ms, 40 ms, 80 ms, 120 ms): rnn" in paper.paragraph(windows)
    same = tuple(msgspec.structs.replace(run, column={"20 ms": "a", "40 ms": "b"}[run.column]) for run in noisy.runs)
    other = [run for run in same if run.column == "a"]
    both = [msgspec.structs.replace(run, column="b") for run in other]
    text = paper.paragraph(msgspec.structs.replace(noisy, columns=("a", "b"), runs=(*other, *both)))
    assert "2 models under 2 conditions (a, b): rnn" in text


@pytest.mark.parametrize(
    ("source", "says", "speakers_unrecorded"),
    [
        ("folder:x, split by validation_list.txt and testing_list.txt", "by lists that come with it (validation", True),
        ("speech-commands:v0.02, split by validation_list.txt and testing_list.txt", "no speaker is in two", False),
        ("spoken, split by SHA-1 of the speaker", "by speaker (SHA-1 of the speaker), so that none is in two", False),
        ("x, split by 6 speakers in the order of their SHA-1", "(6 speakers in the order of their SHA-1)", False),
        ("my own opener", "has 12 labels and is divided into 6,060", True),
    ],
)
def test_the_split_is_told_as_far_as_it_is_known(
    gates: StudyResults, source: str, says: str, speakers_unrecorded: bool
) -> None:
    study = split_by(gates, source)
    assert says in paper.paragraph(study)
    assert any("more than one split" in text for text in paper.unrecorded(study)) == speakers_unrecorded


def test_the_12_class_task_is_called_that(gates: StudyResults) -> None:
    plain = "by the published rule of Speech Commands, a hash of the speaker, so that no speaker is in two splits,"
    source = f"speech-commands:v0.02:12, {ABOUT}, split by validation_list.txt and testing_list.txt"
    told = (
        "is divided as the 12-class task: ten words, 10 % unknown words and 10 % silence; tested on the official test"
    )
    assert f"{told} archive, {plain}" in paper.paragraph(split_by(gates, source))
    assert "12-class" not in paper.paragraph(split_by(gates, source.replace(f":12, {ABOUT}", "")))


def test_speakers_that_nobody_knows_are_not_counted(gates: StudyResults) -> None:
    rule = "SHA-1 of the speaker (speakers not known: each file name counts as one)"
    study = split_by(gates, f"folder:x, split by {rule}")
    assert "speakers)" not in paper.paragraph(study)
    assert "for the speakers are not known, into 6,060 training clips, 648" in paper.paragraph(study)
    assert any("who speaks in each clip" in text for text in paper.unrecorded(study))


def test_no_path_of_a_machine_stands_in_the_paragraph(gates: StudyResults, reconfigured: Change) -> None:
    study = split_by(gates, "folder:/home/somebody/sound, split by SHA-1 of the speaker")
    own = reconfigured(study, "model", row="lstm", cell="/home/somebody/mine.py:my_cell", equations="0123456789abcdef")
    text = paper.paragraph(own) + " ".join(paper.unrecorded(own))
    assert "home" not in text
    assert "lstm (our own my_cell, equations 0123456789ab)" in text
    assert "papers, if there are any, for my_cell." in text


def test_a_tuned_study_tells_the_budget_and_what_was_tried(gates: StudyResults) -> None:
    space = {"model.dropout": Dimension(low=0.0, high=0.5), "optimiser.batch": Dimension(choices=(32, 64))}
    tuned = Tuned(trials=16, epochs=15, seed=100, column="40 ms", space=space, match="parameters")
    study = msgspec.structs.replace(gates, protocol="fair-tuned", tuned=tuned)
    assert (
        "For each model 16 trials of 15 epochs each in window 40 ms at equal parameters, with seed 100, chose by "
        "validation accuracy among dropout 0 to 0.5; batch one of 32, 64; no trial evaluated the test clips."
    ) in paper.paragraph(study)
    assert "how the settings that were not tuned were chosen." in paper.unrecorded(study)[0]


@pytest.mark.parametrize("label", ["fair-tuned", "tuned"])
def test_a_label_alone_does_not_tell_how_a_study_was_tuned(label: str, gates: StudyResults) -> None:
    labelled = msgspec.structs.replace(gates, protocol=label)
    assert f"labelled “{label}”, as cello tune labels what it writes." in paper.unrecorded(labelled)[0]
    for text in (paper.paragraph(labelled), paper.paragraph(gates), *paper.unrecorded(gates)):
        assert "tune" not in text
        assert "trial" not in text


def test_machines_and_back_ends_that_differ_are_counted(gates: StudyResults) -> None:
    first, *others = gates.runs
    result = msgspec.structs.replace(first.result, hardware={}, backend="c")
    text = paper.paragraph(
        msgspec.structs.replace(gates, runs=(msgspec.structs.replace(first, result=result), *others))
    )
    assert "kernels compiled for the processor (1 run) and plain tensor operations (29 runs)" in text
    assert "on what was not recorded (1 run) and cpu Example CPU 3 GHz, 2 cores (29 runs), with Cello" in text


def test_latex_cites_what_the_bib_file_holds_and_escapes_the_rest(gates: StudyResults) -> None:
    text = latex.methods(renamed(gates, NASTY)).replace("\n", " ")
    assert re.findall(r"\\cite\{(\w+)\}", text) == [
        "gers2000", "gers2000b", "greff2017", "hochreiter1997", "greff2017", "greff2017",
    ]  # fmt: skip
    assert r"a\_b \& 50 \% \textbackslash{}cite\{x\} \textasciitilde{}" in text
    paragraph = text[text.index("We compared") :]
    assert not re.search(r"(?<!\\)[_%&#]", paragraph)
    assert re.sub(r"\\[{}]", "", paragraph).count("{") == re.sub(r"\\[{}]", "", paragraph).count("}")
    assert paragraph.isascii()


def test_latex_names_a_citation_without_brackets_of_its_own(gates: StudyResults) -> None:
    text = latex.methods(gates).replace("\n", " ")
    assert r"lstm~\cite{gers2000}, lstm-peephole-full~\cite{gers2000b}" in text
    named = latex.methods(renamed(gates, "Mine")).replace("\n", " ")
    assert r"Mine (lstm; \cite{gers2000})" in named
    assert "The first name in brackets is the cell's in Cello." in named
    assert "brackets" not in text


def test_what_is_not_recorded_stands_in_latex_as_comments(gates: StudyResults) -> None:
    lines = latex.methods(gates).splitlines()
    notes = [line for line in lines if line.startswith("%")]
    assert [note.removeprefix("% ") for note in notes] == paper.unrecorded(gates)
    assert lines[len(notes)].startswith("We compared")


def test_a_study_of_every_cell_cites_every_one(gates: StudyResults, reconfigured: Change) -> None:
    (first, *_) = gates.runs
    runs = []
    for cell in zoo():
        (run,) = reconfigured(msgspec.structs.replace(gates, runs=(first,)), "model", cell=cell).runs
        runs.append(msgspec.structs.replace(run, row=cell))
    study = msgspec.structs.replace(gates, rows=tuple(zoo()), runs=tuple(runs))
    text = paper.paragraph(study)
    for cell in zoo():
        assert re.search(rf"(: |, | and ){re.escape(cell)} \([^()]* \d{{4}}\)", text), cell
    assert not any("papers" in text for text in paper.unrecorded(study))


def test_markdown_leaves_bibtex_as_it_is(gates: StudyResults) -> None:
    assert "```bibtex\n@article{gers2000,\n  author = {F. A. Gers and" in markdown.report(gates)


def test_the_paragraph_is_one_however_the_runs_are_ordered(windows: StudyResults) -> None:
    turned = msgspec.structs.replace(windows, runs=tuple(reversed(windows.runs)))
    one, other = paper.paragraph(windows), paper.paragraph(turned)
    assert one == other
