"""Where two JSON values differ, and the error that says so of a request and its recording."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..errors import RecordingMismatchError
from ..secret import Secret
from . import jsoncodec
from .scrub import scrub


__all__ = ["check", "first_difference"]

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


_MISSING = _Missing()  # No JSON value, so equal to none.


def first_difference(expected: Any, actual: Any) -> str | None:
    """
    Return the path of the first place where two JSON values differ, such as ``$.input[0].text``, or None.

    Numbers are compared by value, ``true`` is not ``1``, and the order of an object's keys means nothing.
    """
    found = _difference(expected, actual, "$")
    return found and found[0]


def check(
    expected: dict[str, Any], actual: dict[str, Any], *, secrets: Sequence[Secret | None] = ()
) -> None:
    """
    Hold an event against the recorded one.

    Args:
        expected: The recorded event, already without credentials.
        actual: The event that was sent; its credentials are removed before it is compared.
        secrets: Known keys, as for ``save``.

    Raises:
        RecordingMismatchError: They differ; the message names the first place.
    """
    # Which lane a turn is on is llmws's own choice, and another one on the next run.
    recorded, sent = (
        {name: value for name, value in event.items() if name != "stream_id"}
        for event in (expected, scrub([actual], *secrets)[0])
    )
    found = _difference(recorded, sent, "$")
    if found:
        path, recorded, sent = found
        raise RecordingMismatchError(
            f"The request differs from the recording at {path}: recorded {_short(recorded)}, sent "
            f"{_short(sent)}. Send what was recorded, or record it again.",
            expected=None if recorded is _MISSING else recorded,
            actual=None if sent is _MISSING else sent,
            path=path,
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _difference(expected: Any, actual: Any, path: str) -> tuple[str, Any, Any] | None:
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in {**expected, **actual}:
            step = f".{key}" if _PLAIN_KEY.match(key) else f"[{jsoncodec.encode(key).decode()}]"
            found = _difference(expected.get(key, _MISSING), actual.get(key, _MISSING), path + step)
            if found:
                return found
        return None
    if isinstance(expected, list) and isinstance(actual, list):
        for index in range(max(len(expected), len(actual))):
            pair = [side[index] if index < len(side) else _MISSING for side in (expected, actual)]
            found = _difference(pair[0], pair[1], f"{path}[{index}]")
            if found:
                return found
        return None
    same_kind = isinstance(expected, bool) == isinstance(actual, bool)
    return None if same_kind and expected == actual else (path, expected, actual)
