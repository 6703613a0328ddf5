"""Write the methods paragraph for a paper from the runs' configs, and list what is not recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from cello.audio.corpus import SPLITS
from cello.cells.load import bare_name, every_cell, is_own
from cello.report import folds, growth, ranking, recipe, references, speakers
from cello.report.references import Reference
from cello.report.results import StudyResults
from cello.report.settings_differences import StudySettings, listed, settings
from cello.report.tables import count
from cello.statistics.means import CONFIDENCE, FEW_SEEDS
from cello.training.config import RunConfig

BACKENDS = {
    "plain": "plain tensor operations",
    "c": "kernels compiled for the processor",
    "torch": "PyTorch’s own layers",
    "triton": "kernels compiled for the GPU",
}
PRECISIONS = {"tf32": " with products in TensorFloat-32", "bf16": " with products in bfloat16"}
FACTS = {
    **{"cello": "Cello ", "torch": "PyTorch ", "python": "Python ", "system": "", "processor": ""},
    **{"gpu": "", "driver": "driver ", "cuda": "CUDA "},
}

COUNTED = {"cores": "", "threads": " a run"}


def paragraph(
    results: StudyResults,
    cite: Callable[[Reference], str] = lambda paper: paper.short,
    escape: Callable[[str], str] = str,
) -> str:
    """The whole paragraph; ``cite`` says how a paper is cited, ``escape`` dresses all else."""
    found = settings(results)
    sentences = [
        _data(results),
        *recipe.sentences(results, found),
        _tuned(results, found),
        _seeds(results, found),
        _tests(results),
        _machines(results),
    ]
    return " ".join([_models(results, found, cite, escape), *(escape(text) for text in sentences if text)])


def unrecorded(results: StudyResults) -> list[str]:
    """What a methods section should say and the runs do not know: to be added by hand."""
    chosen = "how the settings were chosen."
    if results.tuned is not None:
        chosen = "how the settings that were not tuned were chosen."
    elif results.protocol.rpartition("-")[2] == "tuned":
        chosen += f" The study is labelled “{results.protocol}”, as cello tune labels what it writes."
    texts = [chosen, f"a reference for the corpus {results.corpus.name}."]
    if not speakers.rule(results):
        texts.append("how the clips were divided into training, validation and test.")
    if not speakers.known(results):
        texts.append("who speaks in each clip.")
    elif speakers.shared(results) is None:
        texts.append("whether the voice of one speaker is in more than one split.")
    without = references.unnamed(results)
    if without:
        texts.append(f"papers, if there are any, for {listed(without)}.")
    return [f"Not recorded, to be added by hand: {text}" for text in texts]


def _models(
    results: StudyResults, found: StudySettings, cite: Callable[[Reference], str], escape: Callable[[str], str]
) -> str:
    items, named = [], False
    for row in (row for row in results.rows if row in found.rows):
        configs = [kind.config for kind in found.kinds if kind.row == row]
        cells = [cell for cell in dict.fromkeys(map(_cell, configs)) if cell.lower() != row.lower()]
        papers = references.of(results, configs)
        named = named or any(cell in every_cell() for cell in cells)
        inside = [*map(escape, cells), *map(cite, papers)]
        items.append(escape(row) + (f" ({'; '.join(inside)})" if inside else ""))
    what = f"{count(len(items), 'model')}" if len(items) > 1 else "one model"
    columns = [column for column in results.columns if column in found.columns]
    over = f" under {len(columns)} {found.column}s ({', '.join(columns)})" if len(columns) > 1 else ""
    if found.column == "window":
        over = over.replace(" under ", " with ", 1).replace("windows", "analysis windows", 1)
    verb = "compared" if len(items) > 1 else "trained"
    names = " The first name in brackets is the cell’s in Cello." if named else ""
    if references.of(results, (kind.config for kind in found.kinds)):
        names += " Papers are those of the cells, or of what the cells vary."
    return f"We {verb} {what}{escape(over)}: {listed(items)}.{escape(names)}"


def _cell(config: RunConfig) -> str:
    """What a paper calls a cell; one of somebody's own by its name and the fingerprint of its equations."""
    cell, equations = config.model.cell, config.model.equations
    if is_own(cell):
        return f"our own {bare_name(cell)}, equations {equations[:12]}"
    return f"PyTorch’s {cell.partition(':')[2].upper()}" if cell.startswith("torch:") else cell


