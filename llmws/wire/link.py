"""
The life of one connection, without I/O: dialling, backoff, writing, pings, closing.

``Link.step(now, given)`` takes one thing that happened and returns what is to be done about it. It reads no clock and
touches no socket: the I/O thread (``connection.py``) feeds it and does as it says, and so does a test with numbers of
its own. ``deadline`` says when it wants a ``Tick`` even if nothing happens.

States::

    IDLE ──Want──▶ DIALLING ──Dialled──▶ OPEN ──lost, or closed by the peer──▶ ENDING ──▶ IDLE
      │                │ DialFailed        └──Close──▶ ENDING ──▶ STOPPED
      └─Want, after    ▼
        failures ──▶ WAITING (backoff) ──Tick──▶ DIALLING
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from typing import Any, ClassVar

import attrs

from ..errors import ConnectError, ConnectTimeout, ReconnectError
from .backoff import RETRYABLE_CLOSE_CODES, Backoff
from .framing import (
    PING,
    PONG,
    TEXT,
    Binary,
    Close,
    Delivery,
    Framing,
    Ping,
    Violation,
    encode,
    encode_close,
    encode_in_pieces,
)
from .liveness import Liveness
from .outbox import Outbox
from .steps import (
    Action,
    AskRetry,
    CloseSocket,
    Deliver,
    Dial,
    DialFailed,
    Dialled,
    Drop,
    Ended,
    Filled,
    Finished,
    GaveUp,
    Given,
    Granted,
    Lost,
    Opened,
    Received,
    Repay,
    Retrying,
    Send,
    Started,
    Stop,
    Stopped,
    Tick,
    Unwant,
    Useful,
    Want,
    Withdraw,
    Wrote,
)


__all__ = ["Link", "LinkPolicy", "LinkState"]

# A longer request is masked while its beginning travels.
_LONG_BYTES = 512 * 1024
# Of the pings that one read brings, so many are answered.
_MOST_PONGS = 64


@attrs.frozen(kw_only=True)
class LinkPolicy:
    """
    The numbers that a link lives by; times in seconds.

    Attributes:
        ping_interval: From one ping to the next.
        ping_timeout: Nothing at all received for so long after a ping was written: the link is dead.
        pong_grace: How long a request waits for an overdue pong before the link is replaced.
        close_timeout: How long the closing handshake may take.
        max_message_bytes: A longer message breaks the link (close code 1009).
        backoff: When to dial again.
    """

    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    pong_grace: float = 1.0
    close_timeout: float = 1.0
    max_message_bytes: int = 128 * 2**20
    backoff: Backoff = attrs.field(factory=Backoff)


class LinkState(enum.Enum):
    """Where a link is in its life; see the module's picture."""

    IDLE = "idle"
    DIALLING = "dialling"
    WAITING = "waiting"
    OPEN = "open"
    ENDING = "ending"
    STOPPED = "stopped"


