"""Where answers are played: what all connections of one embedded server share."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from .answer import error_event
from .ledger import Entry, Ledger
from .memory import Memory
from .request import Connection, Event, Request, Rule


__all__ = ["Stage"]


class Stage:
    """
    Counts requests, plays the rule's answers, and keeps the ledger, the memory and what went wrong.

    Args:
        rule: What answers.
        delay: Seconds between two events of an answer.
        chains: Whether ``previous_response_id`` is looked up.
        pairs: Whether calls and outputs that stand alone are refused.
    """

    def __init__(
        self, rule: Rule, *, delay: float = 0.0, chains: bool = True, pairs: bool = True
    ) -> None:
        self.ledger = Ledger()
        self.memory = Memory(chains=chains, pairs=pairs)
        self.errors: list[Exception] = []
        self._rule = rule
        self._delay = delay
        self._lock = threading.Lock()
        self._generating = 0

    def admit(
        self,
        connection: Connection,
        turn: int,
        *,
        request_bytes: int = 0,
        automatic: bool = False,
        **request: Any,
    ) -> tuple[Request, Entry]:
        """Number a request in the order of arrival and enter it in the ledger."""
        with self._lock:
            admitted = Request(
                number=self._generating + 1, turn=turn, connection=connection, **request
            )
            self._generating += not admitted.is_warm_up
            entry = Entry(
                body=admitted.body,
                transport=admitted.transport,
                connection=connection.number,
                lane=admitted.lane,
                headers=admitted.headers,
                request_bytes=request_bytes,
                automatic=automatic,
            )
            self.ledger.begin(entry)
        return admitted, entry

    def turn_away(self, entry: Entry, refusal: Event, send: Callable[[Event], None]) -> None:
        """Enter a request in the ledger that no rule gets to see, and answer it with an error."""
        entry.started = time.monotonic()
        self.ledger.begin(entry)
        self.ledger.sending(entry, refusal)
        send(refusal)

    def play(
        self,
        request: Request,
        entry: Entry,
        send: Callable[[Event], None],
        through: Callable[[Iterable[Event]], Iterable[Event]] = iter,
    ) -> None:
        """
        Answer one request, on the calling thread, to the end or until its connection is over.

        Args:
            request: The request.
            entry: Its line in the ledger.
            send: Writes one event of the answer to the client; raises ``ConnectionError`` once it cannot.
            through: What the rule's events pass through before they are remembered and sent.
        """
        closed = _connection(request).closed
        entry.started = time.monotonic()
        try:
            if not closed.is_set():
                self._play(request, entry, send, through)
        except Exception as error:  # noqa: BLE001 - a rule is the user's code and may raise anything.
            if closed.is_set():
                # The answer did not get through, whatever the ledger was told before the last write.
                self.ledger.end(entry, "lost")
            else:
                self.errors.append(error)
                self._own_up(entry, send, error)
        if entry.ended is None:
            self.ledger.end(entry, "lost")

    def _play(
        self,
        request: Request,
        entry: Entry,
        send: Callable[[Event], None],
        through: Callable[[Iterable[Event]], Iterable[Event]],
    ) -> None:
        def answer(opened: Request) -> Iterable[Event]:
            return [refusal] if refusal else through(self._rule(opened))

        request, refusal = self.memory.open(request)
        refusal = refusal or self.memory.unpaired(request)
        if refusal:
            self._uncount(request)
        closed, events = _connection(request).closed, self.memory.keep(request, answer)
        try:
            for index, event in enumerate(events):
                if index and self._delay and closed.wait(self._delay):
                    raise BrokenPipeError("The connection is closed.")
                self.ledger.sending(entry, event)
                send(event)
        finally:
            # An abandoned generator ends here and now, on the thread that ran it.
            events.close()

    def _uncount(self, request: Request) -> None:
        """Give a refused request's number to the next one, so that a sequence of rules goes on where it was."""
        with self._lock:
            if self._generating == request.number and not request.is_warm_up:
                self._generating -= 1

    def _own_up(self, entry: Entry, send: Callable[[Event], None], error: Exception) -> None:
        """Tell the client that the rule broke down, so that a test fails at once and does not wait."""
        message = f"The server's rule raised {type(error).__name__}: {error}"
        events = [error_event("rule_failed", message, status=500)]
        if entry.response_id is not None:
            failure = {"code": "rule_failed", "message": message}
            response = {"id": entry.response_id, "status": "failed", "output": [], "error": failure}
            events.append(
                {"type": "response.failed", "response": {"object": "response", **response}}
            )
        with contextlib.suppress(ConnectionError):
            for event in events:
                self.ledger.sending(entry, event)
                send(event)


def _connection(request: Request) -> Connection:
    assert request.connection is not None  # ``admit`` made the request.
    return request.connection
