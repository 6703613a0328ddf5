"""Open the folder of one run, as ``cello train`` writes it, as a store of one run."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path, PurePath

import msgspec

from cello.audio.origin import absolute
from cello.errors import StoreError
from cello.files import decode_json, naming_damage, read_stored, seal_json, write_whole
from cello.study.config import Row, StudyConfig
from cello.study.corpus_file import CorpusSummary, read_corpus
from cello.study.folder import RESTORE, naming
from cello.study.journal import Event
from cello.study.plan import PlannedRun
from cello.study.store import OPENER, CorpusSource, Header, Store
from cello.training.result import RESULT_FORMAT, RunResult, check_possible

SOURCE_FILE = "source.json"
"""How the corpus of a single run or of a study was opened, and where it lies: not for others, so in no report."""
DELETE = "restore it, or delete it and give --corpus where clips are needed"


class SingleRun(Store):
    """One finished run: what a store is to those who read it; nothing is written through it."""

    single = True

    def place(self, run_id: str) -> str:
        """The run's folder is the store's."""
        return str(self.folder)

    def events(self) -> tuple[Event, ...]:
        """A single run keeps no journal."""
        return ()


def open_store(folder: Path | str) -> Store:
    """The store in a folder, or the single run in it, for reading.

    Raises:
        StoreError: neither is there, the run is not finished, or what is there is damaged.
    """
    folder = Path(folder)
    with naming(folder):
        if (folder / "study.json").exists() or not (folder / "config.json").exists():
            return Store.open(folder)
        if not (folder / "result.json").exists():
            raise StoreError(f"the run in {str(folder)!r} is not finished; give its command again to go on with it")
        result = _result(folder / "result.json")
        corpus = _corpus(folder)
    if corpus.checksum != result.config.corpus.checksum:
        raise StoreError(
            f"{str(folder)!r}: its corpus.json describes another corpus than its run was trained on; {RESTORE}"
        )
    fold = result.config.data.fold
    if fold in corpus.fold_names:
        corpus = corpus.of_fold(fold)
    name, which = _name(result), f"seed {result.config.seed}" + (f", fold {fold}" if fold else "")
    study = StudyConfig(
        name=name,
        title=f"One run: {name}, {which}",
        protocol="single run",
        seeds=(result.config.seed,),
        rows=(Row(name=name),),
    )
    run = PlannedRun(id=result.run, row=name, column="", seed=result.config.seed, config=result.config)
    source = located_source(folder) or CorpusSource(spec=corpus.origin.spec)
    return SingleRun(folder, Header(study=study, corpus=result.config.corpus, source=source, runs=(run,)), corpus)


class LocatedSource(CorpusSource, frozen=True, kw_only=True):
    """A source with ``place``, its spec with an absolute path, where ``spec`` holds from the folder of then alone."""

    place: str = ""


def write_source(folder: Path, source: CorpusSource) -> None:
    """Write into the folder of a single run or of a study how its corpus was opened, and where it lies.

    Raises:
        OSError: the folder cannot be written.
    """
    place = absolute(source.spec) if source.opener == OPENER else source.spec
    located = LocatedSource(
        spec=source.spec,
        options=source.options,
        opener=source.opener,
        place=place if place != source.spec else "",
    )
    write_whole(folder / SOURCE_FILE, seal_json(msgspec.json.encode(located)))


def located_source(folder: Path) -> LocatedSource | None:
    """How a run's or study's corpus was opened, of a run of a study how the study's was; None where nobody kept it.

    Raises:
        StoreError: the file is damaged.
    """
    for place in (folder, folder.resolve().parent.parent):
        with naming_damage(place / SOURCE_FILE, StoreError, DELETE), suppress(FileNotFoundError):
            return decode_json(read_stored(place / SOURCE_FILE), LocatedSource)
    return None


def _name(result: RunResult) -> str:
    """The cell's name, of one's own cell without the way to its file."""
    file, py, cell = result.config.model.cell.rpartition(".py:")
    return f"{PurePath(file).name}{py}{cell}"


def _result(path: Path) -> RunResult:
    with naming_damage(path, StoreError, RESTORE):
        found = decode_json(read_stored(path), RunResult, RESULT_FORMAT)
        check_possible(found)
        return found


def _corpus(folder: Path) -> CorpusSummary:
    """What the run was trained on; a run of a study has it in the study's folder."""
    for place in (folder, folder.resolve().parent.parent):
        if (place / "corpus.json").exists():
            return read_corpus(place / "corpus.json")
    raise StoreError(
        f"{str(folder)!r} is a run without corpus.json, which describes its clips; give its cello train command once "
        f"more, which trains nothing again and writes it"
    )
