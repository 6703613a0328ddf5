from __future__ import annotations

from collections.abc import Callable

import msgspec

from cello.report import findings, reference_figures, tables
from cello.report.formats import html, latex, markdown
from cello.report.metrics import BY_KEY
from cello.report.results import Run, StudyResults

Without = Callable[[StudyResults, Callable[[Run], bool]], StudyResults]


def test_details_keep_train_validation_and_test_apart(windows: StudyResults) -> None:
    table = tables.details(windows)
    heads = [(h.group, h.title) for h in table.headings]
    for group in ("Accuracy, %", "Loss, nats"):
        assert [(group, split) for split in ("train", "validation", "test")] == [
            h for h in heads if h[0] == group and "mean" not in h[1]
        ]
    assert not [title for _, title in heads if title.lower() == "accuracy"]
    runs = windows.cell("gru", "40 ms")
    row = next(r for r in table.rows if r[:2] == ("40 ms", "gru"))
    shown = dict(zip([t for _, t in heads[:8]], row, strict=False))
    for split in ("train", "validation", "test"):
        mean = sum(100 * getattr(r, split).accuracy for r in runs) / len(runs)
        assert shown[split].startswith((f"{mean:.2f} ±", f"{mean:.2f} ("))


def test_every_row_is_as_wide_as_the_heading(windows: StudyResults, gates: StudyResults) -> None:
    for study in (windows, gates):
        found = [tables.details(study), tables.corpus_clips(study), tables.settings(study), tables.bad_clips(study)]
        for table in (*found, tables.overview(study, BY_KEY["test_accuracy"]), reference_figures.table(study)):
            if table:
                assert {len(row) for row in table.rows} == {len(table.headings)}, table.title


def test_the_best_cell_is_chosen_on_validation_not_on_test(windows: StudyResults) -> None:
    def swap(run: Run) -> Run:
        if (run.row, run.column) != ("rnn", "120 ms"):
            return run
        test = msgspec.structs.replace(run.result.test, accuracy=1.0)
        return msgspec.structs.replace(run, result=msgspec.structs.replace(run.result, test=test))

    tempting = msgspec.structs.replace(windows, runs=tuple(map(swap, windows.runs)))
    assert tables.best_cell(tempting) == tables.best_cell(windows) != ("rnn", "120 ms")


def test_the_chosen_cell_is_marked_by_a_sign_that_no_figure_beside_it_outshines(
    windows: StudyResults, words: Callable[[StudyResults], str]
) -> None:
    row, column = tables.best_cell(windows)
    table = tables.overview(windows, BY_KEY["test_accuracy"])
    marked = [(line[0], table.headings[k].title) for line in table.rows for k, cell in enumerate(line) if "*" in cell]
    assert marked == [(row, column)]
    assert table.strong == frozenset()
    assert table.note.endswith("* marks the model that has the highest mean validation accuracy.")
    shown = BY_KEY["test_accuracy"].text(windows.cell(row, column))
    assert f"{shown} \\* |" in markdown.report(windows)
    assert f"{html.escape(shown)} *</td>" in words(windows)
    assert f"{latex.escape(shown)} {{*}}" in latex.report(windows)


def test_runs_that_happen_to_agree_claim_no_certainty(gates: StudyResults, without: Without) -> None:
    def agree(run: Run) -> Run:
        test = msgspec.structs.replace(run.result.test, accuracy=0.9984)
        return msgspec.structs.replace(run, result=msgspec.structs.replace(run.result, test=test))

    three = without(gates, lambda run: run.seed > 2)
    same = msgspec.structs.replace(three, runs=tuple(map(agree, three.runs)))
    assert "accuracy 99.84 % (the same in all 3 runs), per-word mean" in findings.best(same)
    table = tables.details(same, [BY_KEY["test_accuracy"]])
    assert {row[-1] for row in table.rows} == {"99.84 ‡"}
    assert "‡ marks a figure that is the same in all its runs" in table.note
    assert "± 0.00" not in markdown.report(same)
    assert "‡" not in tables.details(gates, [BY_KEY["test_accuracy"]]).note


