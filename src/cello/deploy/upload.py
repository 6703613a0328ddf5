"""Receive an uploaded file into memory, within its limits; nothing of it is written, and its name is never used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from cello.deploy.limits import Limits, RefusedError

DISCARD_S = 1.0
"""Time for which the rest of an upload that is too large is taken and thrown away."""
_FORM = "send the file as the whole body, or as multipart/form-data in a field named file"


async def uploaded(request: Request, limits: Limits) -> bytes:
    """The file of a request, which is its whole body or the field ``file`` of a form.

    Raises:
        RefusedError: it is too large, too slow, missing or no form.
    """
    content = await _body(request, limits)
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind.lower() == b"multipart/form-data":
        content = _file_of(content, options.get(b"boundary", b""))
    if not content:
        raise RefusedError(400, "the request has no file", 0, _FORM)
    return content


async def _body(request: Request, limits: Limits) -> bytes:
    stream = request.stream().__aiter__()
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limits.bytes):
        await _discard(stream, limits)
        raise _too_large(declared[:20], limits)
    received = bytearray()
    try:
        async with asyncio.timeout(limits.upload_s) as whole:
            while len(received) <= limits.bytes:
                async with asyncio.timeout(limits.idle_s):
                    received += await anext(stream)
    except StopAsyncIteration:
        return bytes(received)
    except TimeoutError:
        waited = limits.upload_s if whole.expired() else limits.idle_s
        raise RefusedError(
            408, f"the upload was not whole after {waited:g} s", len(received), "send it faster"
        ) from None
    except ClientDisconnect:
        raise RefusedError(400, "the client left before its upload was whole", len(received), "send it again") from None
    await _discard(stream, limits)
    raise _too_large(len(received), limits)


async def _discard(stream: AsyncIterator[bytes], limits: Limits) -> None:
    """Take some of the rest of an upload, as a client that is cut off while it sends never reads the answer."""
    taken = 0
    with suppress(TimeoutError, StopAsyncIteration, ClientDisconnect):
        async with asyncio.timeout(DISCARD_S):
            while taken < 4 * limits.bytes:
                taken += len(await anext(stream))


def _too_large(size: int | str, limits: Limits) -> RefusedError:
    return RefusedError(
        413, f"the upload is larger than {limits.bytes} bytes", int(size), "send a shorter or compressed file"
    )


class _Form:
    """Takes the field ``file`` out of a form as its parser comes by."""

    def __init__(self) -> None:
        self.content: bytearray | None = None
        self._field, self._value, self._wanted = bytearray(), bytearray(), False

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_part_data": self._data,
        }

    def _begin(self) -> None:
        self._wanted = False

    def _header(self) -> None:
        if self._field.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._wanted = options.get(b"name") == b"file" and self.content is None
            if self._wanted:
                self.content = bytearray()
        self._field.clear()
        self._value.clear()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted and self.content is not None:
            self.content += data[start:end]


def _file_of(body: bytes, boundary: bytes) -> bytes:
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except (MultipartParseError, ValueError) as error:
        raise RefusedError(400, f"the form cannot be read: {error}", len(body), _FORM) from error
    return bytes(form.content or b"")
