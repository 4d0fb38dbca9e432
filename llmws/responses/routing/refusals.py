"""
What is done about a turn that the server refused in words, before any of its output; pure.

=============================================  ======================  ===================================
what the server said                           turns that end          what is retried by itself, once each
=============================================  ======================  ===================================
``previous_response_not_found``                that one                with the whole transcript, if it is known
"… not found", 400 or 404, with                that one                the same (inferred)
``param: previous_response_id``
``websocket_connection_limit_reached``         none that was accepted  the refused one, on another connection
``websocket_stream_limit_reached``             that one                on another connection
a word against ``stream_id``                   that one                without lanes, from then on
quotas, too long a context, prompts that it    that one                nothing, whatever the status
will not answer
429, rate limits, overloaded, 408, 409, 5xx    that one                after a wait, as the server asks or backoff says;
                                                                       nothing with ``x-should-retry: false``
anything else                                  that one                nothing
=============================================  ======================  ===================================

``x-should-retry`` counts in the error's own headers, and only against a wait: to send the same again is what it speaks
of, and the other remedies send something else, or elsewhere (inferred). ``true`` changes nothing.

The state counts too: QUEUED turns are not the server's yet and are never ended by it; from SENT on an ``error`` of the
turn's lane is about the turn; in ACCEPTED a ``response.failed`` without output is a refusal in other words; in OUTPUT
nothing is ever repeated.
"""

from __future__ import annotations

import enum

from ...errors import (
    APIError,
    ConnectionLimitError,
    OverloadedError,
    PreviousResponseNotFoundError,
    RateLimitError,
)
from ...wire.backoff import retryable_status
from ..vocabulary.apierrors import QUOTA_CODES


__all__ = ["Remedy", "remedy"]

# Seen of a backend whose cache had moved on, in ``response.failed``.
_STALE = frozenset({"codex_previous_response_stale"})
_LANE_NAME = frozenset({"invalid_stream_id"})
_LANE_COUNT = frozenset({"websocket_stream_limit_reached"})
# The same request will not do better later: out of money, too long, or not to be answered.
_FINAL = QUOTA_CODES | {
    "context_length_exceeded",
    "invalid_prompt",
    "cyber_policy",
    "bio_policy",
}
# Such failures carry no status.
_TRANSIENT = frozenset({"server_error"})


class Remedy(enum.Enum):
    """What may be done about a refusal; each value says it for logs."""

    FULL = "with the whole transcript"
    ELSEWHERE = "on another connection"
    NO_LANES = "without lanes"
    LATER = "later"


def remedy(error: APIError) -> Remedy | None:
    """Return what may be done about a refusal, or None if nothing may."""
    labels = {error.code, error.type}
    if isinstance(error, PreviousResponseNotFoundError) or labels & _STALE:
        return Remedy.FULL
    if isinstance(error, ConnectionLimitError) or labels & _LANE_COUNT:
        return Remedy.ELSEWHERE
    if labels & _LANE_NAME or error.param == "stream_id":
        return Remedy.NO_LANES
    if labels & _FINAL or _told_not_to_retry(error):
        return None
    if isinstance(error, (RateLimitError, OverloadedError)):
        return Remedy.LATER
    transient = error.status is None and bool(labels & _TRANSIENT)
    if transient or (error.status is not None and retryable_status(error.status)):
        return Remedy.LATER
    return None


def _told_not_to_retry(error: APIError) -> bool:
    return any(
        name.lower() == "x-should-retry" and value.strip().lower() == "false"
        for name, value in error.headers.items()
    )