def test_partial_cells_say_how_many_seeds_stand_behind_them(windows: StudyResults, without: Without) -> None:
    partial = without(windows, lambda r: r.row == "gru" and (r.seed == 1 or r.column == "80 ms"))
    overview = next(r for r in tables.overview(partial, BY_KEY["test_accuracy"]).rows if r[0] == "gru")
    assert overview[1].endswith("(1 of 2)")
    assert "±" not in overview[1]
    assert overview[3] == tables.ABSENT
    rows = {r[:2]: r for r in tables.details(partial).rows}
    assert rows["20 ms", "gru"][3] == "1 of 2"
    assert rows["80 ms", "gru"][2:5] == (tables.ABSENT, "0 of 2", tables.ABSENT)


def test_notes_call_few_seeds_indicative_and_never_claim_more(windows: StudyResults, gates: StudyResults) -> None:
    assert "indicative only" in tables.details(windows).note
    assert "indicative" not in tables.details(gates).note
    assert all(row[3] == "2 †" for row in tables.details(windows).rows)
    assert all(row[3] == "5" for row in tables.details(gates).rows)


def test_settings_show_every_value_a_setting_takes(windows: StudyResults) -> None:
    rows = dict(tables.settings(windows).rows)
    assert rows["features.window_ms"] == "20.0 (20 ms); 40.0 (40 ms); 80.0 (80 ms); 120.0 (120 ms)"
    assert rows["model.bidirectional"] == ("no (rnn, gru, lstm); yes (rnn, both ways; gru, both ways; lstm, both ways)")
    assert rows["model.cell"].startswith("rnn (rnn; rnn, both ways); gru (")
    assert rows["data.test_snr_db"] == rows["features.hop_ms"] == "none"
    assert not {"()", "None", "[]"} & set(rows.values())
    assert "between rows or columns" in tables.settings(windows).note
    assert rows["optimiser.epochs"] == "6"
    assert "seed" not in rows


def test_an_unnamed_column_takes_no_place_in_the_table(gates: StudyResults) -> None:
    runs = tuple(msgspec.structs.replace(r, column="") for r in gates.runs)
    planned = tuple((row, "", seed) for row, _, seed in gates.planned)
    table = tables.details(msgspec.structs.replace(gates, columns=("",), runs=runs, planned=planned))
    assert table.headings[0].title == "Model"
    assert not table.grouped
    assert table.rows[0][0] == "lstm"


def test_bad_clips_are_named_with_their_reason(windows: StudyResults) -> None:
    table = tables.bad_clips(windows)
    assert table is not None
    assert table.rows == (("cat/00_nohash_1.wav", "truncated: 8,000 of 16,000 samples"),)


def test_a_setting_that_some_runs_leave_empty_is_none_there(windows: StudyResults) -> None:
    def own(run: Run) -> Run:
        model = msgspec.structs.replace(run.result.config.model, equations="a219a96aacfd4e54")
        config = msgspec.structs.replace(run.result.config, model=model)
        return msgspec.structs.replace(run, result=msgspec.structs.replace(run.result, config=config))

    first, *others = windows.runs
    mixed = msgspec.structs.replace(windows, runs=(own(first), *others))
    assert dict(tables.settings(mixed).rows)["model.equations"] == "a219a96aacfd4e54, none (by model and window)"


def test_very_many_bad_clips_are_counted_and_the_first_named(windows: StudyResults) -> None:
    corpus = msgspec.structs.replace(windows.corpus, bad=windows.corpus.bad * 1500)
    table = tables.bad_clips(msgspec.structs.replace(windows, corpus=corpus))
    assert table is not None
    assert len(table.rows) == 1000
    assert "1500 clips of made up" in table.note
    assert "The first 1,000 stand here, all in the study’s corpus.json." in table.note


def test_training_and_the_whole_epoch_stand_side_by_side(gates: StudyResults) -> None:
    found = tables.times(gates)
    assert [heading.group for heading in found.headings[4:]] == ["Training"] * 2 + ["Whole epoch"] * 3
    (first, *_) = found.rows
    assert first[:2] == ("40 ms", "lstm")
    assert first[4:] == ("1.50 ‡", "4,040 ‡", "1.95 ‡", "3,108 ‡", "–")  # of which nobody knows CPU time
    assert found.note.endswith(
        "‡ marks a figure that is the same in all its runs, from which no interval can be estimated."
    )
    assert not {"Whole epoch"} & {heading.group for heading in tables.details(gates).headings}
