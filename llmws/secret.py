"""Keys that cannot be printed, and the redaction of text that might hold one."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote


__all__ = ["REDACTED", "Secret", "mask", "redact", "redact_json"]

REDACTED = "[redacted]"

Value = TypeVar("Value")

# What a credential looks like wherever it turns up: OpenAI keys, ephemeral keys, bearer values, key-like query
# parameters. Deliberately greedy: redacting too much costs a debugging session, too little costs a key.
_PATTERNS = (
    re.compile(r"\b(?:sk|ek|rk|sess)[-_][A-Za-z0-9_\-]{6,}"),
    # "Basic arithmetic" is none: a credential has digits, signs or letters of mixed case.
    re.compile(r"(?i)\bbearer\s+(?=\S*[0-9._~+/=-])[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"\b(?i:basic)\s+(?=\S*(?:[0-9+/=]|[a-z][A-Z]))[A-Za-z0-9+/=]{8,}"),
    re.compile(r"(?i)\bopenai-insecure-api-key\.[A-Za-z0-9._~+/=\-]+"),
    re.compile(r"(?i)(?<=[?&])(?:api[-_]?key|key|token|access_token)=[^&\s\"']+"),
)
# No real key is shorter, and masking a placeholder such as "x" would spoil every word that has one.
_SHORTEST_KEY = 8
_SECRET_FIELDS = frozenset(
    {
        "access_token",
        "api-key",
        "api_key",
        "auth_token",
        "authorization",
        "bearer_token",
        "client_secret",
        "cookie",
        "password",
        "proxy-authorization",
        "set-cookie",
        "x-api-key",
    }
)


class Secret:
    """
    A key that shows itself only to ``reveal()``.

    Its repr, str and format hide the value, and it refuses to be pickled or deep-copied into something that does
    not. Immutable and safe to share between threads.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value; keep it out of any variable that outlives one statement."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({REDACTED!r})"

    def __str__(self) -> str:
        return REDACTED

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A Secret is never pickled: pass the key to the other process by its environment."
        )

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self


def mask(value: Value, secrets: Iterable[Secret]) -> Value:
    """
    Remove known keys, and nothing else, from a text, from bytes, or from all strings of a JSON value.

    For what a server says of a request that it refuses: it may quote the key, and all else is to stay as it is.

    Args:
        value: It is not changed.
        secrets: The keys.
    """
    keys = [key for secret in secrets if len(key := secret.reveal()) >= _SHORTEST_KEY]
    masked: Value = _masked(value, [*keys, *(quote(key, safe="") for key in keys)])
    return masked


def _masked(value: Any, keys: list[str]) -> Any:
    if isinstance(value, str):
        for key in keys:
            value = value.replace(key, REDACTED)
    elif isinstance(value, bytes):
        for key in keys:
            value = value.replace(key.encode(), REDACTED.encode())
    elif isinstance(value, list):
        return [_masked(item, keys) for item in value]
    elif isinstance(value, dict):
        return {_masked(name, keys): _masked(item, keys) for name, item in value.items()}
    return value


def redact(text: str, *secrets: Secret | None) -> str:
    """
    Remove what looks like a credential from a text.

    Args:
        text: Any text: an error body, a URL, a header line.
        secrets: Known keys, removed literally whatever they look like; None is passed over.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret.reveal(), REDACTED)
    for pattern in _PATTERNS:
        text = pattern.sub(REDACTED, text)
    return text


def redact_json(value: Any, *secrets: Secret | None) -> Any:
    """
    Return a JSON value with every credential removed, from strings, keys and fields named like one.

    Args:
        value: What ``json.loads`` returns; it is not changed.
        secrets: Known keys, as for ``redact``.
    """
    if isinstance(value, str):
        return redact(value, *secrets)
    if isinstance(value, list):
        return [redact_json(item, *secrets) for item in value]
    if isinstance(value, dict):
        return {
            redact(key, *secrets): REDACTED
            if key.lower() in _SECRET_FIELDS and isinstance(item, str)
            else redact_json(item, *secrets)
            for key, item in value.items()
        }
    return value
