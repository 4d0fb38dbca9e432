"""
Recordings: files of what travelled on a connection, to be read, written, compared and played again.

The format is JSON Lines, ``llmws-recording/1``. A header comes first, then one entry a line, as seen by the client::

    {"format":"llmws-recording/1","api":"responses","source":"live","recorded_at":"2026-…","llmws":"0.1.0"}
    {"t":0.0,"open":{"url":"wss://api.openai.com/v1/responses"}}
    {"t":0.001,"dir":"out","event":{"type":"response.create", …}}
    {"t":0.143,"dir":"in","event":{"type":"response.created", …}}
    {"t":2.5,"close":{"code":1000,"reason":""}}

``t`` is in seconds. There are no handshake headers, no queries of URLs and no keys in a recording.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import attrs

from ..errors import RecordingError, RecordingNotFoundError
from ..secret import Secret, redact
from ..version import __version__
from . import jsoncodec
from .differences import check, first_difference
from .parts import split
from .scrub import scrub


__all__ = [
    "FORMAT",
    "Close",
    "Entry",
    "Frame",
    "Open",
    "Recorder",
    "Recording",
    "check",
    "first_difference",
    "load",
    "save",
]

FORMAT = "llmws-recording/1"

# Any time is below this, and such numbers are exact.
_LONGEST_SECONDS = 2**53

Event = dict[str, Any]


@attrs.frozen
class Open:
    """A socket was opened, ``t`` seconds into the recording; the URL has no query and no credentials."""

    t: float
    url: str


@attrs.frozen
class Frame:
    """One event on the wire; ``direction`` is ``in`` from the server, ``out`` to it."""

    t: float
    direction: Literal["in", "out"]
    event: Event


@attrs.frozen
class Close:
    """The socket was closed; the code is 1006 if it broke without a close frame."""

    t: float
    code: int
    reason: str


Entry = Frame | Open | Close


@attrs.frozen(kw_only=True)
class Recording:
    """
    What a recording file holds. Immutable; safe to share between threads.

    Attributes:
        api: Which API it is of, such as ``responses``.
        source: ``live`` or ``synthetic``.
        recorded_at: When, in ISO 8601, or None if not known.
        llmws: The version of llmws that recorded it; empty for a file of bare events.
        entries: Sockets opened and closed, and the frames between, in order.
    """

    api: str = "responses"
    source: str = "synthetic"
    recorded_at: str | None = None
    llmws: str = __version__
    entries: tuple[Entry, ...] = attrs.field(default=(), repr=False)

    @classmethod
    def of_events(cls, events: Iterable[Event]) -> Recording:
        """Return a recording of server events alone, without times."""
        return cls(llmws="", entries=tuple(Frame(0.0, "in", event) for event in events))

    def frames(self) -> list[Frame]:
        """Return the frames both ways, in order."""
        return [entry for entry in self.entries if isinstance(entry, Frame)]

    def requests(self) -> list[Event]:
        """Return the events that the client sent."""
        return [frame.event for frame in self.frames() if frame.direction == "out"]

    def parts(self) -> list[list[Event]]:
        """Return the server's events, one list for each create that they answer."""
        return split((frame.direction, frame.event) for frame in self.frames())

    def last_close(self) -> Close | None:
        """Return how the last socket ended, or None if the recording does not say."""
        return next((entry for entry in reversed(self.entries) if isinstance(entry, Close)), None)


