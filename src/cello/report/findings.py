"""Summarise a study in sentences: progress, best model, methods, missing runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import mean

from cello.audio.corpus import SPLITS
from cello.report import folds, growth, ranking, robustness, speakers, tables
from cello.report.metrics import BY_KEY, CUT_OFF, UNRECORDED
from cello.report.results import StudyResults, place_name
from cello.report.tables import best_cell, count, parameters
from cello.report.vocabulary import word
from cello.statistics.comparisons import Comparison, in_points
from cello.statistics.means import FEW_SEEDS
from cello.training.remark import LEARNED, learned
from cello.training.result import RunResult

LISTED = 12
UNITS = {"seconds_per_epoch": "s/epoch", "epoch_seconds": "s"}  # what is not in per cent
WHOLE_EPOCH = (
    "The whole epoch is the median over the same epochs of the wall time of augmentation, features, training steps and "
    "evaluation on the validation clips."
)


def summary(results: StudyResults) -> list[str]:
    """The study on top of the report, one sentence or two a paragraph."""
    how = [text for text in (speakers.meaning(results), folds.cautions(results)) if text]
    divided = folds.summary(results)
    chosen = [best(results), *against_others(results)]
    about = [progress(results), *([divided] if divided else [])]
    return [
        *([*about, *chosen] if results.single else [*chosen, *about]),
        *(*low_training(results), seeds(results), *growth.cautions(results)),
        *how,
        *(machines(results), corpus(results)),
    ]


def progress(results: StudyResults) -> str:
    """What was planned, and how much of it is finished."""
    if results.single:
        run = results.runs[0]
        epochs = count(run.result.config.optimiser.epochs, "epoch")
        return f"A single run: {run.row}, seed {run.seed}, {epochs}. It is compared with nothing."
    each = max(len(results.corpus.folds), 1)
    done, planned = each * len(results.runs), each * len(results.planned)
    sizes = [count(len(results.rows), "model"), count(len(results.seeds), "seed")]
    sizes += [count(each, "fold")] if results.corpus.folds else []
    if results.columns != ("",):
        sizes.insert(1, count(len(results.columns), results.column_title.lower()))
    plan = " × ".join(sizes) + (f", protocol “{results.protocol}”" if results.protocol else "")
    if done == planned:
        return f"{plan}: all {planned} runs are finished."
    whole = ", counted where all folds are" if results.corpus.folds else ""
    return f"{plan}: {done} of {planned} planned runs are finished{whole}. This report is of a partial study."


def best(results: StudyResults) -> str:
    """The model that validation clips choose, and how it does on the test clips."""
    row, column = best_cell(results)
    runs = results.cell(row, column)
    figure = {key: metric.told(runs, UNITS.get(key, "%")) for key, metric in BY_KEY.items()}
    where = f"On the {runs[0].test.clips:,} test clips, which took no part in that choice: "
    if results.corpus.folds:
        where = (
            f"On all {runs[0].test.clips:,} clips, each tested by a run not trained on its fold (other folds’ runs "
            "validated on it, so the best of many models looks a little better than it is): "
        )
    chosen = (
        f"Validation accuracy {figure['validation_accuracy']}. On the {runs[0].test.clips:,} test clips: "
        if results.single
        else f"Best by validation accuracy: {place_name(row, column)} (validation {figure['validation_accuracy']}, "
        f"{count(len(runs), 'seed')}). {where}"
    )
    timed = BY_KEY["epoch_seconds"].text(runs) != UNRECORDED
    whole = f" ({figure['epoch_seconds']} for the whole epoch)" * timed
    return (
        f"{chosen}"
        f"accuracy {figure['test_accuracy']}, per-{word(results)} mean {figure['test_word_mean']}. "
        f"It has {parameters(runs)} parameters and trains at {figure['seconds_per_epoch']}{whole}."
    )


def against_others(results: StudyResults) -> list[str]:
    """Whether the chosen model is significantly better than the runner-up and than the first of its column.

    Empty where it is the only model of its column.
    """
    row, column = best_cell(results)
    validation = BY_KEY["validation_accuracy"]
    others = [other for other in results.rows if other != row and results.cell(other, column)]
    if not others:
        return []
    second = max(others, key=lambda other: validation.over(results.cell(other, column)).mean)
    at = f" at {column}" if len(results.columns) > 1 else ""
    named = {second: f"the runner-up by validation accuracy{at}, {second}"}
    if results.rows[0] in others and results.rows[0] != second:
        named[results.rows[0]] = f"the first model of the table, {results.rows[0]}"
    found = [own.comparisons for own in results.comparisons if own.column == column]
    pairs = {frozenset((pair.first, pair.second)): pair for own in found for pair in own}
    told = [_against(row, name, pairs.get(frozenset((row, other)))) for other, name in named.items()]
    few = any(pair.indicative for pair in pairs.values())
    return [" ".join(told) + f" Indicative only, with fewer than {FEW_SEEDS} seeds." * few]


def _against(row: str, other: str, pair: Comparison | None) -> str:
    """How the chosen model compares with another on the test clips."""
    if pair is None:
        return f"Whether it is better than {other}, could not be tested."
    found, sign = pair.difference, 1 if pair.first == row else -1
    value, ends = sign * found.value, sorted(sign * min(max(end, -1.0), 1.0) for end in (found.low, found.high))
    size, limits = in_points(abs(value)), " to ".join(map(in_points, ends if value >= 0 else (-ends[1], -ends[0])))
    p = ranking.p_text(pair.p_holm)
    test = f"95 % interval {limits}; p {p if p.startswith('<') else f'= {p}'} with Holm’s correction"
    if found.error == 0 and value:
        return f"It is {'better' if value > 0 else 'worse'} than {other}, by {size} points, which cannot be tested."
    if pair.differs:
        return f"It is significantly {'better' if value > 0 else 'worse'} than {other}, by {size} points ({test})."
    lead = "higher" if value > 0 else "lower"
    how = f"{size} points {lead}" if float(size) else f"{size} points apart"
    return f"It is not significantly better than {other}: {how} on the test clips ({test})."


def low_training(results: StudyResults) -> list[str]:
    """The models that did not even learn their training clips, if there are any: to compare them says little."""
    counts = results.corpus.splits["train"].clips_by_label.values()
    majority = max(counts, default=0) / max(sum(counts), 1)
    accuracies = {place: mean(run.train.accuracy for run in runs) for place, runs in results.cells().items()}
    low = [
        f"{place_name(*place)} ({100 * accuracy:.1f} %)"
        for place, accuracy in accuracies.items()
        if learned(accuracy, majority) < LEARNED
    ]
    if not low:
        return []
    more = f" and {len(low) - LISTED} more" if len(low) > LISTED else ""
    return [
        f"Training accuracy stays low: {', '.join(low[:LISTED])}{more}; always predicting the most frequent label "
        f"gives {100 * majority:.1f} %. More epochs, another learning rate or pooling by mean or attention may help; "
        "until then differences between models may be those of training, not of architecture."
    ]


def seeds(results: StudyResults) -> str:
    """What the intervals mean with this many seeds."""
    n = len(results.seeds)
    if results.single:
        return (
            "One seed: nothing here says how much the figures vary with the seed, and no model can be called better by "
            "them. cello study runs several seeds and compares models."
        )
    if n == 1 and results.corpus.folds:
        return "One seed a fold: the tables carry no ±; intervals and tests rest on the folds."
    if n == 1:
        return "One seed: the figures carry no interval, so differences between models may be random variation."
    whole = len(results.runs) == len(results.planned)
    meaning = f"Figures are means over {'' if whole else 'up to '}{n} seeds; ± is half the 95 % t-interval over seeds."
    few = f" With fewer than {FEW_SEEDS} seeds these intervals are indicative only." if n < FEW_SEEDS else ""
    few += " It says nothing of other training sets; the ranking’s intervals do." if results.corpus.folds else ""
    return meaning + cut_off(results) + few


def cut_off(results: StudyResults) -> str:
    """How accuracies are shown whose interval would leave 0 to 100 %, once for all tables; empty where none does."""
    return CUT_OFF if tables.cut(results) or robustness.cut(results) else ""


def machines(results: StudyResults) -> str:
    """The hardware and versions the runs were made with, and the precision of products where it was not float32."""
    kinds = Counter(_described(r.result.hardware) for r in results.runs)
    versions = Counter(_described(r.result.versions) for r in results.runs)
    if len(kinds) == 1:
        text = f"Hardware: {next(iter(kinds))}."
    else:
        listed = "; ".join(f"{kind} ({count(n, 'run')})" for kind, n in kinds.items())
        text = f"Hardware differs between runs, so their times do not compare: {listed}."
    return f"{text} Software: {'; '.join(versions)}.{_precisions(results)}"


def _precisions(results: StudyResults) -> str:
    kinds = Counter(r.result.precision for r in results.runs)
    if not kinds.keys() - {"float32"}:
        return ""
    if len(kinds) == 1:
        return f" Matrix products: {next(iter(kinds))}."
    listed = "; ".join(f"{kind} ({count(n, 'run')})" for kind, n in kinds.items())
    return f" The precision of matrix products differs between runs: {listed}."


def corpus(results: StudyResults) -> str:
    """The clips of each split, and how many were left out."""
    data = results.corpus
    clips = ", ".join(f"{data.splits[split].clips:,} {split}" for split in SPLITS)
    if data.folds:
        clips = f"{data.splits['test'].clips:,} in {speakers.rule(results)}"
    left_out = len(data.bad)
    bad = f"{count(left_out, 'clip')} left out, named below with the reason." if left_out else "No clip was left out."
    return f"Corpus: {data.name}, {count(len(data.labels), 'label')}; clips: {clips}. {bad}"


def missing(results: StudyResults) -> list[str]:
    """The planned runs that are not there, failed ones with their reasons; empty when the study is whole."""
    gone = {(f.row, f.column, f.seed) for f in results.failures} | {(r.row, r.column, r.seed) for r in results.runs}
    unfinished = [place for place in results.planned if place not in gone]
    lines = [
        f"Failed: {place_name(f.row, f.column, f.seed)}{f', fold {f.fold}' if f.fold else ''}: {f.reason}"
        for f in results.failures
    ]
    lines += [f"Not finished: {place_name(*place)}" for place in unfinished[:LISTED]]
    if len(unfinished) > LISTED:
        lines.append(f"Not finished: {len(unfinished) - LISTED} more")
    return lines


def methods(results: StudyResults) -> list[str]:
    """How the figures were made, read off the runs' own configs."""
    runs, called = [r.result for r in results.runs], word(results)
    divided = f"training, validation and test clips are as the corpus {results.corpus.name} divides them"
    if results.corpus.folds:
        divided = f"{speakers.rule(results)}; each tests once, and the fold before it validates"
    return [
        *([f"Settings of each row: tuned, {results.tuned}"] if results.tuned else []),
        f"Split: {divided} (checksum {results.corpus.checksum[:16]}). {_read(runs)} {_chosen(results)}",
        _sentences(runs, _normalisation),
        _sentences(runs, _choice),
        f"Accuracy is the share of clips; the per-{called} mean gives each {called} the same weight however many clips "
        "it has. "
        "Confusion matrices count test clips, summed over seeds.",
        f"Seconds per epoch: {_timed(runs)}. Clips per second follow from it. {WHOLE_EPOCH}",
    ]