def _data(results: StudyResults) -> str:
    corpus, known = results.corpus, speakers.known(results)
    counts = []
    for split in SPLITS:
        own = corpus.splits[split]
        said = f" ({count(own.speakers, 'speaker')})" if known else ""
        counts.append(f"{own.clips:,} {speakers.SPLIT_NAMES[split]} {'clip' if own.clips == 1 else 'clips'}{said}")
    unusable = len(corpus.bad)
    bad = f"; {count(unusable, 'unusable clip')} {'was' if unusable == 1 else 'were'} left out" if unusable else ""
    if corpus.folds:
        return f"{folds.data(results, bad)}{' ' + shared if (shared := speakers.overlap(results)) else ''}"
    how = _divided(results)
    return (
        f"The corpus, {corpus.name} (SHA-256 {corpus.checksum[:16]}), has {len(corpus.labels)} labels and is divided "
        f"{how + ' ' if how else ''}into {listed(counts)}{bad}."
        f"{' ' + said if (said := _sharing(results, how)) else ''}"
    )


def _sharing(results: StudyResults, how: str) -> str:
    """Speakers of several splits; empty where it is not recorded, or said already by how the clips were divided."""
    if speakers.overlap(results) or not speakers.known(results):
        return speakers.sharing(results)
    apart = results.corpus.shared_by_split is not None and "so that no" not in how
    return speakers.sharing(results) if apart else ""


def _divided(results: StudyResults) -> str:
    rule, split = speakers.rule(results), results.corpus.origin.split
    if split == "lists":
        apart = ", so that nobody in the test clips is in another split," if speakers.shared(results) == 0 else ""
        return f"by lists that come with it ({rule}){apart}"
    if not speakers.known(results):
        if split == "clip-hash":
            return "by the SHA-1 of each clip’s name, for the speakers are not known,"
        return f"by {rule}" if rule else ""
    if speakers.official(results):
        task = results.corpus.origin.task
        how = "by the published rule of Speech Commands, a hash of the speaker, so that no speaker is in two splits,"
        return f"as {task}, {how}" if task else how
    if split == "speaker-hash":
        return f"by speaker ({rule}), so that none is in two splits,"
    return f"by {rule}" if rule else ""


def _tuned(results: StudyResults, found: StudySettings) -> str:
    tuned = results.tuned
    if tuned is None:
        return ""
    tried = (f"{name.partition('.')[2].replace('_', ' ')} {values}" for name, values in sorted(tuned.space.items()))
    epochs = f" of {count(tuned.epochs, 'epoch')} each" if tuned.epochs else ""
    where = f" in {found.column} {tuned.column}" if tuned.column else ""
    size = "" if tuned.match == "width" else f" at equal {tuned.match}"
    return (
        f"For each model {count(tuned.trials, 'trial')}{epochs}{where}{size}, with seed {tuned.seed}, chose by "
        f"validation accuracy among {'; '.join(tried)}; no trial evaluated the test clips."
    )


def _seeds(results: StudyResults, found: StudySettings) -> str:
    places: dict[tuple[str, str], list[int]] = {}
    for run in results.runs:
        places.setdefault((run.row, run.column), []).append(run.seed)
    counts = sorted({len(seeds) for seeds in places.values()})
    seeds = sorted({seed for own in places.values() for seed in own})
    shown = (
        f"{seeds[0]} to {seeds[-1]}"
        if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1
        else listed(map(str, seeds))
    )
    many = count(counts[0], "random seed") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} random seeds"
    where = f" in each {found.column}" if len(found.columns) > 1 else ""
    done, planned, trained = len(results.runs), len(results.planned), len({run.result.run for run in results.runs})
    on = len(results.corpus.folds)
    each = f" on each of {on} folds" if on else ""
    shared = f" ({done} places of the table, of which equal ones share their run)" if trained < done else ""
    failed = f" ({len(results.failures):,} of them failed)" if results.failures else ""
    partial = (
        f" Of {planned:,} runs planned, {planned - done:,}{failed} {_be(planned - done)} missing here."
        if done < planned
        else ""
    )
    few = (
        f" With fewer than {FEW_SEEDS} seeds, intervals and tests are indicative only."
        if counts[0] < FEW_SEEDS and not on
        else ""
    )
    return (
        f"Every model was trained with {many}{where} ({shown}){each}, {count(trained * max(on, 1), 'run')} in all"
        f"{shared}.{partial}{few}"
    )


