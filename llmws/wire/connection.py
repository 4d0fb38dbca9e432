"""
The I/O thread around a link: the only code that touches the socket.

One daemon thread a connection. It drains what other threads posted, writes, reads, and runs timers; between these it
waits in ``Poll``. Everything it decides is decided by two pure state machines, the ``Link`` (is there a socket, does it
live, when to dial) and the ``Router`` (whose message is it). This file only carries values between them, the socket and
the inboxes.

Who owns what: socket, link and router belong to the I/O thread. Other threads own nothing here; they call ``post``,
which appends to a deque and rings a bell. No lock is held while anything is read, written, waited for or called.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ..errors import ConnectError
from .backoff import RetryBudget, process_budget
from .dialling import Dialling, DialResult, spawn_thread
from .link import Link
from .monitor import Gate
from .poll import Poll, SelectorPoll
from .ports import (
    Allowed,
    Append,
    AskAgain,
    Counters,
    Crashed,
    Finish,
    Overflowed,
    Report,
    Router,
    Tap,
)
from .process import live_connections
from .receive import discard, receive, receive_into
from .steps import (
    AskRetry,
    CloseSocket,
    Deliver,
    Dial,
    DialFailed,
    Dialled,
    Ended,
    Filled,
    Finished,
    GaveUp,
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
    Wrote,
)
from .tapping import Tapping


__all__ = ["Connection"]

logger = logging.getLogger(__name__)

_ROUND_BYTES = 1024 * 1024
# …and a round lasts about so long: a flood of frames without content would make a mebibyte take seconds.
_ROUND_SECONDS = 0.02


class Connection:
    """
    One I/O thread and the socket that it holds now; survives any number of sockets.

    ``post``, ``stop`` and ``join`` may be called from any thread. The thread starts with the first post.

    Args:
        name: The thread's name, such as ``llmws-responses-1``.
        url: Where it leads, without secrets; for taps and logs.
        dial: Dials once, blocking; gets the seconds it may take and an event that is set when nobody waits any more.
        router: Gets the messages.
        link: The link's state machine.
        tap: Hears the wire.
        hear: Gets the router's reports, on the I/O thread; must neither block nor raise.
        clock: Monotonic seconds.
        poll: Makes what the thread waits on.
        spawn: Starts a daemon thread.
        budget: Pays for dials after a failure.
        jitter: Random numbers from 0 to 1.
    """

    def __init__(
        self,
        name: str,
        url: str,
        dial: Callable[[float | None, threading.Event], Any],
        router: Router,
        link: Link,
        *,
        tap: Tap | None = None,
        hear: Callable[[Any], None] = lambda report: None,
        clock: Callable[[], float] = time.monotonic,
        poll: Callable[[], Poll] = SelectorPoll,
        spawn: Callable[[str, Callable[[], None]], None] = spawn_thread,
        budget: RetryBudget = process_budget,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.counters = Counters()
        self._tapping = Tapping(clock)
        self._tapping.tap = tap
        self.hear = hear
        self._url = url
        self._router = router
        self._link = link
        self._clock = clock
        self._make_poll = poll
        self._poll: Poll | None = None
        self._spawn = spawn
        self._budget = budget
        self._jitter = jitter
        self._posts: deque[Any] = deque()
        self._started = False
        self._start_lock = threading.Lock()
        self._stopped = Gate()
        self._thread_id: int | None = None
        # Of the I/O thread alone.
        self._dialling = Dialling(dial, self.post_quietly, spawn)
        self._sock: socket.socket | None = None
        self._todo: deque[Any] = deque()
        self._stopping = False
        self._due: float | None = None  # When a timer runs out, as it was before the last wait.
        self._unread = False  # There may be more to read than select() can see.
        self._blocked_write = False  # The kernel has no room.
        self._write_after_read = False  # TLS must read before it can write.

    def __repr__(self) -> str:
        return f"<Connection {self.name} {self._link.state.name} dials={self.counters.dials}>"

    # For other threads.

    def post(self, given: Any) -> None:
        """
        Hand something to the I/O thread, starting it if need be; never blocks.

        After the end it is handed back: an inbox that it carries is not left to wait.

        Raises:
            ConnectError: The system has no thread for the connection; nothing was posted.
        """
        if not self._started:
            self._start()
        self.post_quietly(given)

    def post_quietly(self, given: Any) -> None:
        """Do as ``post`` does, without a lock and without starting the thread: for finalizers and signal handlers."""
        self._post(given)
        if self._stopped.is_set():
            self._refuse_posts()

    def _post(self, given: Any) -> None:
        self._posts.append(given)
        if (poll := self._poll) is not None:
            poll.wake()

    def stop(self) -> None:
        """Ask the thread to close the socket and end; waits for no lock, never blocks, may be repeated."""
        self._post(Stop())
        # A thread that is being started at this moment finds the post above.
        if not self._started and self._start_lock.acquire(blocking=False):
            try:
                if not self._started:
                    self._stopped.set()
            finally:
                self._start_lock.release()

    def join(self, timeout: float | None) -> bool:
        """Wait for the thread's end after ``stop``; return whether it came in time."""
        return self._stopped.wait(timeout)

    @property
    def tap(self) -> Tap | None:
        """What hears the wire; may be changed at any time."""
        return self._tapping.tap

    @tap.setter
    def tap(self, tap: Tap | None) -> None:
        self._tapping.tap = tap

    @property
    def over(self) -> bool:
        """Whether the thread has ended, or will never begin."""
        return self._stopped.is_set()

    @property
    def on_own_thread(self) -> bool:
        """Whether the caller is the I/O thread, which must never wait."""
        return threading.get_ident() == self._thread_id

    def abandon_in_child(self) -> None:
        """Let go of the parent's socket in a forked child: close descriptors, say nothing to the peer."""
        if self._poll is not None:
            self._poll.abandon()
        posted = [post.sock for post in self._posts if isinstance(post, DialResult)]
        for sock in (self._sock, *posted):
            if sock is not None:
                with contextlib.suppress(OSError):
                    os.close(sock.detach())
        self._sock = None
        self._stopped = Gate()
        self._stopped.set()

    def _start(self) -> None:
        with self._start_lock:
            if not self._started and not self._stopped.is_set():
                self._poll = poll = self._make_poll()
                live_connections.add(self)
                try:
                    self._spawn(self.name, self.run)
                except RuntimeError as exc:
                    self._poll = None
                    poll.close()
                    raise ConnectError(f"No thread for the connection: {exc}.") from exc
                self._started = True

    def _refuse_posts(self) -> None:
        """Turn away what was posted after the end; a deque's popleft gives each post to one thread alone."""
        with contextlib.suppress(IndexError):
            while True:
                refuse = getattr(self._posts.popleft(), "refuse", None)
                if refuse is not None:
                    refuse()

    # The I/O thread.

    def run(self) -> None:
        """Be the I/O thread until stopped."""
        self._thread_id = threading.get_ident()
        poll = self._poll
        assert poll is not None
        reports: list[Report] = []
        try:
            while self.run_once(poll):
                pass
        except BaseException as exc:
            # The thread's last line: no reader may wait for a thread that is gone.
            logger.exception("%s: the I/O thread failed", self.name)
            reports = self._break_down(exc)
        finally:
            self._over(poll)
        for report in reports:
            try:
                self.hear(report.what)
            except Exception:  # One may be what failed; the others are of other turns.
                logger.exception("%s: a report of the failed I/O thread was lost", self.name)

    def _break_down(self, exc: BaseException) -> list[Report]:
        """End what no thread sees to any more, and do nothing else; return what is to be reported once all is over."""
        # What was decided stays so: the router has let go of turns that it wished to end, give back, or ask about.
        failed, *decided = self._todo or [None]
        self._todo.clear()
        for action in (failed, *decided):
            if type(action) is AskAgain:
                decided += self._router.step(self._clock(), Allowed(action.key, None))
        decided += self._router.step(self._clock(), Crashed(exc))
        for end in [action for action in (failed, *decided) if type(action) is Finish]:
            end.inbox.end(end.error)
        return [action for action in decided if type(action) is Report]

    def run_once(self, poll: Poll) -> bool:
        """Do one round; return whether another is due."""
        self._drain_posts()
        self._write()
        readable, writable = poll.wait(self._timeout(), write=self._blocked_write)
        if writable:
            self._blocked_write = False
        if readable or writable or self._unread:
            self._read()
        self._tick()
        return not self._stopping

    def _over(self, poll: Poll) -> None:
        self._close_socket()
        self._dialling.abandon()
        live_connections.discard(self)
        poll.close()
        self._thread_id = None  # The system gives it to another thread.
        self._stopped.set()
        self._refuse_posts()

    def _timeout(self) -> float | None:
        due = self._link.deadline
        for other in (self._router.deadline, self._dialling.deadline):
            due = other if due is None or (other is not None and other < due) else due
        self._due = due
        if self._unread or self._posts or self._stopping:
            return 0.0
        return None if due is None else max(0.0, due - self._clock())

    def _tick(self) -> None:
        now = self._clock()
        if self._due is None or now < self._due:
            return
        overdue = self._dialling.overdue(now)
        if overdue is not None:
            self.counters.failed_dials += 1
            self._carry(self._link.step(now, DialFailed(overdue)))
        # What lies in the kernel came in time, however late this thread is to look.
        self._read()
        self._carry(self._link.step(now, Tick()))
        self._carry(self._router.step(now, Tick()))

    def _drain_posts(self) -> None:
        while self._posts and not self._stopping:
            given = self._posts.popleft()
            now = self._clock()
            if isinstance(given, DialResult):
                self._dial_ended(now, given)
                continue
            self._carry(self._router.step(now, given))
            if isinstance(given, Stop):
                self._carry(self._link.step(now, given))

    def _carry(self, actions: list[Any]) -> None:
        """Do what the state machines ask, in order, including what that leads to."""
        todo = self._todo
        carrying = bool(todo)
        todo.extend(actions)
        if carrying:
            return  # A call below this one on the stack goes on with it.
        while todo:
            self._perform(todo[0])
            todo.popleft()

    def _perform(self, action: Any) -> None:
        kind = type(action)
        if kind is Append:
            if not action.inbox.extend(action.items, action.size_bytes):
                self._carry(self._router.step(self._clock(), Overflowed(action.inbox)))
        elif kind is Finish:
            action.inbox.end(action.error)
        elif kind in _FOR_ROUTER:
            if kind in _NOTED or self._tapping.tap is not None:
                self._tapping.note(action, self.name, self.counters)
            self._carry(self._router.step(self._clock(), action))
        elif kind in _PERFORM:
            _PERFORM[kind](self, action)
        else:
            if kind is Send:
                self._tapping.sent(action.message)
            self._carry(self._link.step(self._clock(), action))

    def _start_dial(self, action: Dial) -> None:
        self.counters.dials += 1
        self._dialling.start(f"{self.name}-dial", self._clock(), action.timeout)

    def _dial_ended(self, now: float, result: DialResult) -> None:
        if not self._dialling.accept(result):
            return
        if result.sock is None:
            self.counters.failed_dials += 1
            self._carry(self._link.step(now, DialFailed(result.error or ConnectError())))
            return
        self._sock = result.sock
        # TLS may hold bytes that select() cannot see, so the first read does not wait to be told.
        self._unread = True
        assert self._poll is not None
        self._poll.watch(result.sock)
        self._tapping.opened(self._url)
        self._carry(self._link.step(now, Dialled()))
        if result.early:
            self._carry(self._link.step(now, Received(result.early)))

    # The socket.

    def _read(self) -> None:
        self._unread = self._write_after_read = False
        taken, until = 0, self._clock() + _ROUND_SECONDS
        while self._sock is not None and taken < _ROUND_BYTES and self._clock() <= until:
            count = self._read_some(self._sock, first=not taken)
            if count is None:
                return
            taken += count
        self._unread = self._sock is not None

    def _read_some(self, sock: socket.socket, *, first: bool) -> int | None:
        """Read once; return the bytes taken, or None if there is nothing more for now."""
        room = self._link.room()
        given: Received | Filled
        if room is None:
            data, why_no_more = receive(sock, first=first)
            count, given = len(data), Received(data)
        else:
            with room:
                count, why_no_more = receive_into(sock, room)
            given = Filled(count)
        if count:
            self.counters.bytes_received += count
            self._carry(self._link.step(self._clock(), given))
        if why_no_more is None:
            return count
        self._stop_reading(why_no_more)
        return None

    def _stop_reading(self, why: OSError | EOFError) -> None:
        if isinstance(why, ssl.SSLWantWriteError):
            self._blocked_write = True
        elif not isinstance(why, (BlockingIOError, InterruptedError, ssl.SSLWantReadError)):
            self._socket_ended(why if isinstance(why, OSError) else None)

    def _write(self) -> None:
        written = 0
        while self._sock is not None and not self._blocked_write and not self._write_after_read:
            pending = self._link.pending()
            if pending is None:
                return
            if written >= _ROUND_BYTES:
                # Reading comes first; the wait ends at once, as there is room.
                self._blocked_write = True
                return
            try:
                count = self._sock.send(pending)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as exc:
                # TLS has taken the bytes, and must be given the same ones again: the frame has begun.
                self._write_after_read = isinstance(exc, ssl.SSLWantReadError)
                self._blocked_write = not self._write_after_read
                self._carry(self._link.step(self._clock(), Wrote(0)))
                return
            except (BlockingIOError, InterruptedError):
                self._blocked_write = True
                return
            except OSError as exc:
                # The peer may have said why before it stopped reading: a close frame or an error event.
                self._read()
                self._socket_ended(exc)
                return
            written += count
            self.counters.bytes_sent += count
            self._carry(self._link.step(self._clock(), Wrote(count)))

    def _socket_ended(self, error: OSError | None) -> None:
        if self._sock is not None:
            self._carry(self._link.step(self._clock(), Ended(error)))

    def _close_socket(self, action: CloseSocket | None = None) -> None:
        sock, self._sock = self._sock, None
        self._unread = self._blocked_write = self._write_after_read = False
        if sock is None:
            return
        self._tapping.closed(1000, "")
        assert self._poll is not None
        self._poll.unwatch(sock)
        # Bytes left unread would make the close a reset, which may overtake the close frame that was just written.
        discard(sock, _ROUND_BYTES)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()

    def _ask_retry(self, action: AskRetry) -> None:
        self._carry(self._link.step(self._clock(), Granted(self._allowance())))

    def _ask_again(self, action: AskAgain) -> None:
        self._carry(self._router.step(self._clock(), Allowed(action.key, self._allowance())))

    def _allowance(self) -> float | None:
        return self._jitter() if self._budget.spend() else None

    def _report(self, action: Report) -> None:
        self.hear(action.what)

    def _repay(self, action: Repay) -> None:
        self._budget.earn()

    def _link_stopped(self, action: Stopped) -> None:
        self._stopping = True


_FOR_ROUTER = frozenset({Opened, Deliver, Started, Finished, Lost, Retrying, GaveUp})
_NOTED = frozenset({Lost, Retrying, GaveUp})
_PERFORM: dict[type, Callable[[Connection, Any], None]] = {
    Dial: Connection._start_dial,
    AskRetry: Connection._ask_retry,
    AskAgain: Connection._ask_again,
    Report: Connection._report,
    Repay: Connection._repay,
    CloseSocket: Connection._close_socket,
    Stopped: Connection._link_stopped,
}
