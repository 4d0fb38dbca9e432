"""What a user holds of one turn: its views, its callbacks, its response."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ...errors import (
    ForkedError,
    StreamCancelledError,
    TurnError,
    WaitTimeout,
    WouldDeadlockError,
    fresh,
)
from ...timeouts import deadline as _deadline
from ...wire.callbacks import CallbackThreads
from ..routing.turn import Cancel, Put, Turn, TurnState
from ..sending.continuation import Sent
from ..sending.steering import Steer
from ..vocabulary.entries import Entry
from ..vocabulary.events import Event, ResponseFinished
from ..vocabulary.items import Usage
from .chunks import Chunk
from .handlers import Handlers
from .legs import Leg, Legs, given_before
from .readers import Reader, chunks_of, events_of, sse_of, texts_of
from .snapshot import Accumulator, Response


__all__ = ["Stream", "StreamOwner", "legs_of"]

View = TypeVar("View")


class StreamOwner(Protocol):
    """What a stream needs of the session that opened it."""

    callbacks: CallbackThreads

    def post(self, given: Any) -> None:
        """Hand something to the turn's router; takes no lock."""

    def check_may_wait(self) -> None:
        """Raise ``WouldDeadlockError`` on the I/O thread."""

    def keep(self, handlers: Handlers) -> None:
        """Remember a turn with callbacks until they are done."""

    def release(self, handlers: Handlers) -> None:
        """Forget a turn whose callbacks are done."""


