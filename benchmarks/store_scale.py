"""Measure a report and a dry run of a store with 10,000 finished runs: seconds and memory.

    python benchmarks/store_scale.py [--seeds 100] [--rounds 3] [--store DIR] [--out FILE]

The store is made up but valid: 10 models × 10 windows × 100 seeds, each run with 30 epochs, a 12 × 12 confusion matrix
and the predictions of 2,678 test clips, as the studies on Speech Commands leave them; it takes about two minutes and
half a gigabyte, in a temporary folder or, to be used again, in ``--store``. Every command runs in a new process; its
CPU time is what counts, since a busy machine does not change it much, and the wall time stands beside. The least of the
rounds is reported. Memory is the largest resident size of the process.

At the end a report is written over and over while another process finishes runs; each must be whole, and count at
least the runs that were finished before it and at most those that were after it.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cello.bench.record import can_save, save
from cello.study.store import Store

HERE = Path(__file__).parent
OUT = HERE / "results" / f"{date.today()}-store-scale.json"
FORMATS = ("md", "csv", "json", "latex", "html")
EVERY = (*FORMATS, "notebook")
MADE = "store-scale"


def in_a_new_process(*arguments: str) -> dict[str, float]:
    """What a cello command took; it must succeed."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "cello", *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"cello {' '.join(arguments)} ended with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "wall_seconds": round(time.monotonic() - began, 2),
        "memory_mb": round(used.ru_maxrss * unit / 1e6),
    }


def least(rounds: int, *arguments: str) -> dict[str, float]:
    """The round with the least CPU time."""
    return min((in_a_new_process(*arguments) for _ in range(rounds)), key=lambda found: found["cpu_seconds"])


def measure(store: Path, scratch: Path, rounds: int) -> list[dict[str, Any]]:
    """A row for each command."""
    rows: list[dict[str, Any]] = []
    study = ["study", str(store / "study.toml"), "--out", str(store / "store"), "--corpus", MADE, "--dry-run"]
    for name, arguments in (
        ("import", ["--version"]),
        ("dry run", study),
        ("report", ["report", str(store / "store")]),
        ("report, every format", ["report", str(store / "store"), *(p for f in EVERY for p in ("--format", f))]),
        *((f"report {name}", ["report", str(store / "store"), "--format", name]) for name in FORMATS),
        *(
            [("report parquet", ["report", str(store / "store"), "--format", "parquet"])]
            if find_spec("pyarrow")
            else []
        ),
    ):
        place = ["--out", str(scratch)] if arguments[0] == "report" else []
        rows.append({"command": name, **least(rounds, *arguments, *place)})
        say(rows[-1])
    return rows


def while_it_is_written(store: Path, scratch: Path) -> dict[str, float]:
    """Reports while another process finishes runs: how many were written, and how many runs the first and last had."""
    folder = store / "store"
    for path in finished(folder)[::10]:
        path.replace(path.with_name(".later"))
    writer = subprocess.Popen([sys.executable, __file__, "--finish", str(folder)])
    counts = []
    while writer.poll() is None:
        before = len(finished(folder))
        in_a_new_process("report", str(folder), "--format", "csv", "--out", str(scratch))
        after = len(finished(folder))
        counts.append(len((scratch / "runs.csv").read_bytes().splitlines()) - 1)
        if not before <= counts[-1] <= after:
            sys.exit(f"a report counts {counts[-1]} runs, though {before} were finished before it and {after} after")
    return {"reports": len(counts), "first_counts": counts[0], "last_counts": counts[-1]}


def finished(folder: Path) -> list[Path]:
    return sorted(folder.glob("runs/*/result.json"))


def finish(folder: Path) -> None:
    """Finish the runs that were put aside, one by one, as training does: by renaming, with a line in the journal."""
    store = Store.open(folder)
    for path in sorted(folder.glob("runs/*/.later")):
        path.replace(path.with_name("result.json"))
        store.note("finished", path.parent.name)
        time.sleep(0.02)


def say(row: dict[str, Any]) -> None:
    sys.stdout.write(", ".join(f"{name} {value}" for name, value in row.items()) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--store", type=Path, help="where the store is made, or found made; a temporary folder if not")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--finish", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.finish:
        finish(options.finish)
        return
    can_save(options.out)
    with tempfile.TemporaryDirectory() as temporary:
        store, scratch = options.store or Path(temporary) / "made", Path(temporary) / "report"
        if not (store / "whole").exists():
            made = [sys.executable, str(HERE / "store_scale_made.py"), str(store), str(options.seeds)]
            subprocess.run(made, check=True)  # its memory is not to be inherited by what is measured
        runs = len(finished(store / "store"))
        say({"runs": runs})
        found = {
            "runs": runs,
            "rounds": options.rounds,
            "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
            "rows": measure(store, scratch, options.rounds),
            "while_written": while_it_is_written(store, scratch),
        }
        say(found["while_written"])
        save(found, options.out)


if __name__ == "__main__":
    main()