def _read(runs: Sequence[RunResult]) -> str:
    conditions = any(run.conditions for run in runs)
    once = "as they are once per run, and once more under each condition" if conditions else "once per run"
    return f"The test clips were read {once}, after training, with the weights already chosen, and all are counted."


def _chosen(results: StudyResults) -> str:
    if results.tuned is None:
        return "How the settings were chosen is not recorded."
    return "The settings that were tuned were chosen on training and validation clips."


def _timed(runs: Sequence[RunResult]) -> str:
    kinds = [[run for run in runs if (run.device != "cpu") is gpu] for gpu in (False, True)]
    return "; ".join(_timed_alike(alike) for alike in kinds if alike)


def _timed_alike(runs: Sequence[RunResult]) -> str:
    """How the time of runs was taken that are all of the CPU or all of a GPU."""
    several = all(run.config.optimiser.epochs > 1 for run in runs)
    gpu = runs[0].device != "cpu"
    only = "" if several else ", or of the only one,"
    over = f"median over the epochs after the first{only} of the {'wall' if gpu else 'CPU'} time of the training steps"
    if gpu:
        return f"{over} on a GPU, with features and augmentation, without evaluation"
    alone = "single-threaded " if {run.hardware.get("threads") for run in runs} == {"1"} else ""
    return f"{over} in one {alone}process; features, augmentation and evaluation are not in it"


def _normalisation(run: RunResult) -> str:
    return {
        "corpus": "Normalisation: each coefficient by mean and deviation of the training clips alone.",
        "clip": "Normalisation: each coefficient by the clip’s own mean and deviation.",
        "none": "Normalisation: none.",
    }[run.config.features.normalisation]


def _choice(run: RunResult) -> str:
    epochs = count(run.config.optimiser.epochs, "epoch")
    averaged = " (an exponential moving average over steps)" if run.config.optimiser.ema else ""
    if run.config.optimiser.choose == "last":
        return f"Epoch: the weights{averaged} of the last of {epochs}, fixed beforehand."
    return f"Epoch: of {epochs}, the weights{averaged} with the highest validation accuracy."


def _sentences(runs: Sequence[RunResult], say: Callable[[RunResult], str]) -> str:
    said = Counter(say(run) for run in runs)
    if len(said) == 1:
        return next(iter(said))
    return " ".join(f"{sentence} ({count(n, 'run')})" for sentence, n in said.items())


def _described(facts: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items()) or "not recorded"
