"""
A conversation as plain JSON, so that it can lie in a cache or a database and go on in another process.

Keys are not part of it: what looks like one in the settings, such as the headers of an MCP server, is left out, and has
to be given again.

What the server has counts only for the items that it was made of. So a digest of them is saved too, and items that were
changed meanwhile are a history that was edited.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from ...errors import ConfigurationError
from ...secret import REDACTED, redact_json
from ..sending.continuation import Anchor, Sent
from ..sending.settings import Settings
from ..tools.pending import Item
from ..tools.replay import input_items
from ..vocabulary.items import Usage
from ..vocabulary.views import shorten
from .chain import Chain, TurnRecord


__all__ = ["Saved", "dumped", "loaded"]

_FORMAT = "llmws-conversation/1"
_COUNTS = [field.name for field in attrs.fields(Usage) if field.name != "raw"]


@attrs.frozen(kw_only=True)
class Saved:
    """
    What was read of a saved conversation.

    Attributes:
        settings: The conversation's own fields, those left out that hold something secret.
        secret: Where in the settings something secret was left out, by field.
        chain: Its transcript and what goes with it.
    """

    settings: dict[str, Any]
    secret: dict[str, str]
    chain: Chain


def dumped(chain: Chain, settings: Settings) -> dict[str, Any]:
    """
    Return a conversation as plain JSON.

    Args:
        chain: Its state between two turns.
        settings: Its own fields, without the session's.

    Raises:
        ConfigurationError: A setting nests too deep.
    """
    items = chain.items()
    marks = {id(record): end for record, end in chain.marks}
    parent = chain.parent
    return {
        "format": _FORMAT,
        "settings": _without_secrets(settings.decoded()),
        "items": [item.raw for item in items],
        "digest": _digest(items),
        "steers": [item.raw for item in chain.steers],
        "response_id": chain.response_id,
        "parent": None
        if parent is None
        else {
            "response_id": parent[0].response_id,
            "stored": parent[0].stored,
            "settings": dict(parent[1]),
        },
        "turns": [{**_record(record), "items": marks.get(id(record))} for record in chain.records],
        "usage": _counts(chain.usage),
    }


def _digest(items: Iterable[Item]) -> str:
    """
    Return what tells these items from any others.

    A database may give back members in another order, and a number such as 1.0 as 1: that changes nothing.
    """
    digest = hashlib.sha256()
    for item in items:
        value = json.loads(item.data, parse_float=_number)
        digest.update(json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()[:32]


def _number(digits: str) -> float:
    number = float(digits)
    return int(number) if number.is_integer() else number


def _record(record: TurnRecord) -> dict[str, Any]:
    return {
        "response_id": record.response_id,
        "status": record.status,
        "sent": record.sent and attrs.asdict(record.sent),
        "usage": record.usage and _counts(record.usage),
        "error": record.error,
    }


def _counts(usage: Usage) -> dict[str, int]:
    return {name: getattr(usage, name) for name in _COUNTS}


def _without_secrets(settings: dict[str, Any]) -> dict[str, Any]:
    try:
        cleaned: dict[str, Any] = _headers_hidden(redact_json(settings))
    except RecursionError:
        # It could be written and sent; but what was not looked through may hold a key.
        raise ConfigurationError(
            f"The conversation cannot be saved: one of its settings ({', '.join(sorted(settings))}) nests too deep to "
            "be searched for secrets."
        ) from None
    return cleaned


def _headers_hidden(value: Any) -> Any:
    """Leave out the values of headers, whatever they are called."""
    if isinstance(value, list):
        return [_headers_hidden(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: dict.fromkeys(each, REDACTED)
        if name == "headers" and isinstance(each, dict)
        else _headers_hidden(each)
        for name, each in value.items()
    }


def loaded(data: object) -> Saved:
    """
    Read what ``dumped`` returned.

    Raises:
        ConfigurationError: It is something else; the message says where.
    """
    top = _Reader(data, "data")
    if top.get("format", str) != _FORMAT:
        raise ConfigurationError(
            f"data['format'] is {top.value.get('format')!r}: this version of llmws reads {_FORMAT!r}."
        )
    settings = _settings(top.get("settings", dict))
    secret = {name: path for name in settings for path in _redacted(settings[name], f"{name}")}
    items = input_items(top.get("items", list), "data['items']")
    chain = Chain(items, "restored")
    chain.steers = input_items(top.get("steers", list, []), "data['steers']")
    _load_turns(chain, top)
    chain.usage = _usage(top.reader("usage"))
    chain.response_id = top.get("response_id", str, None)
    if top.value.get("parent") is not None:
        _load_parent(chain, top.reader("parent"))
    if top.get("digest", str) != _digest(items):
        # As replace_items() has it: later the server would refuse it.
        Chain.check(items, "data['items']")
        chain.replace(items, "history edited")
    kept = {name: value for name, value in settings.items() if name not in secret}
    return Saved(settings=kept, secret=secret, chain=chain)


def _settings(settings: dict[Any, Any]) -> dict[str, Any]:
    for name in settings:
        if not isinstance(name, str):
            raise ConfigurationError(
                f"data['settings'] has the key {shorten(name)}, which is no string: give what to_dict() returned."
            )
    return dict(settings)


def _load_parent(chain: Chain, parent: _Reader) -> None:
    """Go on from the parent if the server keeps it: what a connection cached, or was steered with, is gone with it."""
    digests = parent.get("settings", dict)
    if parent.get("stored", bool) and not chain.steers:
        chain.resume(Anchor(parent.get("response_id", str), 0, stored=True), digests)


def _load_turns(chain: Chain, top: _Reader) -> None:
    for turn in top.readers("turns"):
        record = TurnRecord(
            response_id=turn.get("response_id", str, None),
            status=turn.get("status", str, None),
            sent=_sent(turn.reader("sent")) if turn.value.get("sent") is not None else None,
            usage=_usage(turn.reader("usage")) if turn.value.get("usage") is not None else None,
            error=turn.get("error", str, None),
        )
        chain.records.append(record)
        end = turn.get("items", int, None)
        if end is not None and 0 < end <= len(chain.transcript):
            chain.marks.append((record, end))


def _sent(sent: _Reader) -> Sent:
    kind = sent.get("kind", str)
    numbers = (sent.get(name, int) for name in ("items", "bytes", "saved_bytes"))
    return Sent("delta" if kind == "delta" else "full", sent.get("reason", str), *numbers)


def _usage(usage: _Reader) -> Usage:
    return Usage(**{name: usage.get(name, int) for name in _COUNTS})


def _redacted(value: Any, path: str) -> Iterator[str]:
    """Yield where something was left out."""
    if isinstance(value, str) and REDACTED in value:
        yield path
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _redacted(each, f"{path}.{name}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _redacted(each, f"{path}[{index}]")


_REQUIRED: Any = object()


class _Reader:
    """An object of the saved JSON, and where it is."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, Mapping):
            raise ConfigurationError(
                f"{path} is of type {type(value).__name__}: give what to_dict() returned."
            )
        self.value = value
        self._path = path

    def get(self, name: str, kind: type, default: Any = _REQUIRED) -> Any:
        value = self.value.get(name)
        if value is None and default is not _REQUIRED:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ConfigurationError(
                f"{self._path}[{name!r}] is of type {type(value).__name__}, not {kind.__name__}: "
                "give what to_dict() returned."
            )
        return value

    def reader(self, name: str) -> _Reader:
        return _Reader(self.value.get(name), f"{self._path}[{name!r}]")

    def readers(self, name: str) -> list[_Reader]:
        return [
            _Reader(each, f"{self._path}[{name!r}][{index}]")
            for index, each in enumerate(self.get(name, list))
        ]
