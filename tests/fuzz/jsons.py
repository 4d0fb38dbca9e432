"""JSON: msgspec's path and the definition give the same values and the same errors, and what is read can be written."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from unittest import mock

from llmws.wire import jsoncodec
from llmws.wire.jsoncodec import JSONError, decode, decode_all, encode


__all__ = ["any_json", "any_texts", "assert_same", "outcome", "typed"]


def any_json(data: bytes) -> None:
    """Read any bytes both ways; if they are JSON, write them and read them back."""
    assert_same(data)
    assert outcome(decode, bytearray(data)) == outcome(decode, data)
    try:
        value = decode(data)
    except JSONError:
        return
    written = encode(value)
    assert typed(decode(written)) == typed(value), "what was written reads differently"
    assert typed(json.loads(written)) == typed(value), "another reader reads it differently"


def any_texts(data: bytes) -> None:
    """Read many texts in one go, with msgspec and without; it is as if each had been read by itself."""
    texts: list[bytes | bytearray] = [*data.split(b"\n")]
    expected = [outcome(decode, text) for text in texts]
    refused = [each for each in expected if isinstance(each, str)]
    for fast in (jsoncodec._fast, None):
        with mock.patch.object(jsoncodec, "_fast", fast):
            found = outcome(decode_all, texts)
        assert found == (refused[0] if refused else expected)


def outcome(read: Callable[[Any], Any], data: Any) -> Any:
    """Return what reading gives, an error by its words."""
    try:
        return typed(read(data))
    except JSONError as exc:
        return f"JSONError: {exc}"


def typed(value: Any) -> Any:
    """Make values comparable by type too: 1 is not 1.0 nor True, 0.0 is not -0.0."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}, list(value)
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value).__name__, repr(value)


def assert_same(data: bytes | bytearray | memoryview) -> None:
    """Read the same bytes by the fast path and by the definition."""
    assert outcome(decode, data) == outcome(jsoncodec._decode_by_definition, data)
