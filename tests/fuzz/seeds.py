"""Where each fuzzer starts: real traffic, cut from the recordings, and the corners that no one stumbles upon."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmws.wire.framing import BINARY, CONTINUATION, PING, TEXT, encode, encode_close


__all__ = [
    "answers",
    "decisions",
    "event_files",
    "json_texts",
    "recording_files",
    "text_files",
    "wires",
    "words",
]

RECORDINGS = Path(__file__).resolve().parents[2] / "recordings" / "responses"
# Of a long recording its beginning is enough: the rest is more of the same.
MOST_LINES = 60
CORNERS = (
    b'{"type":"response.created","response":{"id":"r"}}',
    b'{"type":"error","status":"429","error":{"code":"rate_limit_exceeded","message":"try again in 1.5s"}}',
    b'{"type":"response.failed","response":{"status":"failed","error":{"code":"x"},"output":null}}',
    b'"\\ud83d\\ude00\\ud83d"',
    b"[[[[1e308,-0.0,1E5]]]]",
    b"123456789012345678901234567890",
    b"\xef\xbb\xbf{}",
    b'{"a":1,"a":2}',
)
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


def recording_files() -> Iterator[bytes]:
    """Yield recordings as files."""
    for path in sorted(RECORDINGS.glob("*.jsonl")):
        yield b"".join(path.read_bytes().splitlines(keepends=True)[:MOST_LINES])
    yield b"\n".join(CORNERS[:3])
    yield b'{"format":"llmws-recording/1"}\n{"t":1,"close":{"code":1006,"reason":""}}\n'
    yield from (b"\xff" + data for data in decisions())


def json_texts() -> Iterator[bytes]:
    """Yield the events of the recordings, each kind once, and the corners of JSON."""
    seen: set[str] = set()
    for text in _events():
        kind = json.loads(text).get("type", "")
        if kind not in seen:
            seen.add(kind)
            yield text
    yield from CORNERS


def text_files() -> Iterator[bytes]:
    """Yield inputs of ``tests.fuzz.jsons.any_texts``: JSON texts, a line each, not all of them whole."""
    texts = [text for text in json_texts() if len(text) < 200]
    yield from (b"\n".join(texts[at : at + 3]) for at in range(0, len(texts), 3))
    yield from (b"[1\n2]", b'"a\nb"', b"1,2\n3", b"\n", b"1\n[]\n{}\n", b'"\xe2\x82\n\xac"')


def event_files() -> Iterator[bytes]:
    """Yield inputs of ``tests.fuzz.events``: lines of events, and decisions that build some."""
    for path in sorted(RECORDINGS.glob("*.jsonl")):
        texts = list(_events_of(path))
        yield b"\0" + b"\n".join(texts[:6] + texts[-1:])
    yield b"\0" + b"\n".join(CORNERS)
    for data in decisions():
        yield b"\xff" + data


def wires() -> Iterator[bytes]:
    """Yield inputs of ``tests.fuzz.framings.any_bytes``: a head of eight bytes, and frames."""
    texts = list(json_texts())
    for flag, mask in ((0, None), (1, b"\x01\x02\x03\x04")):
        head = bytes((flag, 2, 0, 1, 2, 3, 4, 5))
        yield head + b"".join(bytes(encode(TEXT, text[:120], mask=mask)) for text in texts[:4])
        parts = (
            encode(TEXT, b"a\xe2", mask=mask, fin=False),
            encode(PING, b"ping", mask=mask),
            encode(CONTINUATION, b"\x82\xac", mask=mask),
            encode(BINARY, b"x" * 130, mask=mask),
            encode_close(1001, "going away", mask=mask),
        )
        yield head + b"".join(map(bytes, parts))
    yield _fragments()


def _fragments() -> bytes:
    """Return as many fragments as may be, and one more, whose length is bad too: which fault is told first?"""
    head = bytes((0, 1, 1, 0, 0, 0, 0, 0))
    return head + b"\x01\x00" + b"\x00\x00" * 2 + b"\x80\x7f\x80" + bytes(7)


def answers() -> Iterator[bytes]:
    """Yield inputs of ``tests.fuzz.heads``: four bytes of cutting, and what a server answers to an upgrade."""
    cutting = b"\0\1\2\3"
    yield cutting + UPGRADED + b"Sec-WebSocket-Accept: @A\r\nX-Request-Id: r\r\n\r\n\x81\x02{}"
    yield cutting + UPGRADED + b"Sec-WebSocket-Accept: @A\r\nSec-WebSocket-Protocol: x\r\n\r\n"
    yield cutting + UPGRADED + b"Sec-WebSocket-Accept: wrong\r\nSet-Cookie: a=b\r\n\r\n"
    yield cutting + b"HTTP/1.1 401 No\r\nContent-Length: 11\r\n\r\nbad key: @K"
    body = b'b\r\n{"error":"@\r\n4;x=y\r\nK"}!\r\n0\r\n\r\n'
    yield cutting + b"HTTP/1.0 429\nTransfer-Encoding: chunked\nRetry-After: 2\n\n" + body
    yield cutting + b"HTTP/1.1 302 Found\r\nLocation: https://@K@other.example/?key=@K\r\n\r\n"
    yield cutting + b"SSH-2.0-x\r\n"


def decisions() -> Iterator[bytes]:
    """Yield inputs for what reads nothing but decisions."""
    for number in range(12):
        yield random.Random(number).randbytes(30 * (number + 1))


def words() -> list[bytes]:
    """Return the names and marks of the wire, for a fuzzer to put in."""
    found: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            found.update(value)
            if isinstance(value.get("type"), str):
                found.add(value["type"])
            for item in value.values():
                collect(item)
        elif isinstance(value, list):
            for item in value:
                collect(item)

    for text in _events():
        collect(json.loads(text))
    marks = (
        b'":',
        b'{"',
        b'"}',
        b"null",
        b"\\ud83d",
        b"1e999",
        b"\r\n",
        b"@A",
        b"@K",
        b"HTTP/1.1 101 ",
    )
    return [*marks, *sorted(f'"{name}":'.encode() for name in found if len(name) < 60)]


def _events() -> Iterator[bytes]:
    for path in sorted(RECORDINGS.glob("*.jsonl")):
        yield from _events_of(path)


def _events_of(path: Path) -> Iterator[bytes]:
    for line in path.read_bytes().splitlines()[:MOST_LINES]:
        entry = json.loads(line)
        if "event" in entry:
            yield json.dumps(entry["event"], ensure_ascii=False).encode()
