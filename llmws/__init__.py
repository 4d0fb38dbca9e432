"""
Large language models over WebSockets, for plain synchronous Python.

One background thread owns the persistent socket and feeds thread-safe inboxes; ``for`` loops, callbacks and a final
response read from them. Start with ``Session``, or with ``stream`` and ``create`` on the default session.
"""

import typing as _typing

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
    ParseError,
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
from .responses.connections.stats import Stats
from .responses.routing.turn import TurnState
from .responses.sending.continuation import Sent
from .responses.sending.steering import Steer
from .responses.session import Session
from .responses.stream.chunks import Chunk
from .responses.stream.snapshot import Image, OutputItem, Response, ToolCall, Usage
from .responses.stream.stream import Stream
from .responses.vocabulary import events
from .responses.vocabulary.capabilities import Capabilities
from .timeouts import Timeouts
from .version import __version__


if _typing.TYPE_CHECKING:
    from .responses.conversation.chain import TurnRecord
    from .responses.conversation.conversation import Conversation
    from .responses.tools.calls import CallResults, run_calls
    from .responses.tools.outputs import ToolError
    from .responses.tools.toolloop import ToolRun
    from .responses.tools.tools import CustomTool, Tool, tool
    from .wire.partialjson import partial_json

__all__ = [
    "APIError",
    "AuthenticationError",
    "CallResults",
    "Capabilities",
    "Chunk",
    "ConfigurationError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionLimitError",
    "Conversation",
    "CustomTool",
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
    "ParseError",
    "PreviousResponseNotFoundError",
    "RateLimitError",
    "ReconnectError",
    "RecordingError",
    "RecordingMismatchError",
    "RecordingNotFoundError",
    "RemoteProtocolError",
    "Response",
    "Sent",
    "Session",
    "SessionClosedError",
    "Stats",
    "Steer",
    "Stream",
    "StreamCancelledError",
    "StreamInterruptedError",
    "Timeouts",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolRun",
    "TotalTimeout",
    "TurnError",
    "TurnRecord",
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
    "partial_json",
    "run_calls",
    "stream",
    "tool",
]

# Imported when first asked for: a program that only streams should not pay for them.
_LATER = frozenset(
    {
        "CallResults",
        "Conversation",
        "CustomTool",
        "Tool",
        "ToolError",
        "ToolRun",
        "TurnRecord",
        "partial_json",
        "run_calls",
        "tool",
    }
)


def __getattr__(name: str) -> _typing.Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .responses.conversation.chain import TurnRecord
    from .responses.conversation.conversation import Conversation
    from .responses.tools.calls import CallResults, run_calls
    from .responses.tools.outputs import ToolError
    from .responses.tools.toolloop import ToolRun
    from .responses.tools.tools import CustomTool, Tool, tool
    from .wire.partialjson import partial_json

    classes = (CallResults, Conversation, CustomTool, Tool, ToolError, ToolRun, TurnRecord)
    found = {each.__name__: each for each in (*classes, partial_json, run_calls, tool)}
    globals().update(found)
    return found[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
