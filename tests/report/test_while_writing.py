"""What hurts: a report of a running study that fails, counts a run twice, or shows half of one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cello.errors import ReportError
from cello.report.results import StudyResults, load_results
from cello.report.write import write_report
from cello.study.store import Store

WRITER = """
import os, sys, time
from pathlib import Path
from cello.files import write_whole
from cello.study.store import Store

store = Store.open(sys.argv[1])
journal = store.folder / "journal.jsonl"
for run in store.runs:
    folder = store.run_folder(run)
    aside = folder.with_name(f"aside-{run.id}")
    folder.mkdir()
    store.note("started", run.id)
    if run.seed == 0:
        store.note("failed", run.id, "tried once more")
        store.note("started", run.id)
    (folder / "checkpoint.pt").write_bytes(b"half")
    for name in ("predictions.npz", "result.json"):
        write_whole(folder / name, (aside / name).read_bytes())
    line = ('{"event":"finished","run":"%s","time":1.0,"pid":1,"host":"h"}' % run.id).encode() + b"\\n"
    for half in (line[:30], line[30:]):
        with journal.open("ab") as file:
            file.write(half)
        time.sleep(0.02)
"""


def test_a_study_is_reported_over_and_over_while_it_is_written(
    tmp_path: Path, small: StudyResults, fill: Callable[[Path, StudyResults], Store]
) -> None:
    folder = tmp_path / "study"
    whole = {(run.row, run.column, run.seed): run.result.test for run in small.runs}
    for run in fill(folder, small).runs:
        (folder / "runs" / run.id).rename(folder / "runs" / f"aside-{run.id}")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stderr=subprocess.PIPE, text=True)
    counts = [0]
    while True:
        over = writer.poll() is not None
        try:
            results = load_results(folder)
        except ReportError as error:
            assert "none of the 8 planned runs" in str(error)  # noqa: PT017
            continue
        counts.append(len(results.runs))
        places = [(run.row, run.column, run.seed) for run in results.runs]
        assert len(set(places)) == len(places)
        assert {place: run.result.test for place, run in zip(places, results.runs, strict=True)} == {
            place: whole[place] for place in places
        }
        assert all(len(run.result.history) == 6 for run in results.runs)
        assert {(f.row, f.column, f.seed) for f in results.failures}.isdisjoint(places)
        if over:
            break
    assert (writer.communicate()[1], writer.returncode) == ("", 0)
    assert counts == sorted(counts)
    assert counts[-1] == 8
    assert write_report(folder, formats=("md",), out=tmp_path / "report")[0].exists()
