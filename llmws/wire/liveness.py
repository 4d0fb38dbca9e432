"""
Whether a link lives: pings, and the trust in a link that has not been heard for a while. Arithmetic on times, no I/O.

A ping shows that the link lives; that a turn makes progress, only its events show.
"""

from __future__ import annotations


__all__ = ["Liveness"]


class Liveness:
    """
    The clocks of one link.

    Args:
        ping_interval: Seconds from one ping to the next.
        ping_timeout: Nothing at all received for so long after a ping was written: the link is dead.
        pong_grace: Seconds that a request waits for an overdue pong before the link is given up.
    """

    def __init__(self, ping_interval: float, ping_timeout: float, pong_grace: float) -> None:
        self._interval = ping_interval
        self._timeout = ping_timeout
        self._grace = pong_grace
        self._next_ping_at = 0.0
        self._ping_at: float | None = None  # The ping that is out.
        self._ping_was_late = False  # So late that the process, or the machine, must have slept.
        self._progress_at = 0.0
        self._held_until: float | None = None

    @property
    def holds(self) -> bool:
        """Whether no request may begin to be written, because a pong is overdue."""
        return self._held_until is not None

    @property
    def waits(self) -> bool:
        """Whether a ping is out."""
        return self._ping_at is not None

    def opened(self, now: float) -> None:
        """Begin afresh with a new socket."""
        self.heard()
        self._next_ping_at = now + self._interval

    def heard(self) -> None:
        """Note that something was received: any byte shows that the link lives."""
        self._ping_at = self._held_until = None
        self._ping_was_late = False

    def progressed(self, now: float) -> None:
        """Note that the kernel took something: the peer is reading, and a pong may wait behind what it reads."""
        self._progress_at = now

    def ping_queued(self, now: float) -> None:
        """Note that a ping is in the outbox."""
        self._ping_was_late = now >= self._next_ping_at + self._grace
        self._ping_at = now
        self._next_ping_at = now + self._interval

    def ping_written(self, now: float) -> None:
        """Note that the ping's bytes reached the kernel: only now its clock starts."""
        self._ping_at = now

    def request_queued(self, now: float) -> bool:
        """
        Hold a new request back if the link is in doubt; a second one does not prolong the first one's wait.

        Returns:
            Whether a ping is to be sent for that. The timers are late then: the process was suspended, or the machine
            slept, and the link is asked before it is trusted.
        """
        late = self._ping_at is None and now >= self._next_ping_at + self._grace
        overdue = self._ping_at is not None and (
            self._ping_was_late or now >= self._ping_at + self._grace
        )
        if (late or overdue) and self._held_until is None:
            self._held_until = now + self._grace
        return late

    @property
    def deadline(self) -> float:
        """When to ping or, with a ping out, when to give the link up."""
        if self._ping_at is None:
            return self._next_ping_at
        dead_at = max(self._ping_at, self._progress_at) + self._timeout
        return dead_at if self._held_until is None else min(dead_at, self._held_until)

    def silence(self, now: float) -> float:
        """Return the seconds since the ping that is out was written."""
        return 0.0 if self._ping_at is None else now - self._ping_at
