"""What a conversation sees of its session: somebody who opens turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import SessionClosedError
from ...timeouts import Timeouts
from ...wire.endpoint import Endpoint
from ..connections.core import Core
from ..routing.turn import Turn
from ..sending.continuation import Continuation
from ..stream.legs import Leg
from ..stream.stream import Stream, legs_of
from ..vocabulary.items import Usage
from .conversation import Conversation


__all__ = ["Host"]


class Host:
    """
    The ``ConversationHost`` of one session; thread-safe.

    Args:
        session: Kept alive as long as one of its conversations is.
        core: Gives the session's moving parts; others in a forked child.
        endpoint: Where the server is.
        timeouts: The session's limits.
        max_frame_bytes: The longest message that the provider takes.
        retry_uncertain: As of ``Session``.
    """

    def __init__(
        self,
        session: object,
        core: Callable[[], Core],
        endpoint: Endpoint,
        timeouts: Timeouts,
        max_frame_bytes: int,
        *,
        retry_uncertain: bool,
    ) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._session = session
        self._core = core
        self._endpoint = endpoint
        self._timeouts = timeouts
        self._retry_uncertain = retry_uncertain

    def limits(self, changes: Timeouts | Mapping[str, Any] | None = None) -> Timeouts:
        """Return the session's limits with some of them changed."""
        return self._timeouts.but(changes)

    def open_turn(
        self, continuation: Continuation, *, timeouts: Timeouts, started_at: float
    ) -> Stream:
        """Start a turn; never blocks."""
        turn = Turn(
            payload=b"",
            continuation=continuation,
            timeouts=timeouts,
            started_at=started_at,
            retry_uncertain=self._retry_uncertain,
        )
        core = self._core()
        stream = Stream(turn, core, self._session)
        core.submit(turn)
        return stream

    def register(self, conversation: Conversation) -> None:
        """Have a conversation moved when its connection is replaced."""
        self._core().register(conversation)

    def legs(self, turn: Turn) -> Sequence[Leg]:
        """Return the responses that a turn which has ended came to, in order."""
        return legs_of(turn)

    def check_open(self) -> None:
        """Raise ``SessionClosedError`` if the session was closed."""
        if self._core().closed:
            raise SessionClosedError("The session is closed: open a new one.")

    def check_may_wait(self) -> None:
        """Raise ``WouldDeadlockError`` on an I/O thread."""
        self._core().check_may_wait()

    def post(self, path: str, body: dict[str, Any], *, started_at: float) -> dict[str, Any]:
        """Post JSON over HTTP, wait for the answer's within the session's limits, and count its tokens."""
        core = self._core()
        core.check_may_wait()
        self.check_open()
        # Imported here: few conversations need it.
        from ..connections.http import post_json

        answer = post_json(
            self._endpoint,
            path,
            body,
            self._timeouts,
            started_at=started_at,
            closed=lambda: core.closed,
        )
        core.count(Usage.from_wire(answer.get("usage")) or Usage())
        return answer
