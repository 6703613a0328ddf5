"""What hurts: a ratio that a drifting machine decides, a record that cannot be read back or saved after all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cello.bench.record import FORMAT, Compiling, Record, Row, can_save, save, summarise
from cello.bench.settings import BenchConfig, Size
from cello.errors import ReportError

TIMES = {"c": [1.0, 20.0, 16.0], "plain": [2.0, 40.0, 8.0]}


def test_a_ratio_is_taken_within_a_round() -> None:
    c, plain = summarise(TIMES, dict.fromkeys(TIMES, 0.0), "c", (16_000_000, 4.0))
    assert (c.ratio, plain.ratio) == (1.0, 2.0)
    assert (plain.milliseconds, plain.least_milliseconds) == (8.0, 2.0)


def test_the_rate_is_of_the_median_and_its_share_of_torchs() -> None:
    c, _ = summarise(TIMES, dict.fromkeys(TIMES, 0.0), "c", (16_000_000, 4.0))
    assert c.gflops == pytest.approx(1.0)
    assert c.gemm_share == pytest.approx(0.25)


def test_a_record_is_read_back_as_it_was(tmp_path: Path) -> None:
    sides = summarise(TIMES, {"c": 1e-7, "plain": 0.0}, "c", (16_000_000, 4.0))
    row = Row(cell="gru", size=Size(1, 2, 3, 4), threads=1, x_gradient=True, flops=5, gemm_gflops=4.0, sides=sides)
    record = Record(
        format=FORMAT,
        machine={"torch": "2"},
        settings=BenchConfig(cells=("gru",)),
        reference="c",
        unavailable={},
        without_peer=(),
        rows=(row,),
        compiling=(Compiling(cell="gru", backend="c", new_seconds=None, cached_seconds=0.1),),
    )
    save(record, tmp_path / "record.json")
    assert msgspec.json.decode((tmp_path / "record.json").read_bytes(), type=Record) == record


def test_whether_it_can_be_saved_is_known_before_measuring(tmp_path: Path) -> None:
    can_save(tmp_path / "new" / "record.json")
    assert [*(tmp_path / "new").iterdir()] == []
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "record.json"):
        with pytest.raises(ReportError, match=rf"cannot be saved as {path}: .*Give another file with --out\."):
            can_save(path)