def load(path: str | os.PathLike[str]) -> Recording:
    """
    Read a recording, or a file with one bare server event a line.

    Raises:
        RecordingNotFoundError: There is no such file.
        RecordingError: A line is wrong, and the message has its number; or the file cannot be read.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise RecordingNotFoundError(
            f"There is no recording {os.fspath(path)}. Make one: run the turns against the API inside of "
            f"`with llmws.testing.record(session, {os.fspath(path)!r}):`."
        ) from None
    except OSError as exc:  # A directory, or somebody else's file.
        reason = exc.strerror or exc
        raise RecordingError(f"The recording {os.fspath(path)} cannot be read: {reason}.") from exc
    lines = [
        (n, _parsed(path, n, line)) for n, line in enumerate(data.split(b"\n"), 1) if line.strip()
    ]
    if not lines:
        raise RecordingError(f"The recording {os.fspath(path)} is empty: record it again.")
    first = lines[0][1]
    if "format" not in first:
        events = [_event(path, number, line) for number, line in lines]
        return Recording.of_events(events)
    if first["format"] != FORMAT:
        raise _bad(path, 1, f"has the format {first['format']!r}; this llmws reads {FORMAT!r}")
    return Recording(
        api=str(first.get("api", "responses")),
        source=str(first.get("source", "synthetic")),
        recorded_at=first.get("recorded_at"),
        llmws=str(first.get("llmws", "")),
        entries=tuple(_entry(path, number, line) for number, line in lines[1:]),
    )


def _bad(path: str | os.PathLike[str], number: int, fault: str) -> RecordingError:
    return RecordingError(f"{os.fspath(path)}, line {number} {fault}. Mend it or record it again.")


def _parsed(path: str | os.PathLike[str], number: int, line: bytes) -> dict[str, Any]:
    try:
        value = jsoncodec.decode(line)
    except jsoncodec.JSONError as exc:
        raise _bad(path, number, str(exc)) from exc
    if not isinstance(value, dict):
        raise _bad(path, number, "is no JSON object")
    return value


def _event(path: str | os.PathLike[str], number: int, value: Any) -> Event:
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise _bad(path, number, "has no event, or an event without a type")
    return value


def _entry(path: str | os.PathLike[str], number: int, line: dict[str, Any]) -> Entry:
    t = line.get("t")
    if isinstance(t, bool) or not isinstance(t, (int, float)) or abs(t) > _LONGEST_SECONDS:
        raise _bad(path, number, "has no time t in seconds")
    match line:
        case {"event": event, "dir": "in" | "out" as direction}:
            return Frame(float(t), direction, _event(path, number, event))
        case {"open": {"url": str(url)}}:
            return Open(float(t), url)
        case {"close": {"code": int(code), **rest}}:
            return Close(float(t), code, str(rest.get("reason", "")))
    raise _bad(path, number, "is neither an event with its dir, nor an open, nor a close")


def save(
    recording: Recording, path: str | os.PathLike[str], *, secrets: Sequence[Secret | None] = ()
) -> None:
    """
    Write a recording, whole or not at all, readable by its owner only.

    Args:
        recording: What to write; every credential in it is removed on the way.
        path: The file, replaced if it exists; missing folders are made.
        secrets: Known keys, removed even where they are cut into several deltas or encoded.

    Raises:
        RecordingError: An event nests too deep to be searched for keys, or to be written.
        OSError: The file cannot be written; an older file is then untouched.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        lines = [jsoncodec.encode(line) + b"\n" for line in _lines(_clean(recording, secrets))]
    except jsoncodec.JSONError as exc:
        raise RecordingError(f"An event cannot be recorded: {exc}.") from exc
    # mkstemp gives mode 0600, and the same folder makes the replacement atomic.
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(lines)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _lines(recording: Recording) -> Iterable[dict[str, Any]]:
    header = attrs.asdict(recording, filter=attrs.filters.exclude("entries"))
    yield {"format": FORMAT, **header}
    for entry in recording.entries:
        t = round(entry.t, 6)
        match entry:
            case Frame():
                yield {"t": t, "dir": entry.direction, "event": entry.event}
            case Open():
                yield {"t": t, "open": {"url": entry.url}}
            case Close():
                yield {"t": t, "close": {"code": entry.code, "reason": entry.reason}}


def _clean(recording: Recording, secrets: Sequence[Secret | None]) -> Recording:
    try:
        events = iter(scrub([frame.event for frame in recording.frames()], *secrets))
    except RecursionError:
        words = "An event nests too deep to be searched for keys, so the recording cannot be given away."
        raise RecordingError(words) from None
    entries: list[Entry] = []
    for entry in recording.entries:
        match entry:
            case Frame():
                entries.append(attrs.evolve(entry, event=next(events)))
            case Open():
                entries.append(attrs.evolve(entry, url=redact(_bare_url(entry.url), *secrets)))
            case Close():
                entries.append(attrs.evolve(entry, reason=redact(entry.reason, *secrets)))
    return attrs.evolve(recording, entries=tuple(entries))


def _bare_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:  # No URL at all, so that nobody knows where a key would stand in it.
        return ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class Recorder:
    """
    A tap that a connection feeds, and that gives a recording.

    One thread feeds it (the connection's I/O thread); any thread may take the recording at any time.

    Args:
        api: Which API the connection speaks.
        source: ``live``, or ``synthetic`` if the peer is made up.
        recorded_at: When, in ISO 8601; None takes this moment.
        secrets: Known keys, or what gives them when a recording is taken; removed in whatever form they travel.
    """

    def __init__(
        self,
        *,
        api: str = "responses",
        source: str = "live",
        recorded_at: str | None = None,
        secrets: Sequence[Secret | None] | Callable[[], Iterable[Secret]] = (),
    ) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._header = Recording(api=api, source=source, recorded_at=recorded_at or now)
        self._secrets = secrets if callable(secrets) else lambda: secrets
        # Only ever appended to, so a reader's copy of it is a prefix: no lock is needed.
        self._entries: list[Entry] = []

    def opened(self, t: float, url: str) -> None:
        """Note a new socket; ``t`` is in seconds on any clock that only goes forward."""
        self._entries.append(Open(t, url))

    def received(self, t: float, raw: Event) -> None:
        """Note an event from the server; the dict must not be changed afterwards."""
        self._entries.append(Frame(t, "in", raw))

    def sent(self, t: float, raw: Event) -> None:
        """Note an event to the server; the dict must not be changed afterwards."""
        self._entries.append(Frame(t, "out", raw))

    def closed(self, t: float, code: int, reason: str) -> None:
        """Note the socket's end."""
        self._entries.append(Close(t, code, reason))

    def recording(self) -> Recording:
        """Return what was noted so far, without credentials, its times counted from the first entry."""
        entries = tuple(self._entries)
        start = entries[0].t if entries else 0.0
        moved = tuple(attrs.evolve(entry, t=entry.t - start) for entry in entries)
        return _clean(attrs.evolve(self._header, entries=moved), tuple(self._secrets()))

    def __repr__(self) -> str:
        return f"Recorder({self._header.api!r}, {len(self._entries)} entries)"
