"""Write the tables, pictures and notebooks that README, docs/results.md and docs/speed.md show.

Run from the repository's root: ``python benchmarks/show_results.py``. It trains nothing.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from cello.bench.record import Record
from cello.files import write_whole
from cello.report import findings, plots, ranking, tables
from cello.report.formats import markdown
from cello.report.metrics import BY_KEY
from cello.report.results import StudyResults, load_results
from cello.report.tables import ABSENT, Heading, Table
from cello.report.write import write_report

README, RESULTS, SPEED = Path("README.md"), Path("docs/results.md"), Path("docs/speed.md")
STORES = Path("results/speech_commands_12")
NOTEBOOKS = Path("notebooks")
IMAGES = Path("docs/images")
BENCHMARKS = Path("benchmarks/results")
ASKED_GAIN = 1.9
SHOWN = ("train_accuracy", "validation_accuracy", "test_accuracy", "seconds_per_epoch")


def alone(table: Table, results: StudyResults) -> str:
    """A table that stands without its report's summary, which says what intervals in brackets are."""
    return markdown.table(table._replace(note=table.note + findings.cut_off(results)))


def windows(results: StudyResults) -> str:
    """Test accuracy, models × windows."""
    return alone(tables.overview(results, BY_KEY["test_accuracy"]), results)


def gates(results: StudyResults) -> str:
    """Train, validation and test accuracy of each cell, beside what the published study wrote."""
    return alone(tables.details(results, [BY_KEY[key] for key in SHOWN]), results)


def state(results: StudyResults) -> str:
    """One line that says what the table is of."""
    finished = f"{len(results.runs)} of {len(results.planned)} runs finished"
    sizes = "" if results.match == "width" else f", all models of as many {results.match} as {results.match_to}"
    return f"`{results.name}`, protocol `{results.protocol}`{sizes}: {finished}."


def standings(results: StudyResults) -> Table:
    """Models × windows: test accuracy, half of its interval over seeds and speakers, letters of the window."""
    found = {
        (column.column, model.row): f"{100 * model.accuracy.value:.2f} ± "
        f"{50 * (model.accuracy.high - model.accuracy.low):.2f} {model.letters}"
        for column in ranking.compared(results)
        for model in column.standings
    }
    return Table(
        key="standings",
        title=f"Test accuracy, %, by model and {results.column_title.lower()}",
        note=f"± is half the 95 % interval over seeds and speakers. Models of one {results.column_title.lower()} that "
        "share a letter do not differ significantly (5 %, corrected for the number of pairs).",
        headings=(Heading("Model"), *(Heading(column, results.column_title) for column in results.columns)),
        rows=tuple((row, *(found.get((c, row), ABSENT) for c in results.columns)) for row in results.rows),
    )


def the_report(folder: Path, page: Path) -> str:
    """A link to a store's report, from a page."""
    return f"[the report]({os.path.relpath(folder / 'report' / 'report.md', page.parent)})"


def comparisons_by_column(results: StudyResults, folder: Path, page: Path) -> str:
    """As ``comparisons``, of a study with so many pairs that they are counted here and listed in the report."""
    counts = [
        f"{sum(pair.differs for pair in column.comparisons)} of {len(column.comparisons)} at {column.column}"
        for column in ranking.compared(results)
    ]
    told = f"Pairs that differ significantly: {', '.join(counts)}; {the_report(folder, page)} has a sentence on each."
    return "\n\n".join([state(results), markdown.table(standings(results)), told, *ranking.order_sentences(results)])


def comparisons(results: StudyResults, folder: Path, page: Path) -> str:
    """The ranking with intervals and letters, and the pairs that differ significantly; the report has the others."""
    if len(results.columns) > 1:
        return comparisons_by_column(results, folder, page)
    ranked = ranking.table(results)
    pairs = [pair for column in ranking.compared(results) for pair in column.comparisons]
    significant = [pair for pair in pairs if pair.differs]
    verb = "differs" if len(significant) == 1 else "differ"
    counted = f"Of {len(pairs)} pairs of models, {len(significant)} {verb} significantly"
    told = [f"{counted}; {the_report(folder, page)} has a sentence on each."]
    lists = ["\n".join(f"- {pair.verdict}" for pair in significant)] if significant else []
    return "\n\n".join([state(results), *([markdown.table(ranked)] if ranked else []), *told, *lists])


