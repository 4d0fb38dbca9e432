"""The errors with which turns end early, and the totals that routers keep; pure."""

from __future__ import annotations

import attrs

from ...errors import (
    ConfigurationError,
    ConnectError,
    RemoteProtocolError,
    StreamInterruptedError,
    TurnError,
    TurnTimeout,
)
from ...wire.steps import Lost
from ..vocabulary.apierrors import api_error, from_event
from ..vocabulary.items import Usage
from ..vocabulary.views import string_or_none
from .turn import Turn, TurnState


__all__ = [
    "LaneCounters",
    "beside_dials",
    "broken_down",
    "failure",
    "interruption",
    "refusal",
    "too_long",
]


_NONE = Usage()


@attrs.define
class LaneCounters:
    """
    What a router did so far; written by its I/O thread alone.

    Attributes:
        turns: Turns taken, warm-ups not among them.
        reuses: Requests that went out over a socket that had carried one before.
        warm_ups: Warm-ups taken.
        deltas: Conversation turns of which only what the server lacked was sent.
        fulls: Conversation turns of which the whole transcript was sent.
        saved_bytes: What the former would have taken more.
        retries: Turns sent again.
        missing_events: Sequence numbers that the server left out.
        dropped_events: Messages that belonged to no running turn.
        released_bytes: Bytes of requests that no longer wait to be written.
        usage: The tokens of all turns, failed and incomplete ones too.
        warm_up_usage: The tokens of all warm-ups.
    """

    turns: int = 0
    reuses: int = 0
    warm_ups: int = 0
    deltas: int = 0
    fulls: int = 0
    saved_bytes: int = 0
    retries: int = 0
    missing_events: int = 0
    dropped_events: int = 0
    released_bytes: int = 0
    usage: Usage = _NONE
    warm_up_usage: Usage = _NONE


def interruption(turn: Turn, lost: Lost) -> TurnError:
    """Return the error of a turn whose link was lost."""
    if turn.error_event is not None:
        return refusal(turn)
    if lost.violation:
        return RemoteProtocolError(f"The turn ended early: {lost.reason}.", **turn.facts())
    words = f"The connection ended before the response did: close code {lost.code}"
    interrupted = StreamInterruptedError(
        f"{words}, {lost.words}.",
        close_code=lost.code,
        close_reason=lost.reason,
        **turn.facts(),
    )
    interrupted.__cause__ = lost.error
    return interrupted


def refusal(turn: Turn) -> TurnError:
    """Return the error of a turn to which the server sent an ``error`` event."""
    assert turn.error_event is not None
    facts = turn.facts()
    # Refused before it was accepted: nothing ran.
    facts["may_have_been_billed"] = turn.doubtful or turn.state is not TurnState.SENT
    return from_event(turn.error_event, **facts)


def failure(turn: Turn) -> TurnError | None:
    """Return what a ``response.failed`` says, as an error; None if the turn did not end so."""
    final = turn.final
    if final is None or final.status != "failed":
        return None
    error = final.response.get("error")
    said = error if isinstance(error, dict) else {}
    code, kind, param = (string_or_none(said.get(name)) for name in ("code", "type", "param"))
    message = string_or_none(said.get("message")) or ""
    return api_error(message=message, type=kind, code=code, param=param, **turn.facts())


def too_long(turn: Turn, size_bytes: int, most_bytes: int) -> ConfigurationError:
    """Return the error of a turn whose request the provider would not take; nothing was sent."""
    why = turn.sent.reason if turn.sent is not None else "it was built here"
    return ConfigurationError(
        f"The turn takes {size_bytes:,} bytes ({why}), and the provider accepts messages of up to {most_bytes:,}: "
        "shorten the conversation by compact() or truncate_to()."
    )


def beside_dials(overdue: TurnTimeout, failed: ConnectError) -> TurnTimeout:
    """Return the error of a turn whose limit passed while dials failed."""
    turn = {
        name: getattr(overdue, name) for name in ("response_id", "state", "may_have_been_billed")
    }
    told = type(overdue)(f"{overdue} The last dial failed: {failed}", **turn)
    told.__cause__ = failed
    return told


def broken_down(turn: Turn, error: BaseException) -> TurnError:
    """Return the error of a turn whose I/O thread failed."""
    words = "The I/O thread failed, which is a defect of llmws; please report it"
    interrupted = StreamInterruptedError(f"{words}: {error!r}", **turn.facts())
    interrupted.__cause__ = error
    return interrupted
