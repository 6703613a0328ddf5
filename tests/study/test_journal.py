"""A journal that loses or invents events after a crash would misreport a study's history."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cello.files import unseal_json
from cello.study.journal import Event, append, replay

EVENTS = st.builds(
    Event,
    event=st.sampled_from(["started", "finished", "failed"]),
    run=st.text(alphabet="0123456789abcdef", min_size=1, max_size=4),
    time=st.floats(0, 2e9),
    pid=st.integers(1, 2**22),
    host=st.text(max_size=4),
    reason=st.text(max_size=12),
)


def check_cut(path: Path, whole: bytes, kept: list[Event], cut: int, later: Event) -> None:
    path.write_bytes(whole[:cut])
    assert list(replay(path)) == kept
    append(path, later)
    assert list(replay(path)) == [*kept, later]


@settings(max_examples=50, deadline=None)
@given(events=st.lists(EVENTS, min_size=1, max_size=3), later=EVENTS, data=st.data())
def test_cut_anywhere_and_mended_it_loses_only_the_torn_event(
    events: list[Event], later: Event, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        ends = []
        for event in events:
            append(path, event)
            ends.append(path.stat().st_size)
        cut = data.draw(st.integers(0, ends[-1]))
        kept = [event for event, end in zip(events, ends, strict=True) if end - 1 <= cut]
        check_cut(path, path.read_bytes(), kept, cut, later)


def test_cut_at_every_byte_and_mended_it_loses_only_the_torn_event(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first, second = (Event(event="failed", run=run, time=1.5, pid=7, host="h", reason="Ω") for run in "ab")
    append(path, first)
    end = path.stat().st_size
    append(path, second)
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        kept = [first, second][: (cut >= end - 1) + (cut >= len(whole) - 1)]
        check_cut(path, whole, kept, cut, second)


def test_a_missing_journal_is_an_empty_history(tmp_path: Path) -> None:
    assert replay(tmp_path / "journal.jsonl") == ()


def test_a_line_of_any_rubbish_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    event = Event(event="failed", run="a", time=1.0, pid=2, host="h", reason="line\nbreak, Ω")
    append(path, event)
    path.write_bytes(b"\x00\xff{]\n" + path.read_bytes() + b'{"event":"exploded","run":"a"}\n{"event":"fin')
    append(path, event)
    with pytest.warns(UserWarning, match=r"journal\.jsonl: 2 of its lines \(1, 3\) cannot be read .*no result$"):
        assert replay(path) == (event, event)
    assert path.read_bytes().count(b"\n") == 4


def test_a_changed_line_is_passed_over_with_a_word_and_one_without_a_checksum_counts(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first, second = (Event(event="failed", run=run, time=1.5, pid=7, host="h", reason="why") for run in "ab")
    append(path, first)
    append(path, second)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"why", b"who", 1))
    with pytest.warns(UserWarning, match=r"journal\.jsonl: 1 of its lines \(1\) cannot be read and count as not writ"):
        assert replay(path) == (second,)
    path.write_bytes(b"".join(unseal_json(line) + b"\n" for line in whole.splitlines()))
    assert replay(path) == (first, second)


@pytest.mark.parametrize("rubbish", [b"\xc9", b"[" * 100_000, b'{"time":1e999}', b'{"event":3}', b"9" * 5000])
def test_no_line_stops_the_reading_of_others(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    event = Event(event="failed", run="a", time=1.5, pid=7, host="É", reason="why")
    append(path, event)
    path.write_bytes(rubbish + b"\n" + path.read_bytes())
    with pytest.warns(UserWarning, match="1 of its lines"):
        assert replay(path) == (event,)


def test_nothing_is_appended_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("export A=1\n")
    (tmp_path / "journal.jsonl").symlink_to(tmp_path / "profile")
    with pytest.raises(OSError, match="symbolic"):
        append(tmp_path / "journal.jsonl", Event(event="failed", run="a", time=1.5, pid=7, host="h"))
    assert (tmp_path / "profile").read_text() == "export A=1\n"
