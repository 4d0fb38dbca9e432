"""
All fields of a request besides its input, as JSON, encoded once; and whether two requests have the same.

A server that is asked to go on from a response keeps that response's context, not its settings, and what it has cached
was made with them. So a turn may only send what is new if every single field is the same as its parent's.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from typing import Any

from ...errors import ConfigurationError
from ...wire import jsoncodec
from .request import check_model


__all__ = ["Settings"]

_ENCRYPTED_REASONING = "reasoning.encrypted_content"
_NOT_STORED = b"false"


class Settings:
    """
    The fields of a request besides ``input``; immutable, safe to share between threads.

    Args:
        members: Each field's value as JSON, by name.
    """

    def __init__(self, members: Mapping[str, bytes]) -> None:
        self._given = dict(members)
        self._members = _with_encrypted_reasoning(self._given)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Settings:
        """
        Encode fields.

        Raises:
            ConfigurationError: A value is no JSON.
        """
        return cls({name: _encoded(name, value) for name, value in fields.items()})

    def but(self, changes: Mapping[str, Any]) -> Settings:
        """Return these settings with some fields changed; with none, these themselves."""
        if not changes:
            return self
        return Settings({**self._given, **Settings.of(changes)._given})

    @property
    def model(self) -> str | None:
        """The model's name, or None if there is none."""
        name = jsoncodec.decode(self._given.get("model", b"null"))
        return name if isinstance(name, str) and name else None

    def check_model(self) -> None:
        """
        Refuse settings that name no model.

        Raises:
            ConfigurationError: They do not; the message says what they have instead.
        """
        check_model(jsoncodec.decode(self._given.get("model", b"null")), "conversation(…)")

    @property
    def stored(self) -> bool:
        """Whether the server is to keep responses beyond the connection, as it does if it is not told."""
        return self._given.get("store") != _NOT_STORED

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """What tells each field's value from others, by name."""
        return {
            name: hashlib.sha256(value).hexdigest()[:32] for name, value in self._members.items()
        }

    @functools.cached_property
    def message(self) -> bytes:
        """The members of a ``response.create``, without braces."""
        return self._joined(b'"type":"response.create"')

    @functools.cached_property
    def warm_up_message(self) -> bytes:
        """The members of a ``response.create`` that only prepares the server, without braces."""
        return self._joined(b'"type":"response.create","generate":false')

    def decoded(self) -> dict[str, Any]:
        """Return the fields as they were given, as new objects."""
        return {name: jsoncodec.decode(value) for name, value in self._given.items()}

    def _joined(self, head: bytes) -> bytes:
        members = (
            b"%b:%b" % (jsoncodec.encode(name), value) for name, value in self._members.items()
        )
        return b",".join((head, *members))

    def __repr__(self) -> str:
        return f"<Settings {', '.join(sorted(self._given))}>"


def _encoded(name: str, value: Any) -> bytes:
    try:
        return jsoncodec.encode(value)
    except jsoncodec.JSONError as exc:
        raise ConfigurationError(f"{name} cannot be sent as JSON: {exc}.") from None


def _with_encrypted_reasoning(given: dict[str, bytes]) -> dict[str, bytes]:
    """Ask for reasoning in a form that can be sent back, where the server will not keep its own."""
    if given.get("store") != _NOT_STORED:
        return given
    included = jsoncodec.decode(given.get("include", b"null"))
    wanted = [*included] if isinstance(included, list) else []
    if _ENCRYPTED_REASONING in wanted:
        return given
    return {**given, "include": jsoncodec.encode([*wanted, _ENCRYPTED_REASONING])}
