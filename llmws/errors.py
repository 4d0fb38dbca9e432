"""
Every exception of llmws.

::

    LLMWSError
    ├── ConfigurationError (ValueError)
    ├── ConnectError
    │   ├── ConnectTimeout (TimeoutError)
    │   ├── HandshakeError
    │   │   ├── AuthenticationError
    │   │   └── UpgradeRefusedError
    │   └── ReconnectError
    ├── TurnError
    │   ├── APIError
    │   │   ├── PreviousResponseNotFoundError
    │   │   ├── RateLimitError
    │   │   ├── OverloadedError
    │   │   └── ConnectionLimitError
    │   ├── StreamInterruptedError
    │   ├── StreamCancelledError
    │   ├── InboxOverflowError
    │   ├── RemoteProtocolError
    │   ├── ForkedError
    │   └── TurnTimeout (TimeoutError)
    │       ├── FirstEventTimeout
    │       ├── IdleTimeout
    │       ├── TotalTimeout
    │       └── LaneTimeout
    ├── ParseError (ValueError)
    ├── WaitTimeout (TimeoutError)
    ├── OutboxFullError
    ├── WouldDeadlockError
    ├── SessionClosedError
    └── RecordingError
        ├── RecordingNotFoundError
        └── RecordingMismatchError

Fields are attributes; nothing has to be parsed from a message. Every field has a default, so that each exception
survives pickling (a Celery worker pickles what a task raises).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar


__all__ = [
    "APIError",
    "AuthenticationError",
    "ConfigurationError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionLimitError",
    "FirstEventTimeout",
    "ForkedError",
    "HandshakeError",
    "IdleTimeout",
    "InboxOverflowError",
    "LLMWSError",
    "LaneTimeout",
    "OutboxFullError",
    "OverloadedError",
    "ParseError",
    "PreviousResponseNotFoundError",
    "RateLimitError",
    "ReconnectError",
    "RecordingError",
    "RecordingMismatchError",
    "RecordingNotFoundError",
    "RemoteProtocolError",
    "SessionClosedError",
    "StreamCancelledError",
    "StreamInterruptedError",
    "TotalTimeout",
    "TurnError",
    "TurnTimeout",
    "UpgradeRefusedError",
    "WaitTimeout",
    "WouldDeadlockError",
    "fresh",
]


class LLMWSError(Exception):
    """The base of every error that llmws raises on purpose."""


class ConfigurationError(LLMWSError, ValueError):
    """Bad arguments or environment; nothing was dialled or sent."""


class ConnectError(LLMWSError):
    """
    No usable socket could be had; the request was not sent.

    Attributes:
        retryable: Whether another dial may succeed without the caller changing anything.
        retry_after: Seconds that the server asked to wait, or None if it did not say.
    """

    def __init__(
        self, message: str = "", *, retryable: bool = True, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after = retry_after


class ConnectTimeout(ConnectError, TimeoutError):
    """One dial took longer than ``Timeouts.connect``."""


class HandshakeError(ConnectError):
    """
    The server answered the upgrade with something other than a WebSocket.

    Attributes:
        status: The HTTP status, or None if the answer was no HTTP.
        headers: The answer's headers, names in lower case, without cookies.
        body: The beginning of the answer's body, redacted.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: str = "",
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, retryable=retryable, retry_after=retry_after)
        self.status = status
        self.headers = dict(headers or {})
        self.body = body


class AuthenticationError(HandshakeError):
    """The server refused the credentials (HTTP 401 or 403)."""


class UpgradeRefusedError(HandshakeError):
    """The server has no WebSocket at this address (HTTP 426): use HTTP there."""


class ReconnectError(ConnectError):
    """
    The reconnect policy gave up; ``__cause__`` is the last failure.

    Attributes:
        attempts: How many dials were made.
        elapsed: Seconds from the first dial to giving up.
    """

    def __init__(self, message: str = "", *, attempts: int = 0, elapsed: float = 0.0) -> None:
        super().__init__(message, retryable=False)
        self.attempts = attempts
        self.elapsed = elapsed


class TurnError(LLMWSError):
    """
    A turn ended without a final response.

    Attributes:
        partial: The ``Response`` folded from all that arrived, or None if this error was built elsewhere.
        response_id: The wire's response id, or None if the server had not accepted the turn.
        state: The turn's last state: ``queued``, ``sent``, ``accepted`` or ``output``.
        may_have_been_billed: False only if the server cannot have worked on the turn.
    """

    def __init__(
        self,
        message: str = "",
        *,
        partial: Any = None,
        response_id: str | None = None,
        state: str = "queued",
        may_have_been_billed: bool = False,
    ) -> None:
        super().__init__(message)
        # A Response or a Realtime snapshot; both live on lower floors than this module.
        self.partial = partial
        self.response_id = response_id
        self.state = state
        self.may_have_been_billed = may_have_been_billed


