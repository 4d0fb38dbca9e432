"""
Known keys taken out of many events at once, also where a key is cut into several of them.

``secret.redact_json`` sees one event at a time. A model that repeats a key streams it in deltas, each harmless by
itself, and a key may travel in base64 or percent-encoded: here the deltas of one text are joined before they are
searched, and each known key is searched in every form it may travel in.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from ..secret import REDACTED, Secret, redact_json


__all__ = ["scrub"]

# What tells one streamed text from another: deltas that agree in all of these continue each other.
_TEXT_KEYS = (
    "type",
    "stream_id",
    "response_id",
    "item_id",
    "output_index",
    "content_index",
    "summary_index",
    "command_index",
)
# What is shorter cannot be told from words and field names, and protects nothing.
_MIN_SECRET_CHARACTERS = 6
# A shorter run of base64 turns up by chance.
_MIN_BASE64_CHARACTERS = 8

Event = dict[str, Any]


def scrub(events: Sequence[Event], *secrets: Secret | None) -> list[Event]:
    """
    Return the events without credentials.

    Args:
        events: Events in the order they travelled; they are not changed.
        secrets: Known keys; None and what has less than six characters is passed over. What merely looks like
            a key is removed event by event.
    """
    forms = _forms(secrets)
    cleaned = list(events)
    for text in _texts(events):
        pieces = [_delta(events[index], place) for index, place in text]
        for (index, place), piece in zip(text, _blank(pieces, forms), strict=True):
            cleaned[index] = _with_delta(cleaned[index], place, piece)
    known = [Secret(form) for form in forms]
    return [redact_json(event, *known) for event in cleaned]


def _forms(secrets: Sequence[Secret | None]) -> list[str]:
    """Return every form in which the secrets may travel, the longest first."""
    forms: set[str] = set()
    for secret in secrets:
        value = secret.reveal() if secret else ""
        if len(value) >= _MIN_SECRET_CHARACTERS:
            forms |= {value, quote(value, safe=""), quote(value, safe="").lower()}
            forms |= {json.dumps(value)[1:-1], *_base64_forms(value.encode())}
    return sorted(forms, key=lambda form: (-len(form), form))


def _base64_forms(value: bytes) -> Iterator[str]:
    """
    Yield what base64 makes of the value wherever it stands in a longer text, as in ``user:key``.

    Six bits make a character, so there are three alignments; characters that mix in neighbouring bytes are cut off.
    """
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + value).decode().rstrip("=")
        mixed_at_end = (shift + len(value)) % 3 != 0
        core = text[shift + 1 if shift else 0 : len(text) - mixed_at_end]
        if len(core) >= _MIN_BASE64_CHARACTERS:
            yield core
            yield core.translate(str.maketrans("+/", "-_"))


def _texts(events: Sequence[Event]) -> list[list[tuple[int, str | None]]]:
    """Group the deltas by the text they build: for each text, the events' indices and the place in ``delta``."""
    texts: dict[tuple[Any, ...], list[tuple[int, str | None]]] = {}
    for index, event in enumerate(events):
        delta = event.get("delta")
        if isinstance(delta, (str, dict)):
            name = tuple(str(event.get(key)) for key in _TEXT_KEYS)
            for place in [None] if isinstance(delta, str) else delta:
                if isinstance(_delta(event, place), str):
                    texts.setdefault((*name, place), []).append((index, place))
    return list(texts.values())


def _delta(event: Event, place: str | None) -> Any:
    """Return a delta's text; shell output has one for each of its streams."""
    return event["delta"] if place is None else event["delta"][place]


def _with_delta(event: Event, place: str | None, text: str) -> Event:
    if _delta(event, place) == text:
        return event
    return {**event, "delta": text if place is None else {**event["delta"], place: text}}


def _blank(pieces: list[str], forms: list[str]) -> list[str]:
    """Take each form out of the pieces' joined text; the piece in which it began says that it was there."""
    joined = "".join(pieces)
    spans = [span for form in forms for span in _occurrences(joined, form)]
    if not spans:
        return pieces
    blanked, start = [], 0
    for piece in pieces:
        blanked.append(_outside(joined, start, start + len(piece), _merged(spans)))
        start += len(piece)
    return blanked


def _occurrences(text: str, form: str) -> Iterator[tuple[int, int]]:
    start = text.find(form)
    while start >= 0:
        yield start, start + len(form)
        start = text.find(form, start + 1)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _outside(text: str, start: int, stop: int, spans: list[tuple[int, int]]) -> str:
    """Return ``text[start:stop]`` less what lies in the spans."""
    kept, position = [], start
    for first, last in spans:
        if last > start and first < stop:
            kept.append(text[position : max(position, first)])
            if first >= start:
                kept.append(REDACTED)
            position = min(last, stop)
    return "".join([*kept, text[position:stop]])
