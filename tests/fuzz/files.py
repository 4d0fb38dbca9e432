"""Recording files and the scrubbing of keys: any file reads or is refused by its line, and no key is saved."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from llmws.errors import RecordingError
from llmws.secret import Secret
from llmws.wire.recording import load, save
from llmws.wire.scrub import scrub
from tests.fuzz import shapes
from tests.fuzz.choices import Choices
from tests.fuzz.events import messages


__all__ = ["any_file", "any_key"]

KEYS = ("Zx9+key/of some=length", 'quo"ted\\key-1', "aaaaaaaa", "schlüssel-123")
FIELDS = (
    "type",
    "stream_id",
    "response_id",
    "item_id",
    "output_index",
    "content_index",
    "summary_index",
)


def any_file(data: bytes) -> None:
    """Read a file as a recording; what reads is saved, unless it nests too deep, and reads the same again."""
    with tempfile.TemporaryDirectory(prefix="llmws-fuzz-", dir=_memory()) as folder:
        path, copy = Path(folder, "a.jsonl"), Path(folder, "b.jsonl")
        path.write_bytes(written(data))
        try:
            recording = load(path)
            recording.parts(), recording.requests(), recording.last_close()
            save(recording, copy)
        except RecordingError as exc:
            refusal = str(exc)
        else:
            refusal = ""
        if refusal:
            assert str(path) in refusal or "nests too deep" in refusal
            return
        assert sum(map(len, recording.parts())) <= len(recording.frames())
        once = load(copy)
        assert len(once.entries) == len(recording.entries)
        save(once, path)
        assert load(path) == once, "a saved recording reads differently the second time"


def written(data: bytes) -> bytes:
    """Return the file that the bytes are, or, if they begin with a high byte, decide."""
    if data[:1] <= b"\x7f":
        return data
    choices = Choices(data[1:])
    lines = [b'{"format":"llmws-recording/1"}']
    while choices.more and len(lines) < 12:
        lines.append(json.dumps(entry(choices)).encode())
    return b"\n".join(lines)


def entry(choices: Choices) -> dict[str, Any]:
    """Build one line, right but for a value here and there."""
    url = choices.one_of(("wss://h/v1", "wss://u:p@h:1/v1?q=1", "wss://[", "//a@b@c", ""))
    line: dict[str, Any] = choices.one_of(
        (
            {"dir": "in", "event": shapes.usual(choices)},
            {"dir": "in", "event": shapes.event(choices)},
            {"dir": "out", "event": {"type": "response.create", "stream_id": "lane"}},
            {"open": {"url": url}},
            {"close": {"code": choices.number(65_536), "reason": "bye"}},
        )
    )
    line["t"] = choices.number(100)
    if choices.number(8) == 7:
        line[choices.one_of(("t", "dir", "event", "open", "close"))] = shapes.any_value(choices, 3)
    return line


def any_key(data: bytes) -> None:
    """Stream a key in pieces between other events; neither a piece of it nor the whole is left."""
    choices = Choices(data)
    key = choices.one_of(KEYS)
    noise = [json.loads(line) for line in messages(b"\xff" + choices.bytes(60))]
    events = [event for event in noise if isinstance(event, dict)]
    where = {name: choices.one_of(("a", 0, None, [])) for name in FIELDS if choices.flag()}
    shell = choices.flag()
    ours: list[int] = []  # Where the pieces stand among the others, in order.
    for text in choices.cuts(f"It is {key}, I say {key}{key}.", (40, 1, 2, 3, 7)):
        after = ours[-1] + 1 if ours else 0
        ours.append(after + choices.number(3) % (len(events) - after + 1))
        events.insert(ours[-1], {**where, "delta": {"stdout": text} if shell else text})
    before = json.dumps(events)
    cleaned = scrub(events, Secret(key), None)
    assert json.dumps(events) == before, "the events given were changed"
    assert len(cleaned) == len(events)
    assert key not in joined([cleaned[index] for index in ours])
    assert json.dumps(key)[1:-1] not in json.dumps(cleaned)


def joined(events: list[dict[str, Any]]) -> str:
    """Join the deltas that are texts, in order, as one who reads the file would."""
    deltas = (event.get("delta") for event in events)
    texts = (delta.get("stdout") if isinstance(delta, dict) else delta for delta in deltas)
    return "".join(text for text in texts if isinstance(text, str))


def _memory() -> str | None:
    """Return a folder in memory, if there is one: thousands of files are written."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