def in_short(results: StudyResults) -> str:
    """The ranking of a study with one column, for a small screen."""
    (column,) = ranking.compared(results)
    lines = ["| Model | Test accuracy, % | 95 % interval | |", "| :-- | --: | :-- | :-- |"]
    for model in column.standings:
        low, high = 100 * model.accuracy.low, 100 * model.accuracy.high
        lines.append(f"| {model.row} | {100 * model.accuracy.value:.1f} | {low:.1f} to {high:.1f} | {model.letters} |")
    told = "Models that share a letter are not significantly different (5 % level, corrected for all pairs)."
    return "\n".join([*lines, "", told])


def recipes(results: StudyResults, folder: Path) -> str:
    """A recipe, and what each of its ingredients gives where the rows after the first leave one out each."""
    shown = ablation(results) if len(results.rows) > 1 else tables.details(results, [BY_KEY[key] for key in SHOWN])
    return "\n\n".join([state(results), alone(shown, results), f"For the rest see {the_report(folder, RESULTS)}."])


def ablation(results: StudyResults) -> Table:
    """Each row beside the first: both accuracies, what is lost with its interval, whether that is significant."""
    lost, whole = {}, results.rows[0]
    accuracies = [BY_KEY[key] for key in ("validation_accuracy", "test_accuracy")]
    (column,) = ranking.compared(results)
    for pair in column.comparisons:
        if whole not in (pair.first, pair.second):
            continue
        other, sign = (pair.second, 100) if pair.first == whole else (pair.first, -100)
        low, high = sorted((sign * pair.difference.low, sign * pair.difference.high))
        beyond = "yes" if pair.differs else "not after correction" if low > 0 or high < 0 else "no"
        lost[other] = (f"{sign * pair.difference.value:.2f} ({low:.2f} to {high:.2f})", beyond)
    rows = []
    for row in results.rows:
        runs = results.cell(row, column.column)
        figures = [metric.text(runs) for metric in accuracies]
        told = lost.get(row, (ABSENT, ABSENT))
        rows.append((row, tables.parameters(runs), tables.seeds_text(results, row, column.column), *figures, *told))
    return Table(
        key="ablation",
        title="What each ingredient gives",
        note="± is half the 95 % t-interval over seeds, about these clips alone. Lost: points of test accuracy that "
        "the first row has more; the interval holds for new seeds and new speakers. Significant: after Holm’s "
        f"correction for all pairs.{tables.same_note(rows)}",
        headings=(
            *(Heading(name) for name in ("Model", "Parameters", "Seeds")),
            *(Heading(metric.title, metric.group) for metric in accuracies),
            Heading("Lost (95 % interval)"),
            Heading("Significant"),
        ),
        rows=tuple(rows),
    )


def kernels() -> str:
    """Milliseconds of every cell and size of the newest kernel benchmark, for a layer whose frames need no gradient."""
    paths = sorted(BENCHMARKS.glob("*-kernels.json"))
    record = msgspec.json.decode(paths[-1].read_bytes(), type=Record)
    lines = [
        "| Cell | B×T×D×H | C kernel, ms | torch's own, ms | Plain, ms | torch ÷ C | Plain ÷ C | Share of GEMM rate |",
        "| :-- | :-- | --: | --: | --: | --: | --: | --: |",
    ]
    for row in record.rows:
        if row.threads > 1 or row.x_gradient:
            continue
        sides = {side.name: side for side in row.sides}
        own = next((side for name, side in sides.items() if name not in ("c", "plain")), None)
        peer, ratio = (f"{own.milliseconds:.2f}", f"{own.ratio:.2f}") if own else ("–", "–")
        c, plain = sides["c"], sides["plain"]
        figures = (f"{c.milliseconds:.2f}", peer, f"{plain.milliseconds:.1f}", ratio, f"{plain.ratio:.2f}")
        lines.append(f"| {row.cell} | {row.size} | {' | '.join(figures)} | {c.gemm_share:.0%} |")
    about, day = record.machine, record.machine["date"][:10]
    return "\n".join(
        [*lines, "", f"{about['processor']}, one thread, float32, torch {about['torch']}, {day}; medians in turn."]
    )


