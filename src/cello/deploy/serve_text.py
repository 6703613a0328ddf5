"""Word what a server says of itself: its description, its errors, its page where the model has none."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

DESCRIPTION = (
    "Predict audio files by POST /predict. Endless sound goes to the WebSocket /stream?rate_hz=16000&format=int16 as "
    'binary messages of little-endian samples; decisions come back as JSON, and {"end": true} ends it.'
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "frame-ancestors 'none'",
}
"""Of every answer. The page's own policy stays: where there are two, both hold."""

_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["fact", "value", "remedy"],
            "properties": {"fact": {"type": "string"}, "value": {}, "remedy": {"type": "string"}},
        }
    },
}
_REASONS = {
    400: "No file, or a form that cannot be read",
    403: "A page of another site",
    408: "The upload took too long",
    413: "Too many bytes, or too much sound",
    422: "Not usable sound, or an invalid value",
    429: "Too many files from this address",
    500: "A bug",
    501: "The model cannot do this",
    503: "Too many files at once",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": reason, "content": {"application/json": {"schema": _ERROR}}}
    for status, reason in _REASONS.items()
}
_FILE = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **dict.fromkeys(("audio/wav", "audio/flac", "audio/ogg", "audio/mpeg"), _FILE),
            "application/octet-stream": _FILE,
            "multipart/form-data": {"schema": _FORM},
        },
    }
}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Cello: a model that listens</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:2rem auto;padding:0 1rem}}
pre{{background:#8881;padding:.75rem;overflow-x:auto}}:root{{color-scheme:light dark}}</style></head>
<body><h1>A model that listens</h1>
<p>Labels: {labels}</p>
<h2>Files</h2>
<pre>curl --data-binary @clip.wav http://HOST/predict
curl -F file=@clip.flac "http://HOST/predict?top=5"</pre>
<h2>Endless sound</h2>
<p>Open the WebSocket <code>ws://HOST/stream?rate_hz=16000&amp;format=int16</code>, or <code>format=float32</code>. Send
samples as binary messages, little-endian, one channel. Decisions come as JSON with <code>time_s</code>,
<code>label</code> and <code>score</code>. Send <code>{{"end": true}}</code> for the last ones.</p>
<h2>More</h2>
<p><a href="/labels">/labels</a> · <a href="/health">/health</a> · <a href="/openapi.json">/openapi.json</a></p>
</body></html>
"""


def index_page(labels: Sequence[str]) -> str:
    """A page that tells how to ask a server, with nothing to download and no script."""
    return _PAGE.format(labels=escape(", ".join(labels)))
