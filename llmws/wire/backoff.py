"""
When to try again, and how long to wait first: pure values, but for one budget that the process shares.

The rules are those of the design: full jitter on an exponential ceiling, a bounded number of dials, and a budget of
tokens so that a dead server is not stormed by every session of a process at once.
"""

from __future__ import annotations

import datetime
import email.utils
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs


if TYPE_CHECKING:
    import tenacity

__all__ = [
    "RETRYABLE_CLOSE_CODES",
    "Backoff",
    "RetryBudget",
    "process_budget",
    "retry_after",
    "retryable_status",
]

# Going away, no status, broken, server error, restart, try again later, TLS failure: the same list as the vendor's SDK.
RETRYABLE_CLOSE_CODES = frozenset({1001, 1005, 1006, 1011, 1012, 1013, 1015})


def retryable_status(status: int) -> bool:
    """Tell whether another dial may succeed after this HTTP status."""
    return status in (408, 409, 429) or 500 <= status < 600


def retry_after(headers: Mapping[str, str], *, wall_time: float | None = None) -> float | None:
    """
    Read how long the server asks to wait.

    Args:
        headers: Header names in lower case; ``retry-after-ms`` goes before ``retry-after``.
        wall_time: Seconds since the epoch now, to read ``retry-after`` given as a date; None skips dates.

    Returns:
        Seconds, at least 0, or None if the server did not say or its words cannot be read.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            seconds = _until(value, wall_time)
        if 0 <= seconds < float("inf"):
            return seconds
    return None


def _until(date: str, wall_time: float | None) -> float:
    try:
        at = email.utils.parsedate_to_datetime(date)
        # HTTP's dates are GMT, also in the form that does not say so.
        when = (at if at.tzinfo else at.replace(tzinfo=datetime.timezone.utc)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return float("nan")
    return max(0.0, when - wall_time) if wall_time is not None else float("nan")


@attrs.frozen(kw_only=True)
class Backoff:
    """
    How often to dial, and the wait before each further dial.

    Attributes:
        base: Ceiling of the first wait in seconds; it doubles with each attempt.
        cap: Highest ceiling in seconds.
        attempts: Dials in a row without a useful event between them, before giving up.
        longest_retry_after: A server that asks for a longer wait than this is not waited for.
    """

    base: float = 0.5
    cap: float = 30.0
    attempts: int = 5
    longest_retry_after: float = 60.0

    def exhausted(self, attempt: int) -> bool:
        """Tell whether no further dial is due after ``attempt`` failed ones."""
        import tenacity

        return bool(tenacity.stop_after_attempt(self.attempts)(_retry_state(attempt)))

    def delay(self, attempt: int, fraction: float, asked: float | None = None) -> float:
        """
        Return the seconds to wait after the ``attempt``-th failure.

        Args:
            attempt: How many dials have failed in a row, from 1.
            fraction: A random number from 0 to 1: full jitter.
            asked: What the server asked for, in seconds; never undercut.
        """
        import tenacity

        ceiling = tenacity.wait_exponential(multiplier=self.base, max=self.cap)
        wait = fraction * float(ceiling(_retry_state(attempt)))
        return max(wait, asked) if asked is not None else wait


def _retry_state(attempt: int) -> tenacity.RetryCallState:
    # tenacity's waits and stops are used as values: of the call's state they look at the attempt alone. Imported here
    # because a program whose connection never breaks should not pay for it.
    import tenacity

    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = attempt
    return state


class RetryBudget:
    """
    Tokens that retries cost and useful events earn back.

    Thread-safe; its lock is never held across anything.

    Args:
        tokens: What the budget starts with and never passes.
        cost: What one retry takes.
    """

    def __init__(self, tokens: int = 500, cost: int = 14) -> None:
        self._capacity = tokens
        self._cost = cost
        self._tokens = tokens
        self._lock = threading.Lock()

    @property
    def tokens(self) -> int:
        """What is left."""
        return self._tokens

    def spend(self) -> bool:
        """Pay for one retry; return False, and take nothing, if the budget does not reach."""
        with self._lock:
            if self._tokens < self._cost:
                return False
            self._tokens -= self._cost
            return True

    def earn(self) -> None:
        """Give back one retry's cost after a useful event."""
        with self._lock:
            self._tokens = min(self._capacity, self._tokens + self._cost)

    def reset_lock(self) -> None:
        """Replace the lock in a forked child, where nobody is left to release it."""
        self._lock = threading.Lock()


# Shared by every connection of the process: one dead server must not be stormed by a hundred sessions.
process_budget = RetryBudget()