class Link:
    """
    The state machine of one connection; see the module.

    Not thread-safe: it belongs to its connection's I/O thread.

    Args:
        policy: The numbers it lives by.
        mask_key: Gives four unpredictable bytes for each frame.
    """

    def __init__(
        self,
        policy: LinkPolicy | None = None,
        mask_key: Callable[[], bytes] = lambda: os.urandom(4),
    ) -> None:
        self._policy = policy or LinkPolicy()
        self._mask_key = mask_key
        self.state = LinkState.IDLE
        self._now = 0.0
        self._actions: list[Action] = []
        self._wanted = False
        # The limit of the next dial, and of the one that is under way.
        self._dial_timeout: float | None = None
        self._dialled_for: float | None = None
        # Dialling: failures in a row without a useful event between them, and when they began.
        self._failures = 0
        self._failing_since = 0.0
        self._last_failure: ConnectError | None = None
        self._useful_since_open = False
        self._retry_at: float | None = None
        self._framing = Framing("client", max_message_bytes=self._policy.max_message_bytes)
        self._outbox = Outbox()
        self._liveness = Liveness(
            self._policy.ping_interval, self._policy.ping_timeout, self._policy.pong_grace
        )
        # Ending. A breach that came in the same bytes as messages waits until these are answered.
        self._breach: Violation | None = None
        self._ending_until = 0.0
        self._await_close = False
        self._stopping = False

    def __repr__(self) -> str:
        return f"<Link {self.state.name} failures={self._failures} frames={len(self._outbox)}>"

    def step(self, now: float, given: Given) -> list[Action]:
        """
        Take one thing that happened and return what is to be done.

        Args:
            now: Monotonic seconds; never less than in the step before.
            given: What happened.
        """
        self._now = now
        self._HANDLERS[type(given)](self, given)
        # Not kept: they hold messages and logs, and the next step may be long in coming.
        actions, self._actions = self._actions, []
        return actions

    @property
    def deadline(self) -> float | None:
        """When a ``Tick`` is due, on the clock of ``step``, or None if none is."""
        if self.state is LinkState.WAITING:
            return self._retry_at
        if self.state is LinkState.ENDING:
            return self._ending_until
        if self._breach is not None:
            return self._now
        return self._liveness.deadline if self.state is LinkState.OPEN else None

    def pending(self) -> memoryview | None:
        """Return the bytes to write next, or None; report what the kernel took by ``Wrote``."""
        return self._outbox.next_bytes(hold_messages=self._liveness.holds)

    def room(self) -> memoryview | None:
        """Return where the next bytes of a large message belong, or None; report them by ``Filled``."""
        return self._framing.room() if self.state is LinkState.OPEN else None

    # Dialling and backoff.

    def _want(self, given: Want) -> None:
        error = self._last_failure
        if given.fresh and not self._wanted and error is not None and not error.retryable:
            # Nothing is repeated by itself after such a failure; whoever asks anew is worth one dial.
            self._forgive()
        self._wanted = True
        self._dial_timeout = given.timeout
        if self.state is LinkState.IDLE:
            self._dial_or_wait()

    def _unwant(self, given: Unwant) -> None:
        self._wanted = False
        if self.state is LinkState.WAITING:
            self.state = LinkState.IDLE

    def _dial_or_wait(self) -> None:
        error = self._last_failure
        if not self._failures or error is None:
            self._dial()
        elif not error.retryable:
            self._give_up(error)
        elif self._policy.backoff.exhausted(self._failures):
            self._give_up(self._exhausted(error, "the dials allowed in a row are used up"))
        else:
            self.state = LinkState.WAITING
            self._retry_at = None
            self._actions.append(AskRetry())

    def _dial(self) -> None:
        self.state = LinkState.DIALLING
        self._dialled_for = self._dial_timeout
        self._actions.append(Dial(self._dial_timeout))

    def _granted(self, given: Granted) -> None:
        error = self._last_failure
        if self.state is not LinkState.WAITING or error is None:
            return
        backoff = self._policy.backoff
        asked = error.retry_after
        if given.fraction is None:
            self._give_up(self._exhausted(error, "the process's retry budget is used up"))
        elif asked is not None and asked > backoff.longest_retry_after:
            self._give_up(self._exhausted(error, f"the server asks to wait {asked:.0f} s"))
        else:
            delay = backoff.delay(self._failures, given.fraction, asked)
            self._retry_at = self._now + delay
            self._actions.append(Retrying(self._failures, delay, error))

    def _exhausted(self, error: ConnectError, why: str) -> ReconnectError:
        elapsed = self._now - self._failing_since
        gave_up = ReconnectError(
            f"Gave up after {self._failures} failed dials in {elapsed:.1f} s ({why}); the last one: {error}",
            attempts=self._failures,
            elapsed=elapsed,
        )
        gave_up.__cause__ = error
        return gave_up

    def _give_up(self, error: ConnectError, timeout: float | None = None) -> None:
        self.state = LinkState.IDLE
        self._wanted = False
        self._forgive()
        self._actions.append(GaveUp(error, timeout))

    def _dialled(self, given: Dialled) -> None:
        if self._stopping:
            self._actions.append(CloseSocket())
            return
        self.state = LinkState.OPEN
        self._wanted = False
        self._useful_since_open = False
        self._framing = Framing("client", max_message_bytes=self._policy.max_message_bytes)
        self._liveness.opened(self._now)
        self._actions.append(Opened())

    def _dial_failed(self, given: DialFailed) -> None:
        if self._stopping:
            return
        self._count_failure(given.error)
        self.state = LinkState.IDLE
        if self._wanted and isinstance(given.error, ConnectTimeout):
            # A limit of the caller's has passed, and like every other one it is not stretched by trying again.
            self._give_up(given.error, self._dialled_for)
        elif self._wanted:
            self._dial_or_wait()

    def _count_failure(self, error: ConnectError) -> None:
        if not self._failures:
            self._failing_since = self._now
        self._failures += 1
        self._last_failure = error

    def _forgive(self) -> None:
        self._failures = 0
        self._last_failure = None

    def _useful(self, given: Useful) -> None:
        if not self._useful_since_open:
            self._actions.append(Repay())
        self._useful_since_open = True
        self._forgive()

    # Reading.

    def _received(self, given: Received) -> None:
        if self.state is LinkState.OPEN or self._await_close:
            self._liveness.heard()
            self._deliver(self._framing.feed(given.data))

    def _filled(self, given: Filled) -> None:
        self._liveness.heard()
        self._deliver(self._framing.filled(given.count))

    def _deliver(self, delivered: list[Delivery]) -> None:
        if self._framing.only_text:
            messages: Any = delivered
        else:
            messages = [
                item.data if isinstance(item, Binary) else item
                for item in delivered
                # Binary is not expected, but a gateway that sends its JSON so means no harm (inferred).
                if isinstance(item, (bytes, bytearray, Binary))
            ]
        if messages and self.state is LinkState.OPEN:
            self._actions.append(Deliver(messages))
        if not self._framing.only_text:
            # Of many pings that came at once, the newest need an answer alone (RFC 6455 §5.5.3).
            pings = [item for item in delivered if isinstance(item, Ping)]
            for ping in pings[-_MOST_PONGS:]:
                self._outbox.add_control(encode(PONG, ping.payload, mask=self._mask_key()))
            for item in delivered[-1:]:
                self._control_frame(item, bool(messages))

    def _control_frame(self, item: Delivery, behind_messages: bool) -> None:
        """Look at the last thing that was delivered: a close or a breach is nowhere else."""
        if isinstance(item, Close):
            self._peer_closed(item)
        elif isinstance(item, Violation) and self._await_close:
            self._socket_over()
        elif isinstance(item, Violation) and behind_messages:
            self._breach = item
        elif isinstance(item, Violation):
            self._broken(item)

    def _broken(self, breach: Violation) -> None:
        self._end(
            Lost(
                breach.code, f"the server broke the WebSocket protocol: {breach.reason}", None, True
            ),
            encode_close(breach.code, breach.reason, mask=self._mask_key()),
        )

    def _peer_closed(self, close: Close) -> None:
        if self._await_close:
            self._socket_over()
        else:
            self._end(
                Lost(close.code, close.reason), encode_close(close.code, mask=self._mask_key())
            )

    def _ended(self, given: Ended) -> None:
        if self._breach is not None:
            self._broken(self._breach)
        elif self.state is LinkState.OPEN:
            error = given.error
            reason = f"the link broke: {error}" if error else "the link ended without a close frame"
            self._actions.append(self._lose(Lost(1006, reason, error)))
        if self.state in (LinkState.OPEN, LinkState.ENDING):  # A breach may have ended it.
            self._socket_over()

    # Writing.

    def _send(self, given: Send) -> None:
        if self.state is not LinkState.OPEN:
            # The socket was lost in the same bytes that led to this message. It is forgotten with those before it.
            return
        build = encode_in_pieces if len(given.message) > _LONG_BYTES else encode
        self._outbox.add_message(build(TEXT, given.message, mask=self._mask_key()), given.key)
        if self._liveness.request_queued(self._now):
            self._ping()

    def _withdraw(self, given: Withdraw) -> None:
        self._outbox.withdraw(given.key)

    def _wrote(self, given: Wrote) -> None:
        progress = self._outbox.wrote(given.count)
        if progress is None:
            return
        frame, first = progress
        if given.count:
            self._liveness.progressed(self._now)
        if frame.key is not None and first:
            self._actions.append(Started(frame.key))
        if frame.finished and frame.ping:
            self._liveness.ping_written(self._now)
        if frame.finished and frame.key is not None:
            self._actions.append(Finished(frame.key))
        if self.state is LinkState.ENDING and not self._await_close and not self._outbox:
            self._socket_over()

    # Liveness.

    def _tick(self, given: Tick) -> None:
        deadline = self.deadline
        if deadline is None or self._now < deadline:
            return
        if self.state is LinkState.WAITING:
            self._dial()
        elif self.state is LinkState.ENDING:
            self._socket_over()
        elif self._breach is not None:
            self._broken(self._breach)
        elif self._liveness.waits:
            self._break(f"no answer to a ping for {self._liveness.silence(self._now):.1f} s")
        else:
            self._ping()

    def _ping(self) -> None:
        self._liveness.ping_queued(self._now)
        self._outbox.add_control(encode(PING, b"llmws", mask=self._mask_key()), ping=True)

    # Ending.

    def _break(self, reason: str) -> None:
        self._actions.append(self._lose(Lost(1006, reason)))
        self._socket_over()

    def _lose(self, lost: Lost) -> Lost:
        """Forget what belonged to this socket, and count it as a failed dial if it was of no use."""
        self._outbox.clear()
        if not self._useful_since_open:
            self._count_failure(
                ConnectError(
                    f"The server accepted the connection and ended it with code {lost.code} before any "
                    f"response ({lost.words}).",
                    retryable=lost.code in RETRYABLE_CLOSE_CODES or lost.code == 1000,
                )
            )
        return lost

    def _end(self, lost: Lost, farewell: bytes | bytearray) -> None:
        """Report the loss at once, then spend a moment on saying goodbye."""
        if self.state is LinkState.OPEN:
            self._actions.append(self._lose(lost))
        if self._outbox.begun:
            # No farewell fits into a frame that has begun, and the peer no longer waits for its end.
            self._socket_over()
            return
        self._outbox.add_control(farewell)
        self.state = LinkState.ENDING
        self._await_close, self._breach = False, None
        self._ending_until = self._now + self._policy.close_timeout

    def _drop(self, given: Drop) -> None:
        if self.state is LinkState.OPEN:
            self._socket_over()

    def _stop(self, given: Stop) -> None:
        self._stopping = True
        self._wanted = False
        if self._breach is not None:
            self._broken(self._breach)
        elif self.state is LinkState.OPEN:
            self._outbox.clear()
            self._outbox.add_control(encode_close(1000, mask=self._mask_key()))
            self.state = LinkState.ENDING
            self._await_close = True
            self._ending_until = self._now + self._policy.close_timeout
        elif self.state is not LinkState.ENDING:
            self._socket_over()

    def _socket_over(self) -> None:
        """The socket's time is over: close it, and go on as wished."""
        if self.state in (LinkState.OPEN, LinkState.ENDING):
            self._actions.append(CloseSocket())
        self._outbox.abandon()
        self._await_close, self._breach = False, None
        self._liveness.heard()
        if self._stopping:
            if self.state is not LinkState.STOPPED:
                self.state = LinkState.STOPPED
                self._actions.append(Stopped())
            return
        self.state = LinkState.IDLE
        if self._wanted:
            self._dial_or_wait()

    _HANDLERS: ClassVar[dict[type, Callable[..., None]]] = {
        Want: _want,
        Unwant: _unwant,
        Dialled: _dialled,
        DialFailed: _dial_failed,
        Granted: _granted,
        Received: _received,
        Filled: _filled,
        Ended: _ended,
        Send: _send,
        Withdraw: _withdraw,
        Wrote: _wrote,
        Useful: _useful,
        Drop: _drop,
        Stop: _stop,
        Tick: _tick,
    }