class APIError(TurnError):
    """
    The server answered the turn with an error.

    Attributes:
        status: The HTTP-like status in the error event, or None.
        type: The wire's error type, such as ``invalid_request_error``, or None.
        code: The wire's error code, such as ``previous_response_not_found``, or None.
        param: The request field at fault, or None.
        message: The server's own words.
        headers: Headers that came inside the error event, names in lower case.
        retry_after: Seconds to wait as the server said, or None if it did not say.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        **turn: Any,
    ) -> None:
        super().__init__(message, **turn)
        self.message = message
        self.status = status
        self.type = type
        self.code = code
        self.param = param
        self.headers = dict(headers or {})
        self.retry_after = retry_after

    def __str__(self) -> str:
        labels = [str(label) for label in (self.status, self.code or self.type) if label]
        return f"{self.message} ({', '.join(labels)})" if labels else self.message


class PreviousResponseNotFoundError(APIError):
    """The server no longer has the response named by ``previous_response_id``: send the full input."""


class RateLimitError(APIError):
    """The server asks to slow down; ``retry_after`` may say for how long."""


class OverloadedError(APIError):
    """The server is overloaded; the same request may work later."""


class ConnectionLimitError(APIError):
    """The server ends this connection because of its age (60 minutes at OpenAI)."""


class StreamInterruptedError(TurnError):
    """
    The link was lost before the turn's terminal event.

    Attributes:
        close_code: The WebSocket close code, 1006 if the link broke without one, or None if no socket was open.
        close_reason: The reason in the close frame, often empty.
    """

    def __init__(
        self,
        message: str = "",
        *,
        close_code: int | None = None,
        close_reason: str = "",
        **turn: Any,
    ) -> None:
        super().__init__(message, **turn)
        self.close_code = close_code
        self.close_reason = close_reason


class StreamCancelledError(TurnError):
    """The turn was cancelled on this side."""


class InboxOverflowError(TurnError):
    """The turn's log passed its limit of bytes or events; only this turn ended."""


class RemoteProtocolError(TurnError):
    """
    The server broke the protocol.

    Attributes:
        raw: The beginning of the offending message, or None if there was none.
    """

    def __init__(self, message: str = "", *, raw: bytes | None = None, **turn: Any) -> None:
        super().__init__(message, **turn)
        self.raw = raw


class ForkedError(TurnError):
    """The turn belongs to the parent process; open a new one in this process."""


class TurnTimeout(TurnError, TimeoutError):
    """One of the turn's time limits passed."""


class FirstEventTimeout(TurnTimeout):
    """No event came within ``Timeouts.first_event`` of the request's last byte."""


class IdleTimeout(TurnTimeout):
    """No further event came within ``Timeouts.idle``."""


class TotalTimeout(TurnTimeout):
    """The turn took longer than ``Timeouts.total``."""


class LaneTimeout(TurnTimeout):
    """The turn waited longer than ``Timeouts.lane_wait`` for its lane; nothing was sent."""


class ParseError(LLMWSError, ValueError):
    """
    A response's text is not what it was to be parsed as.

    Attributes:
        response: The ``Response``, or None if this error was built elsewhere.
        refusal: The words with which the model refused, or ``""``.
    """

    def __init__(self, message: str = "", *, response: Any = None, refusal: str = "") -> None:
        super().__init__(message)
        self.response = response
        self.refusal = refusal


class WaitTimeout(LLMWSError, TimeoutError):
    """Only this wait ended; the turn goes on."""


class OutboxFullError(LLMWSError):
    """The requests that wait to be written would pass the outbox limit; this one was not accepted."""


class WouldDeadlockError(LLMWSError):
    """The call would wait for the very thread that makes it."""


class SessionClosedError(LLMWSError):
    """The session was closed; open a new one."""


class RecordingError(LLMWSError):
    """A recording cannot be read, written or followed."""


class RecordingNotFoundError(RecordingError):
    """The recording does not exist; the message says how to make it."""


class RecordingMismatchError(RecordingError):
    """
    A frame differs from the recorded one.

    Attributes:
        expected: The recorded JSON value at ``path``.
        actual: The value that was sent instead.
        path: The first place that differs, such as ``$.input[0].content``.
    """

    def __init__(
        self, message: str = "", *, expected: Any = None, actual: Any = None, path: str = "$"
    ) -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual
        self.path = path


AnError = TypeVar("AnError", bound=BaseException)


def fresh(error: AnError) -> AnError:
    """
    Copy an error for one more raise.

    One turn's error is raised in each of its readers. Raising one object from several threads would mix their
    tracebacks and keep the frames, and so the variables, of every reader alive.

    Args:
        error: The error that ended the turn.

    Returns:
        An equal error with the same cause and no traceback.
    """
    twin = copy.copy(error)
    twin.__cause__ = error.__cause__
    twin.__suppress_context__ = True
    return twin
