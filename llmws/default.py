"""The process-wide session behind ``llmws.stream`` and ``llmws.create``."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from .responses.sending.request import check_params
from .responses.session import Session
from .responses.stream.snapshot import Response
from .responses.stream.stream import Stream
from .timeouts import Timeouts
from .wire.process import on_fork


__all__ = ["configure", "create", "stream"]


class _Default:
    """Holds the session and guards its making; the lock is held for that alone."""

    def __init__(self) -> None:
        self.renew_lock()
        self.session: Session | None = None
        on_fork(self, "renew_lock")

    def renew_lock(self) -> None:
        self._lock = threading.Lock()

    def get(self) -> Session:
        with self._lock:
            if self.session is None:
                self.session = Session()
            return self.session

    def replace(self, session: Session) -> None:
        with self._lock:
            previous, self.session = self.session, session
        if previous is not None:
            previous.close(wait=False)


_default = _Default()


def configure(**session_arguments: Any) -> None:
    """
    Set up the default session; one that was in use before is closed.

    Args:
        session_arguments: As for ``Session``.

    Raises:
        ConfigurationError: As for ``Session``; the session that was in use stays.
    """
    try:
        session = Session(**session_arguments)
    finally:
        session_arguments.clear()  # A traceback may show this frame's variables.
    _default.replace(session)


def stream(
    input: str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    *,
    timeouts: Timeouts | Mapping[str, Any] | None = None,
    **params: Any,
) -> Stream:
    """
    Start a turn on the default session; never blocks.

    Args:
        input: As for ``Session.stream``.
        timeouts: As for ``Session.stream``.
        params: As for ``Session.stream``; ``model`` among them, unless ``configure`` named one.

    Raises:
        ConfigurationError: As for ``Session`` and ``Session.stream``.
    """
    check_params(params, "stream()")
    return _default.get().stream(input, timeouts=timeouts, **params)


def create(
    input: str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    *,
    timeouts: Timeouts | Mapping[str, Any] | None = None,
    **params: Any,
) -> Response:
    """
    Run a turn on the default session and wait for its response.

    Args:
        input: As for ``Session.stream``.
        timeouts: As for ``Session.stream``.
        params: As for ``stream``.

    Raises:
        ConfigurationError: As for ``Session`` and ``Session.stream``.
        TurnError: The turn ended without a response.
        ConnectError: There was no connection to be had.
    """
    check_params(params, "create()")
    return _default.get().create(input, timeouts=timeouts, **params)