def gates_speed() -> str:
    """The gates study through plain evaluation and through kernels."""
    paths = sorted(BENCHMARKS.glob("*-gates-speed.json"))
    found = json.loads(paths[-1].read_bytes())
    lines = [
        "| Cell | Plain, s / epoch | C kernel, s / epoch | Ratio | Test accuracy, C − plain, points |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for row in found["rows"]:
        seconds, ratio = row["seconds_per_epoch"], f"{row['ratio']:.2f}"
        lines.append(
            f"| {row['cell']} | {seconds['plain']:.2f} | {seconds['c']:.2f} | {ratio} | {row['difference']:+.2f} |"
        )
    machine, wall, overall = found["machine"], found["study_seconds"], found["difference"]
    lines += [
        "",
        f"{machine['seeds']} seeds, {machine['workers']} workers, {machine['date']}; the whole study took "
        f"{wall['plain'] / 60:.1f} minutes through plain evaluation and {wall['c'] / 60:.1f} through kernels, "
        f"augmentation included. Accuracies differ by {overall['mean']:+.2f} ± {overall['half_width_95']:.2f} points "
        f"over the {overall['pairs']} pairs of runs.",
    ]
    return "\n".join(lines)


def newest(kind: str) -> dict[str, Any]:
    """The newest record of this kind."""
    found: dict[str, Any] = json.loads(sorted(BENCHMARKS.glob(f"*-{kind}.json"))[-1].read_bytes())
    return found


def size_of(row: dict[str, Any]) -> str:
    """The sizes of a row of a record."""
    return "×".join(str(row["size"][key]) for key in ("batch", "frames", "inputs", "hidden"))


def fma_share() -> str:
    """Kernels in shares of the peak of fused multiply-adds; what a second thread gains for them and for the loop."""
    found = newest("fma-share")
    lines = [
        "| Cell | B×T×D×H | Share of the peak, % | Two threads: the loop | The kernel | Of the loop’s gain, % |",
        "| :-- | :-- | --: | --: | --: | --: |",
    ]
    long_loop = "thread_start_s" in found  # records before that measured the start of a thread with a short loop
    loops = [row["loop_two_threads"] for row in found["rows"]] if long_loop else [2.0]
    for row in found["rows"]:
        both, loop = (row["forward"], row["backward"]), row["loop_two_threads"]
        shares = " / ".join(f"{100 * each['share']:.0f}" for each in both)
        gains = " / ".join(f"{each['two_threads']:.2f}" for each in both)
        reached = " / ".join(f"{100 * each['two_threads'] / loop:.0f}" for each in both)
        of_loop = (f"{loop:.2f}", gains, reached) if long_loop else ("–", gains, "–")
        lines.append(f"| {row['cell']} | {size_of(row)} | {shares} | {' | '.join(of_loop)} |")
    about, rates = found["machine"], [row["peak_gfma_s"] for row in found["rows"]]
    told = (
        f"Forward / backward. {about['processor']}, float32, one thread by its processor time, two by the clock, "
        f"{about['date'][:10]}; medians in turn. The peak is {min(rates):.0f} to {max(rates):.0f} thousand million "
        "multiply-adds a second."
    )
    if long_loop:
        told += f" A second thread takes {1e6 * found['thread_start_s']:.0f} µs to begin, in every call."
    if min(loops) < ASKED_GAIN:
        told += (
            f" A second thread gains {min(loops):.2f} to {max(loops):.2f} for the peak’s own loop here, so that "
            f"{ASKED_GAIN} times one thread cannot be had of a kernel at that peak everywhere."
        )
    return "\n".join([*lines, "", told])


def fma_profile() -> str:
    """Where the time of a kernel goes that does not run at that peak."""
    found = newest("fma-profile")
    parts = [*found["rows"][0]["forward"]["parts"]]
    titles = [part.capitalize() for part in parts]
    lines = [
        f"| Cell | H | B | Pass | {' | '.join(titles)} | Products’ rate | Again |",
        f"| :-- | --: | --: | :-- |{' --: |' * (len(titles) + 2)}",
    ]
    for row in found["rows"]:
        for kind in ("forward", "backward"):
            each = row[kind]
            figures = [f"{100 * each['parts'][part]:.1f}" for part in parts]
            figures += [f"{100 * each[key]:.0f}" for key in ("rate", "rate_again")]
            size = row["size"]
            lines.append(f"| {row['cell']} | {size['hidden']} | {size['batch']} | {kind} | {' | '.join(figures)} |")
    about = found["machine"]
    timers = [abs(row[kind]["timers"]) for row in found["rows"] for kind in ("forward", "backward")]
    return "\n".join(
        [
            *lines,
            "",
            f"% of a pass’s time, then of the peak. {about['processor']}, one thread, float32, {about['date'][:10]}; "
            f"load before {about['load']}. Reading the counter changes a pass by {100 * median(timers):.1f} %.",
        ]
    )


def bf16() -> str:
    """Kernels with products in bfloat16 beside those in float32, milliseconds of one thread."""
    found, lines = (
        newest("bf16"),
        ["| Cell | B×T×D×H | float32, ms | bf16, ms | Faster |", "| :-- | :-- | --: | --: | --: |"],
    )
    for row in found["rows"]:
        times = [
            " + ".join(f"{1e3 * row[precision]['seconds'][kind]:.2f}" for kind in ("forward", "backward"))
            for precision in ("float32", "bf16")
        ]
        gains = " / ".join(f"{row['faster'][kind]:.2f}" for kind in ("forward", "backward", "both"))
        lines.append(f"| {row['cell']} | {size_of(row)} | {' | '.join(times)} | {gains} |")
    about = found["machine"]
    return "\n".join(
        [
            *lines,
            "",
            f"Forward + backward, then how many times faster forward / backward / both. {about['processor']}, one "
            f"thread by its processor time, {about['date'][:10]}; medians in turn.",
        ]
    )


def bf16_accuracy() -> str:
    """The gates study in both precisions."""
    found = newest("precision-accuracy")
    lines = [
        "| Cell | float32, % | bf16, % | Difference, points | 95 % interval |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for row in found["rows"]:
        low, high = row["interval_95"]
        one, other = (f"{value:.2f}" for value in row["accuracy"])
        difference = round(row["difference"], 2) + 0.0  # no -0.00
        lines.append(f"| {row['model']} | {one} | {other} | {difference:+.2f} | {low:+.2f} to {high:+.2f} |")
    overall, least = found["difference"], min(row["p_holm"] for row in found["rows"])
    return "\n".join(
        [
            *lines,
            "",
            f"Test accuracy; intervals treat seeds and speakers as random effects. Smallest p, corrected for "
            f"{len(found['rows'])} cells: {least:.2f}. Over the {overall['pairs']} pairs of runs of one seed, "
            f"accuracies differ by {overall['mean']:+.2f} ± {overall['half_width_95']:.2f} points.",
        ]
    )


def put(text: str, name: str, shown: str) -> str:
    """The text with what stands between a pair of markers exchanged."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    return pattern.sub(lambda m: f"{m[1]}\n{shown}\n\n{m[2]}", text)


def some_finished(folder: Path) -> bool:
    """Whether a store is there with anything to show."""
    return any((folder / "runs").glob("*/result.json"))


def results_of_stages() -> str:
    """Both stages in both protocols; writes their reports, and for the fair ones the notebook."""
    parts = []
    for name, table in (("windows", windows), ("gates", gates)):
        for protocol in ("fair", "published"):
            folder = STORES / f"{name}-{protocol}"
            if not some_finished(folder):
                continue
            results = load_results(folder)
            parts.append(f"{state(results)}\n\n{table(results)}")
            write_report(folder, formats=("md", "csv"))
            if protocol == "fair":
                write_report(folder, formats=("notebook",), out=NOTEBOOKS, execute=True)
    return "\n\n".join(parts)


def results_of_tuned(name: str, page: Path) -> str:
    """A study whose rows were tuned with equal budgets; writes its report, notebook and picture."""
    folder = STORES / name
    results = load_results(folder)
    write_report(folder, formats=("md", "csv"))
    write_report(folder, formats=("notebook",), out=NOTEBOOKS / name, execute=True)
    write_whole(IMAGES / f"{name}.png", plots.png(plots.accuracy(results), dpi=130))
    return comparisons(results, folder, page)


def results_of_recipes() -> str:
    """The classifiers that are to be small and good; writes their reports."""
    parts = []
    for folder in sorted(path for path in STORES.glob("under-*") if some_finished(path)):
        parts.append(recipes(load_results(folder), folder))
        write_report(folder, formats=("md", "csv"))
    return "\n\n".join(parts)


def main() -> None:
    """Everything that can be shown of the stores that are there."""
    pages = {
        RESULTS: {
            "windows": results_of_tuned("windows-fair-tuned", RESULTS),
            "gates": results_of_tuned("gates-fair-tuned", RESULTS),
            "recipes": results_of_recipes(),
            "results": results_of_stages(),
            "parameters": results_of_tuned("gates-fair-tuned-parameters", RESULTS),
        },
        README: {"gates in short": in_short(load_results(STORES / "gates-fair-tuned"))},
        SPEED: {
            "kernels": kernels(),
            "gates speed": gates_speed(),
            "fma share": fma_share(),
            "fma profile": fma_profile(),
            "bf16": bf16(),
            "bf16 accuracy": bf16_accuracy(),
        },
    }
    for page, shown in pages.items():
        text = page.read_text("utf-8")
        for name, part in shown.items():
            text = put(text, name, part)
        write_whole(page, text.encode())


if __name__ == "__main__":
    main()
