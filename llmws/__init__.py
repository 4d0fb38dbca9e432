"""
Large language models over WebSockets, for plain synchronous Python.

One background thread owns the persistent socket and feeds thread-safe inboxes; ``for`` loops, callbacks and a final
response read from them. Start with ``Session``, or with ``stream`` and ``create`` on the default session.
"""

from .default import configure, create, stream
from .errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ConnectionLimitError,
    ConnectTimeout,
    FirstEventTimeout,
    ForkedError,
    HandshakeError,
    IdleTimeout,
    InboxOverflowError,
    LaneTimeout,
    LLMWSError,
    OutboxFullError,
    OverloadedError,
    PreviousResponseNotFoundError,
    RateLimitError,
    ReconnectError,
    RecordingError,
    RecordingMismatchError,
    RecordingNotFoundError,
    RemoteProtocolError,
    SessionClosedError,
    StreamCancelledError,
    StreamInterruptedError,
    TotalTimeout,
    TurnError,
    TurnTimeout,
    UpgradeRefusedError,
    WaitTimeout,
    WouldDeadlockError,
)
from .responses import events
from .responses.capabilities import Capabilities
from .responses.chunks import Chunk
from .responses.session import Session, Stats
from .responses.snapshot import Image, OutputItem, Response, ToolCall, Usage
from .responses.stream import Stream
from .responses.turn import TurnState
from .timeouts import Timeouts
from .version import __version__


__all__ = [
    "APIError",
    "AuthenticationError",
    "Capabilities",
    "Chunk",
    "ConfigurationError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionLimitError",
    "FirstEventTimeout",
    "ForkedError",
    "HandshakeError",
    "IdleTimeout",
    "Image",
    "InboxOverflowError",
    "LLMWSError",
    "LaneTimeout",
    "OutboxFullError",
    "OutputItem",
    "OverloadedError",
    "PreviousResponseNotFoundError",
    "RateLimitError",
    "ReconnectError",
    "RecordingError",
    "RecordingMismatchError",
    "RecordingNotFoundError",
    "RemoteProtocolError",
    "Response",
    "Session",
    "SessionClosedError",
    "Stats",
    "Stream",
    "StreamCancelledError",
    "StreamInterruptedError",
    "Timeouts",
    "ToolCall",
    "TotalTimeout",
    "TurnError",
    "TurnState",
    "TurnTimeout",
    "UpgradeRefusedError",
    "Usage",
    "WaitTimeout",
    "WouldDeadlockError",
    "__version__",
    "configure",
    "create",
    "events",
    "stream",
]
