"""What hurts: a server that hangs, forgets a decision, keeps what a client left behind, or gives no reason."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

import made_server
from cello.deploy.limits import FORMATS
from cello.deploy.serve import make_app
from made_server import MadeModel, MadeStream, client, server, wav

SERVE_PAGE = Path(__file__).parents[2] / "docs" / "serve.md"
MP4 = b"\0\0\0\x20ftypM4A \0\0\0\0"


@pytest.mark.parametrize(
    ("kind", "rate_hz"), [("WAV", 16_000), ("FLAC", 44_100), ("OGG", 8_000), ("Opus", 48_000), ("MP3", 16_000)]
)
def test_a_file_is_predicted_as_a_body_and_as_a_form(kind: str, rate_hz: int) -> None:
    content = wav(0.5, rate_hz, kind)
    with client(server()) as http:
        answers = [
            http.post("/predict", content=content),
            http.post("/predict", files={"file": ("../../etc/passwd", content)}),
        ]
    for answer in answers:
        assert answer.status_code == 200
        assert answer.json() == {
            "label": "loud",
            "probability": 0.75,
            "top": [{"label": "loud", "probability": 0.75}, {"label": "<quiet>", "probability": 0.25}],
            "seconds": pytest.approx(0.5, abs=0.001),
        }


REFUSED: list[tuple[bytes, dict[str, str], int, str]] = [
    (b"", {}, 400, "the request has no file"),
    (b"hello, world " * 9, {}, 422, "not audio: a text file"),
    (wav()[:-7], {}, 422, "truncated: the header declares 16000 bytes of samples, the file holds 15993"),
    (wav(0.01), {}, 422, "too short: it has 160 samples"),
    (wav(3.0), {}, 413, "too long: more than 2 s"),
    (bytes(300_000), {}, 413, "the upload is larger than 200000 bytes"),
    (b"x", {"content-type": "multipart/form-data"}, 400, "the form cannot be read"),
    (b"x", {"content-type": "multipart/form-data; boundary=b"}, 400, "the form cannot be read"),
    (b"--b--\r\n", {"content-type": "multipart/form-data; boundary=b"}, 400, "the request has no file"),
    (wav(), {"origin": "http://elsewhere.example"}, 403, "pages of other sites may not use it"),
]


@pytest.mark.parametrize(("content", "headers", "status", "fact"), REFUSED)
def test_what_cannot_be_used_is_answered_with_a_fact_and_a_remedy(
    content: bytes, headers: dict[str, str], status: int, fact: str
) -> None:
    one = server(bytes=200_000, seconds=2)
    with client(one) as http:
        answer = http.post("/predict", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]["fact"].startswith(fact)
    assert answer.json()["error"]["remedy"]
    assert one.files == 0


def test_a_refusal_names_the_forms_that_the_page_and_the_tests_name() -> None:
    assert f"{FORMATS.replace(' or ', ' and ')} are decoded" in SERVE_PAGE.read_text("utf-8")
    with client(server()) as http:
        answers = [http.post("/predict", content=each).json()["error"] for each in (b"hello, world " * 9, MP4)]
    assert answers[0]["remedy"] == "send a whole sound file: WAV, FLAC, OGG, Opus or MP3"
    assert (answers[1]["fact"], answers[1]["remedy"]) == ("MP4", "convert it to WAV or FLAC")


@pytest.mark.parametrize("value", ["0", "1001", "many", ""])
def test_an_invalid_number_of_labels_is_refused_with_the_numbers_that_are_legal(value: str) -> None:
    with client(server()) as http:
        answer = http.post("/predict", params={"top": value}, content=wav())
    assert answer.status_code == 422
    assert answer.json()["error"] == {
        "fact": f"top={value} is invalid: it must be a whole number from 1 to 1000",
        "value": value,
        "remedy": "say how many labels you want, or leave it out for 3",
    }


def test_a_large_body_of_no_declared_length_is_stopped_as_it_comes() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield bytes(1000)

    one = server(bytes=10_000)
    answer = asyncio.run(_asked(one, [{"type": "http.request", "body": part, "more_body": True} for part in endless()]))
    assert answer[0]["status"] == 413
    assert dict(answer[0]["headers"])[b"connection"] == b"close"
    assert one.files == 0


async def _asked(one: made_server.Server, messages: list[Any], waiting_s: float = 0) -> list[Any]:
    """The answer to an upload in these messages; then nothing comes for so long, and the client leaves."""
    sent: list[Any] = []
    left = iter(messages)

    async def receive() -> Any:
        message = next(left, None)
        if message is None:
            await asyncio.sleep(waiting_s)
        return message or {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "query_string": b"",
        "headers": [], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "scheme": "http", "http_version": "1.1",
    }  # fmt: skip
    before = len(asyncio.all_tasks())
    await make_app(one)(scope, receive, send)
    assert len(asyncio.all_tasks()) == before
    return sent


@pytest.mark.parametrize(
    ("limits", "waiting_s", "status", "fact"),
    [
        ({"idle_s": 0.05}, 9, 408, "the upload was not whole after 0.05 s"),
        ({"upload_s": 0.05}, 9, 408, "the upload was not whole after 0.05 s"),
        ({}, 0, 400, "the client left before its upload was whole"),
    ],
)
def test_slow_and_vanishing_uploads_leave_nothing_behind(
    limits: dict[str, float], waiting_s: float, status: int, fact: str
) -> None:
    one = server(**limits)
    answer = asyncio.run(_asked(one, [{"type": "http.request", "body": b"RIFF", "more_body": True}], waiting_s))
    assert answer[0]["status"] == status
    assert json.loads(answer[1]["body"])["error"]["fact"] == fact
    assert one.files == 0


def test_too_many_files_at_once_or_a_minute_are_asked_to_come_again() -> None:
    one = server(a_minute=2)
    with client(one) as http:
        one.files = 8
        busy = http.post("/predict", content=wav())
        one.files = 0
        statuses = [http.post("/predict", content=wav()).status_code for _ in range(2)]
        last = http.post("/predict", content=wav())
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "1")
    assert statuses == [200, 429]
    assert (last.status_code, last.headers["retry-after"]) == (429, "1")
    assert last.json()["error"] == {
        "fact": "too many files came from this address", "value": 2, "remedy": "try again in 30 s",
    }  # fmt: skip


def _pushed(sound: np.ndarray, pieces: list[int], **query: Any) -> list[dict[str, Any]]:
    """All messages of a stream of this sound in pieces of these sizes."""
    asked = "&".join(f"{key}={value}" for key, value in query.items())
    one = server()
    with client(one) as http, http.websocket_connect(f"/stream?{asked}") as socket:
        assert socket.receive_json() == {"type": "ready", "labels": ["loud", "<quiet>"], "rate_hz": 16_000}
        for part in np.split(sound, np.cumsum(pieces)):
            socket.send_bytes(part.tobytes())
        socket.send_text(' {"end": true} ')
        told = [socket.receive_json()]
        while told[-1]["type"] != "end":
            told.append(socket.receive_json())
        assert socket.receive()["code"] == 1000
    assert one.streams == 0
    return told


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_a_stream_brings_every_decision_of_the_same_sound_computed_directly(kind: str) -> None:
    rng = np.random.default_rng(0)
    sound = (rng.uniform(-9000, 9000, 20_000)).astype(np.int16)
    sound = sound if kind == "int16" else (sound / np.float32(32768)).astype(np.float32)
    stream = MadeStream()
    due = stream.push(sound) + stream.finish()
    told = _pushed(sound, list(rng.integers(1, 900, 30)), format=kind, rate_hz=16_000)
    assert told[:-1] == [{"type": "decision", **one._asdict()} for one in due]
    assert told[-1] == {"type": "end", "seconds": 1.25, "decisions": 21}


CLOSED: list[tuple[str, Any, int, str]] = [
    ("", b"abc", 1007, "the message ends within a sample"),
    ("format=float32", struct.pack("<2f", 0.5, float("nan")), 1007, "not finite: it holds NaN or infinite samples"),
    ("format=float32", struct.pack("<2f", 0.5, 9e9), 1007, "its samples go far beyond full scale"),
    ("", "hello", 1003, "the text is not known"),
    ("", "[" * 5000, 1003, "the text is not known"),
    ("", bytes(300_000), 1009, "the message is larger than 262144 bytes"),
    ("rate_hz=8000", bytes(90_000), 1009, "the message holds more than 5 s of sound"),
    ("format=mp3", None, 1008, "the format is not known"),
    ("rate_hz=0", None, 1008, "the sampling rate is not taken"),
    ("rate_hz=1e9", None, 1008, "the sampling rate is not taken"),
    ("rate_hz=" + "9" * 5000, None, 1008, "the sampling rate is not taken"),
]


@pytest.mark.parametrize(("query", "message", "code", "fact"), CLOSED)
def test_a_stream_that_cannot_go_on_says_why_and_is_closed(query: str, message: Any, code: int, fact: str) -> None:
    one = server()
    with client(one) as http, http.websocket_connect(f"/stream?{query}") as socket:
        if message is not None:
            assert socket.receive_json()["type"] == "ready"
            (socket.send_text if isinstance(message, str) else socket.send_bytes)(message)
        told = socket.receive_json()
        assert told["type"] == "error"
        assert told["error"]["fact"].startswith(fact)
        assert told["error"]["remedy"]
        closed = socket.receive()
        assert (closed["code"], closed["reason"][:20]) == (code, fact[:20])
    assert one.streams == 0


def test_one_stream_too_many_is_told_to_come_later_and_the_others_go_on() -> None:
    one = server(streams=2)
    with client(one) as http, http.websocket_connect("/stream") as first, http.websocket_connect("/stream"):
        assert first.receive_json()["type"] == "ready"
        with http.websocket_connect("/stream") as third:
            assert third.receive_json()["error"] == {
                "fact": "too many streams at once", "value": 2, "remedy": "try again later",
            }  # fmt: skip
            assert third.receive()["code"] == 1013
        assert http.get("/health").json()["streams"] == 2
        first.send_bytes(bytes(2000))
        assert first.receive_json()["type"] == "decision"
    assert one.streams == 0


def test_pages_of_other_sites_may_not_open_a_stream() -> None:
    with client(server()) as http:
        with http.websocket_connect("/stream", headers={"origin": "http://elsewhere.example"}) as socket:
            assert socket.receive_json()["error"]["value"] == "http://elsewhere.example"
            assert socket.receive()["code"] == 1008
        with http.websocket_connect("/stream", headers={"origin": "http://testserver"}) as socket:
            assert socket.receive_json()["type"] == "ready"


def test_a_client_that_sends_nothing_is_dropped() -> None:
    one = server(idle_s=0.05)
    with client(one) as http, http.websocket_connect("/stream") as socket:
        assert socket.receive_json()["type"] == "ready"
        assert socket.receive_json()["error"]["fact"] == "no sound came for 0.05 s"
        assert socket.receive()["code"] == 1008
    assert one.streams == 0


def test_a_client_that_does_not_read_or_has_left_leaves_no_stream_and_no_task() -> None:
    async def left(how: str) -> int:
        one = server(idle_s=0.05)
        messages = iter([{"type": "websocket.connect"}, *[{"type": "websocket.receive", "bytes": bytes(4000)}] * 3])

        async def receive() -> Any:
            return next(messages, {"type": "websocket.disconnect", "code": 1006})

        async def send(message: Any) -> None:
            if how == "does not read" and message["type"] != "websocket.accept":
                await asyncio.sleep(60)
            if how == "closed by the protocol" and "decision" in message.get("text", ""):
                raise RuntimeError("Unexpected ASGI message 'websocket.send', after sending 'websocket.close'.")

        scope = {
            "type": "websocket", "path": "/stream", "raw_path": b"/stream", "query_string": b"", "headers": [],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "scheme": "ws", "subprotocols": [],
        }  # fmt: skip
        await make_app(one)(scope, receive, send)
        assert len(asyncio.all_tasks()) == 1
        return one.streams

    for how in ("left", "does not read", "closed by the protocol"):
        assert asyncio.run(left(how)) == 0


def test_a_client_faster_than_real_time_waits_so_that_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cello.deploy.socket_stream.BURST_S", 0.5)
    one = server(speed=10)
    with client(one) as http, http.websocket_connect("/stream") as socket:
        socket.receive_json()
        begin = time.perf_counter()
        for _ in range(3):
            socket.send_bytes(bytes(2 * 16_000))
        socket.send_text('{"end": true}')
        while socket.receive_json()["type"] != "end":
            pass
        assert time.perf_counter() - begin > 0.2


def test_the_page_is_served_with_its_own_policy_and_without_one_there_is_a_page_that_explains() -> None:
    with client(server("<meta csp><p>mine")) as http:
        assert http.get("/").text == "<meta csp><p>mine"
        assert http.get("/").headers["content-security-policy"] == "frame-ancestors 'none'"
        assert http.get("/").headers["x-content-type-options"] == "nosniff"
        assert "/stream?rate_hz" in http.get("/docs").text
    with client(server()) as http:
        assert "loud, &lt;quiet&gt;" in http.get("/").text
        assert http.get("/labels").json() == {"labels": ["loud", "<quiet>"], "rate_hz": 16_000}
        assert http.get("/health").json()["status"] == "ok"
        assert http.get("/../secret").json()["error"]["remedy"] == "see /docs for what can be asked"


def test_a_bug_is_answered_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a secret")

    monkeypatch.setattr(MadeModel, "predict", broken)
    one = server()
    with client(one) as http:
        answer = http.post("/predict", content=wav())
    assert (answer.status_code, "a secret" in answer.text, one.files) == (500, False, 0)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_requests_that_the_description_allows_or_forbids_bring_no_bug_and_no_answer_that_it_does_not_name(
    mode: GenerationMode,
) -> None:
    one = server(a_minute=100_000)
    schema = schemathesis.openapi.from_asgi("/openapi.json", make_app(one))
    paths = set()
    for operation in (found.ok() for found in schema.get_all_operations()):
        try:
            cases = operation.as_strategy(generation_mode=mode)

            @seed(1)
            @settings(max_examples=8, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
            @given(case=cases)
            def check(case: schemathesis.Case) -> None:
                paths.add(case.path)
                case.call_and_validate(excluded_checks=[positive_data_acceptance])  # any bytes are no sound

            check()
        except Unsatisfiable:  # nothing of /labels can be asked wrongly
            pass
    assert "/predict" in paths
    assert one.files == 0


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_damaged_sound_is_predicted_or_refused_and_is_never_a_bug(kind: str) -> None:
    rng = np.random.default_rng(1)
    whole = np.frombuffer(wav(0.2, kind=kind), np.uint8)
    with client(server(a_minute=100_000)) as http:
        for _ in range(60):
            damaged = whole[: rng.integers(len(whole) // 2, len(whole) + 1)].copy()
            places = rng.integers(0, min(len(damaged), 200), rng.integers(0, 4))
            damaged[places] = rng.integers(0, 256, len(places))
            answer = http.post("/predict", content=damaged.tobytes())
            assert answer.status_code in (200, 413, 422), answer.text
