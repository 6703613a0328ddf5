"""What hurts: a stored run that a newer Cello no longer recognises, and computes once more."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cello.training.config import NEUTRAL, CorpusRef, RunConfig

STORED = sorted(Path(__file__).parents[2].glob("results/*/*/runs/*/config.json"))


@pytest.mark.skipif(not STORED, reason="no stored runs beside these tests")
def test_every_stored_run_keeps_its_id() -> None:
    for path in STORED:
        assert msgspec.json.decode(path.read_bytes(), type=RunConfig).id == path.parent.name


def test_a_later_setting_is_part_of_the_id_as_soon_as_it_changes_anything() -> None:
    config = RunConfig(corpus=CorpusRef(name="c", checksum="0" * 64))
    ids = {config.id}
    for part, fields in NEUTRAL.items():
        for field, value in fields.items():
            assert getattr(getattr(config, part), field) == value
            changed = msgspec.structs.replace(getattr(config, part), **{field: 0.25})
            ids.add(msgspec.structs.replace(config, **{part: changed}).id)
    assert len(ids) == 1 + sum(map(len, NEUTRAL.values()))