def _tests(results: StudyResults) -> str:
    texts = []
    if len({(run.row, run.column) for run in results.runs}) < len(results.runs):
        texts.append(f"Figures are means over seeds with {CONFIDENCE:.0%} t-intervals.".replace("%", " %"))
    columns = ranking.compared(results)
    if columns:
        pairs = sorted({len(column.comparisons) for column in columns})
        count = f"{pairs[0]}" if pairs[0] == pairs[-1] else f"{pairs[0]} to {pairs[-1]}"
        noun = "window" if results.column_title == "Window" else "condition"
        each = f" of each {noun}" if len(columns) > 1 else ""
        only = f" (in {listed(column.column for column in columns)})" if len(columns) < len(results.columns) else ""
        compared = f"The {count} {'pair' if count == '1' else 'pairs'} of models{each}{only}"
        how = (
            folds.tests(results, compared)
            if results.corpus.folds
            else f"{compared} were compared on the same test clips with seeds and {speakers.random_effect(results)} as "
            "random effects, by t-tests with Satterthwaite’s degrees of freedom"
        )
        texts.append(
            f"{how}, corrected for the number of pairs{each} by Holm’s method at {1 - CONFIDENCE:.0%}.".replace(
                "%", " %"
            )
        )
    if cautions := folds.cautions(results):
        texts.append(cautions)
    if results.growth:
        texts.append(growth.added(results))
    order = ranking.order(results)
    if order is not None:
        texts.append(
            f"Ranks by mean test accuracy over the {order.blocks} {results.column_title.lower()}s were compared by "
            "Friedman’s test in the form of Iman and Davenport, and pairs of mean ranks by Nemenyi’s critical "
            "difference."
        )
    return " ".join(texts)


def _machines(results: StudyResults) -> str:
    once = {run.result.run: run.result for run in results.runs}.values()
    took = _time(sum(result.total_seconds for result in once))
    backends = Counter(
        BACKENDS.get(result.backend, result.backend) + PRECISIONS.get(result.precision, "") for result in once
    )
    machines = Counter(_facts(result.hardware) for result in once)
    versions = Counter(_facts(result.versions) for result in once)
    return (
        f"Recurrent layers were computed by {_shares(backends)}. The wall times of the runs add up to {took} on "
        f"{_shares(machines)}, with {_shares(versions)}."
    )


def _time(seconds: float) -> str:
    """A time as sentences have it.

    >>> _time(8.4), _time(125), _time(22_000)
    ('8 seconds', '2 minutes', '6.1 hours')
    """
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


def _shares(counts: Counter[str]) -> str:
    """What all runs had, or how many had which."""
    if len(counts) == 1:
        return next(iter(counts))
    return listed(f"{text} ({count(n, 'run')})" for text, n in counts.items())


def _facts(facts: dict[str, str]) -> str:
    """What a run noted of its machine or its software.

    >>> _facts({"system": "Linux", "cores": "2", "threads": "1"}), _facts({"torch": "2.13.0"})
    ('Linux, 2 cores, 1 thread a run', 'PyTorch 2.13.0')
    """
    return ", ".join(_fact(name, value) for name, value in facts.items()) or "what was not recorded"


def _fact(name: str, value: str) -> str:
    if name in COUNTED and value.isdigit():
        return count(int(value), name.removesuffix("s")) + COUNTED[name]
    return FACTS.get(name, f"{name} ") + value


def _be(n: int) -> str:
    return "is" if n == 1 else "are"