class Stream:
    """
    One turn, while it runs and after.

    Iterate over it for chunks, or use ``texts()``, ``events()`` or ``sse()``; each call is a new reader that begins at
    the first event, whether before, during or after the turn. ``response()`` may be called at any time, also from
    several threads. All methods are safe to call from any thread; one reader belongs to one thread at a time.

    The turn is cancelled when nothing holds it any more: not the stream, none of its iterators, no waiting call and no
    callback. Leaving ``with stream`` cancels it too.
    """

    def __init__(self, turn: Turn, owner: StreamOwner, session: object) -> None:
        self._turn = turn
        self._owner = owner
        # Keeps a session alive that was only opened for this turn.
        self._session = session
        # Guarded by the inbox's reader lock, which is innermost.
        self._legs = Legs()
        self._folded = 0
        self._outcome_cache: Response | Exception | None = None
        self._handlers: Handlers | None = None

    # Views.

    def __iter__(self) -> Iterator[Chunk]:
        return self._reader(chunks_of)

    def texts(self) -> Reader[str]:
        """
        Iterate over the pieces of the answer's text; a refusal is not among them.

        Raises:
            TurnError: In the loop, where the turn ended without a response.
            ConnectError: In the loop, if there was no connection to be had.
        """
        return self._reader(texts_of)

    def events(self) -> Reader[Event]:
        """Iterate over the server's events, typed, in order; raises as ``texts`` does."""
        return self._reader(events_of)

    def sse(self) -> Reader[bytes]:
        """
        Iterate over the blocks of an SSE body, as ``POST /v1/responses`` would have sent it; raises as ``texts`` does.

        The JSON equals the events', less ``stream_id``; ``error`` events are flat, as they are over HTTP.
        """
        return self._reader(sse_of)

    def _reader(self, convert: Callable[[list[Entry]], list[View]]) -> Reader[View]:
        return Reader(self._entries_from, convert)

    def _entries_from(self, cursor: int, most: int) -> list[Entry]:
        """Wait for entries behind a cursor; none at a normal end, an exception at any other."""
        inbox = self._turn.inbox
        if len(inbox) <= cursor:
            if not inbox.ended:
                self._waiting(lambda: inbox.read(cursor, most=1))
            if len(inbox) <= cursor:
                self._raise_for_end()
                return []
        return inbox.read(cursor, most=most)

    # The result.

    def response(self, timeout: float | None = None) -> Response:
        """
        Wait for the final response.

        Args:
            timeout: Seconds to wait; None waits for the turn's end, which its ``Timeouts`` bound.

        Returns:
            The response: completed, incomplete or failed. ``raise_for_status()`` turns a failed one into an error.

        Raises:
            WaitTimeout: The time was up; the turn goes on.
            TurnError: The turn ended without a response; ``partial`` is what there is.
            ConnectError: There was no connection to be had; nothing was sent.
            WouldDeadlockError: Called on the I/O thread, as by a finalizer.
        """
        deadline = _deadline(timeout)
        if not self._turn.ended and not self._waiting(
            lambda: self._turn.inbox.wait_ended(deadline)
        ):
            raise WaitTimeout(f"No response within {timeout:g} s; the turn goes on ({self.state}).")
        self._raise_for_end()
        outcome = self._outcome()
        assert isinstance(outcome, Response)
        return outcome

    def responses(self) -> Iterator[Response]:
        """
        Iterate over the responses of a turn that was steered, each as it ends; of any other there is one.

        Raises:
            TurnError: Behind the last response, if the turn ended without another one.
            ConnectError: If there was no connection to be had.
        """
        given, legs = 0, Legs()
        for event in self.events():
            legs.add(event)
            if isinstance(event, ResponseFinished):
                yield legs.response()
                given += 1
        if not given:
            yield self.response()

    @property
    def sent(self) -> Sent | None:
        """What was sent of a conversation, and why so; None before it was, and of turns outside of conversations."""
        return self._turn.sent

    @property
    def snapshot(self) -> Response:
        """The response as far as it has come, without waiting; after an error, the error's ``partial``."""
        if self._turn.ended:
            outcome = self._outcome()
            ended = outcome if isinstance(outcome, Response) else getattr(outcome, "partial", None)
            if isinstance(ended, Response):
                return ended
        with self._turn.inbox.reader_lock:
            return self._fold_to_now().response()

    @property
    def usage(self) -> Usage | None:
        """The tokens, or None as long as the server has not said."""
        return self.snapshot.usage

    @property
    def finish_reason(self) -> str | None:
        """Why the response ended (see ``Response``), or None while it runs."""
        if not self._turn.ended:
            return None
        return self.snapshot.finish_reason or "error"

    @property
    def state(self) -> TurnState:
        """How far the turn has got."""
        return self._turn.state

    @property
    def response_id(self) -> str | None:
        """The wire's id, or None before the server has accepted the turn."""
        return self._turn.response_id

    def _fold_to_now(self) -> Legs:
        """Add what is new to the fold; the caller holds the lock."""
        inbox = self._turn.inbox
        entries = inbox.read(self._folded) if len(inbox) > self._folded else []
        self._legs.add_all(events_of(entries))
        self._folded += len(entries)
        return self._legs

    def _outcome(self) -> Response | Exception:
        """Return the response or the error of a turn that has ended, made once."""
        with self._turn.inbox.reader_lock:
            if self._outcome_cache is None:
                error = self._turn.inbox.error
                self._outcome_cache = (
                    self._final_response() if error is None else self._final_error(error)
                )
            return self._outcome_cache

    def _final_response(self) -> Response:
        final = self._turn.final
        if final is not None and _says_it_all(final.response):
            # The terminal event repeats everything, so nothing has to be folded.
            alone = Accumulator()
            alone.add(final)
            return alone.response()
        return self._fold_to_now().response()

    def _final_error(self, error: Exception) -> Exception:
        if isinstance(error, TurnError) and error.partial is None:
            error = fresh(error)
            reason = "cancelled" if isinstance(error, StreamCancelledError) else "error"
            error.partial = self._fold_to_now().response(finish_reason=reason)
            # What ended the log from outside of the router could not know these.
            error.response_id = error.response_id or self._turn.response_id
            if isinstance(error, ForkedError):
                error.state = self._turn.state.value
                error.may_have_been_billed = self._turn.state is not TurnState.QUEUED
        return error

    def _raise_for_end(self) -> None:
        if self._turn.inbox.error is not None:
            outcome = self._outcome()
            assert isinstance(outcome, Exception)
            raise fresh(outcome)

    # Callbacks.

    def on(self, name: str, fn: Callable[[Any], object]) -> Stream:
        """
        Register a callback and return this stream.

        All callbacks of a stream run in order, one at a time, on the session's callback threads and with the context
        variables of this call. One that is registered late, even after the end, is told everything from the first
        event. They may do anything, such as run a further turn and wait for it. What one raises is logged and given to
        ``callback_error``; the turn goes on.

        Args:
            name: ``chunk`` (gets a ``Chunk``), ``text`` and ``thinking`` (a str), ``tool_call`` (a ``ToolCall``),
                ``meta`` (a mapping), ``event`` (an ``Event``), ``done`` (the ``Response``, once), ``error`` (the
                exception, once) or ``callback_error`` (the exception).
            fn: Called with one argument; what it returns is ignored.

        Raises:
            ConfigurationError: There is no such name, or the callback cannot be called.
        """
        self._prepare_handlers().on(name, fn)
        return self

    def wait(self, timeout: float | None = None) -> None:
        """
        Wait until the turn has ended and its callbacks are done.

        Args:
            timeout: Seconds to wait, or None.

        Raises:
            WaitTimeout: The time was up; turn and callbacks go on.
            WouldDeadlockError: Called by one of these callbacks, or on the I/O thread.
        """
        handlers = self._prepare_handlers()
        self._check_not_own_callback(handlers)
        deadline = _deadline(timeout)
        if handlers.registered:
            told = self._waiting(lambda: handlers.wait(deadline))
        else:
            told = self._turn.ended or self._waiting(lambda: self._turn.inbox.wait_ended(deadline))
        if not told:
            raise WaitTimeout(
                f"The turn's callbacks were not done within {timeout:g} s; they go on."
            )

    def run(self, timeout: float | None = None, **callbacks: Callable[[Any], object]) -> Response:
        """
        Run the callbacks on the calling thread until the turn is over.

        Args:
            timeout: Seconds to wait, or None.
            callbacks: Further callbacks by name, such as ``text=show``. These run on the calling thread alone; one that
                was registered by ``on`` before may have had its first events on a callback thread.

        Returns:
            The final response.

        Raises:
            WaitTimeout: The time was up; the turn goes on.
            WouldDeadlockError: Called by one of these callbacks, or on the I/O thread.
            TurnError: As ``response()``.
            ConnectError: As ``response()``.
            ConfigurationError: As ``on()``.
        """
        handlers = self._prepare_handlers()
        self._check_not_own_callback(handlers)
        deadline = _deadline(timeout)
        if not self._waiting(lambda: handlers.run_here(callbacks, deadline)):
            raise WaitTimeout(f"The turn was not over within {timeout:g} s; it goes on.")
        return self.response()

    def _prepare_handlers(self) -> Handlers:
        with self._turn.inbox.reader_lock:
            # A forked child has callback threads of its own, and leaves the parent's callbacks to the parent.
            if self._handlers is None or self._handlers.threads is not self._owner.callbacks:
                self._handlers = Handlers(
                    self._turn,
                    self._owner.callbacks,
                    self._outcome,
                    self._owner.keep,
                    self._owner.release,
                )
            return self._handlers

    def _check_not_own_callback(self, handlers: Handlers) -> None:
        if handlers.on_own_thread:
            raise WouldDeadlockError(
                "A callback waits for the callbacks of its own stream, itself among them. Use on('done', …) instead."
            )

    # Steering.

    def steer(self, given: str | Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Steer:
        """
        Put something into the response while it runs; never blocks.

        The server stops the response where it can, or lets it end, and then answers again with what was put in: that
        is part of the same turn, so that ``response()`` is the last answer and ``responses()`` has all. Not every
        model can be steered. What was put in too late comes back as ``failed``.

        Args:
            given: A string, one user message (a dict) or a list of them.

        Raises:
            ConfigurationError: It has no usable form.
        """
        steer = Steer(given)
        if self._turn.ended:
            steer.come_too_late()
        else:
            self._owner.post(Put(self._turn, steer))
        return steer

    # Ends.

    def cancel(self, *, hard: bool = False) -> None:
        """
        End the turn; readers and waiters get ``StreamCancelledError``.

        The API has no message for this, so the server goes on unheard; what it still sends is read and dropped for up
        to 5 s, then the connection is replaced. Never blocks; does nothing once the turn has ended.

        Args:
            hard: Replace the connection at once.
        """
        self._post_cancel("The turn was cancelled.", hard=hard)

    def close(self) -> None:
        """Cancel the turn if it still runs; may be repeated."""
        self._post_cancel("The stream was closed.")

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Posts without a lock: a finalizer may run on any thread, in the middle of anything.
        turn = getattr(self, "_turn", None)
        if turn is not None and not turn.ended:
            self._owner.post(Cancel(turn, "Nothing held the turn any more."))

    def __repr__(self) -> str:
        return (
            f"<Stream {self.state} response_id={self.response_id!r} events={len(self._turn.inbox)}>"
        )

    def _post_cancel(self, why: str, *, hard: bool = False) -> None:
        if not self._turn.ended:
            self._owner.post(Cancel(self._turn, why, hard))

    def _waiting(self, wait: Callable[[], View]) -> View:
        """Wait; Ctrl-C during it cancels the turn, so that the lane is free for the next one."""
        self._owner.check_may_wait()
        if isinstance(self._turn.inbox.error, ForkedError):
            self._raise_for_end()  # In a forked child nobody is left to serve callbacks.
        try:
            return wait()
        except KeyboardInterrupt:
            self._post_cancel("Interrupted by Ctrl-C.")
            raise


def legs_of(turn: Turn) -> list[Leg]:
    """Return the responses of a turn that has ended, in order, each with what was put in before it."""
    inbox, legs = turn.inbox, Legs()
    if (
        inbox.error is None
        and turn.final is not None
        and turn.steering is None
        and _says_it_all(turn.final.response)
    ):
        legs.add(turn.final)
    else:
        legs.add_all(events_of(inbox.read(0)))
    return [Leg(given_before(turn, response.id), response) for response in legs.ended()]


def _says_it_all(raw: dict[str, Any]) -> bool:
    return isinstance(raw.get("output"), list) and bool(raw.get("id") and raw.get("status"))
