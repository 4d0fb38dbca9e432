"""Where a session's key comes from, and the headers that go with it; none of it ever shows in a traceback."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import ConfigurationError
from ...secret import REDACTED, Secret, redact
from ...version import __version__
from ...wire.endpoint import key_like


__all__ = ["AskedHeaders", "Credentials", "HiddenHeaders"]

_USER_AGENT = f"llmws/{__version__} Python/{platform.python_version()}"


class Credentials:
    """
    Gives the key at each dial.

    Args:
        api_key: The key, a callable that returns it, or None for ``OPENAI_API_KEY``.

    Raises:
        ConfigurationError: The key is no string, or could not be a header's value.
    """

    __slots__ = ("_ask", "_key", "given_out")

    def __init__(self, api_key: str | Secret | Callable[[], Any] | None) -> None:
        # A traceback may show this frame's variables, so the argument does not outlive its first use.
        given: tuple[Any, ...] = (api_key,)
        api_key = None
        if given[0] is None:
            given = (os.environ.get("OPENAI_API_KEY") or None,)
        self._ask: Callable[[], Any] | None = None
        self._key: Secret | None = None
        # Every key so far, those in asked headers too, for those who must keep keys out of what they write.
        self.given_out: set[Secret] = set()
        if callable(given[0]):
            self._ask = given[0]
            return
        problem = _problem(*given)
        self._key = None if problem else _wrapped(*given)
        given = ()
        if problem:
            raise ConfigurationError(f"api_key {problem}.")

    @property
    def missing(self) -> bool:
        """Whether there is neither a key nor somebody to ask for one."""
        return self._ask is None and self._key is None

    def __call__(self) -> Secret | None:
        """
        Return the key for one dial, or None if there is none.

        Raises:
            ConfigurationError: The callable gave no usable key; whatever the callable itself raises comes through.
        """
        if self._ask is None:
            self.given_out.update([self._key] if self._key else [])
            return self._key
        given: tuple[Any, ...] = (self._ask(),)
        problem = _problem(*given)
        key = None if problem else _wrapped(*given)
        given = ()
        if problem or key is None:
            raise ConfigurationError(
                f"What the api_key callable returned {problem or 'is no key'}."
            )
        self.given_out.add(key)
        return key

    def required(self) -> Secret:
        """
        Return the key for one dial.

        Raises:
            ConfigurationError: There is none; otherwise as when called.
        """
        key = self()
        if key is None:
            raise ConfigurationError(
                "No key: the headers callable gave no Authorization, and there is neither api_key nor OPENAI_API_KEY."
            )
        return key

    def __repr__(self) -> str:
        return f"<Credentials {'asked at each dial' if self._ask else REDACTED if self._key else 'none'}>"


class HiddenHeaders(dict[str, str]):
    """Headers whose values do not show in a repr."""

    def __repr__(self) -> str:
        # A key that was taken for a name shows neither.
        return f"<headers {', '.join(redact(str(name)) for name in self)}>"

    @classmethod
    def of(cls, headers: Any, organization: str | None, project: str | None) -> HiddenHeaders:
        """
        Join a user's headers with those that go with every dial; the user's own win.

        Raises:
            ConfigurationError: The headers are no mapping.
        """
        if headers is not None and not isinstance(headers, Mapping):
            kind, headers = type(headers).__name__, None  # They may hold a key, as above.
            raise ConfigurationError(
                f"headers is of type {kind}: give a mapping of names to values, or a callable that returns one."
            )
        own = {
            "User-Agent": _USER_AGENT,
            "OpenAI-Organization": organization or os.environ.get("OPENAI_ORG_ID"),
            "OpenAI-Project": project or os.environ.get("OPENAI_PROJECT_ID"),
        }
        given = headers or {}
        # Names are the same in any case, and a name that is no string is refused where all are checked.
        taken = {str(name).lower() for name in given}
        kept = {name: text for name, text in own.items() if text and name.lower() not in taken}
        return cls({**kept, **given})

    @property
    def authorize(self) -> bool:
        """Whether there is an ``Authorization`` among them."""
        return any(str(name).lower() == "authorization" for name in self)


class AskedHeaders:
    """
    Asks for a user's headers at each dial.

    Args:
        ask: Returns a mapping of names to values.
        given_out: Where the values that may be keys are noted, those of every dial so far.
    """

    __slots__ = ("_ask", "_given_out")

    def __init__(self, ask: Callable[[], Any], given_out: set[Secret]) -> None:
        self._ask = ask
        self._given_out = given_out

    @classmethod
    def of(cls, headers: Any, given_out: set[Secret]) -> AskedHeaders | None:
        """Return what asks for a user's headers, or None if they were given as they are."""
        to_ask = callable(headers) and not isinstance(headers, Mapping)
        return cls(headers, given_out) if to_ask else None

    def __call__(self) -> HiddenHeaders:
        """
        Return a copy of the headers for one dial; whether they can be sent is the endpoint's to check.

        Raises:
            ConfigurationError: The callable gave no mapping; whatever the callable itself raises comes through.
        """
        given: tuple[Any, ...] = (self._ask(),)
        kind = "" if isinstance(given[0], Mapping) else type(given[0]).__name__
        headers = HiddenHeaders() if kind else HiddenHeaders(*given)
        given = ()
        if kind:
            raise ConfigurationError(
                f"What the headers callable returned is of type {kind}: it has to be a mapping of names to values."
            )
        self._given_out.update(key_like(headers.items()))
        return headers

    def __repr__(self) -> str:
        return "<AskedHeaders asked at each dial>"


def _wrapped(key: Any) -> Secret | None:
    return key if isinstance(key, Secret) or key is None else Secret(key)


def _problem(key: Any) -> str:
    """Tell what is wrong with a key, without showing it; never raises."""
    if key is None:
        return ""
    text = key.reveal() if isinstance(key, Secret) else key
    if not isinstance(text, str):
        return f"is of type {type(text).__name__}, not a string"
    if not text.strip():
        return "is empty"
    if not (text.isascii() and text.isprintable()) or text != text.strip():
        return "holds white space, control characters or letters that no HTTP header can carry"
    return ""
