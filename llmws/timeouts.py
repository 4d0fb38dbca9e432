"""How long each phase of a turn may take, and how users give such limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import attrs

from .errors import ConfigurationError


__all__ = ["Timeouts", "deadline", "seconds"]

# Sockets and selectors count milliseconds in 31 bits: 24 days.
_LONGEST = 2_000_000


def seconds(
    name: str,
    value: Any,
    *,
    none_ok: bool = True,
    zero_ok: bool = False,
    longest: float = threading.TIMEOUT_MAX,
) -> float | None:
    """
    Check a limit as a user gave it.

    Args:
        name: What to call it in an error.
        value: The limit.
        none_ok: Whether there may be none, as None.
        zero_ok: Whether it may be 0.
        longest: The longest that it may be; by default what the system can wait for.

    Returns:
        The limit, or None for none.

    Raises:
        ConfigurationError: It is no number of seconds, or one that nothing can be made of.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is None and none_ok:
        return None
    # Written so that NaN, which is neither above nor below anything, is refused.
    if not (is_number and 0 <= value <= longest and (value or zero_ok)):
        least = "from 0" if zero_ok else "above 0 and"
        way_out = ", or None for no limit" if none_ok else ""
        raise ConfigurationError(
            f"{name} is {_shown(value)}: give seconds as a number {least} up to {longest:,.0f}{way_out}."
        )
    limit: float = value
    return limit


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # Python writes no integer of more than some thousand digits.
        return f"a number too long to show ({type(value).__name__})"


def deadline(timeout: Any) -> float | None:
    """
    Return when to stop waiting, on ``time.monotonic``; None waits for the end.

    Args:
        timeout: Seconds from now as a user gave them, from 0 up; None for no limit.

    Raises:
        ConfigurationError: They are none.
    """
    checked = seconds("timeout", timeout, zero_ok=True)
    return None if checked is None else time.monotonic() + checked


def _check(instance: Timeouts, attribute: attrs.Attribute[float], value: float | None) -> None:
    seconds(f"Timeouts.{attribute.name}", value, longest=_LONGEST)


@attrs.frozen(kw_only=True)
class Timeouts:
    """
    Time limits, in seconds; None means no limit.

    Immutable, so one value may be shared by any number of threads.

    Attributes:
        connect: One dial: name look-up, TCP, proxy, TLS and upgrade together.
        first_event: From the last byte of the request being written to the turn's first event.
        idle: Between two events of the turn.
        total: From ``stream()`` to the turn's end.
        lane_wait: In the queue, until the request begins to be written.
        close: How long ``close()`` waits for a clean end.

    Raises:
        ConfigurationError: A limit is no positive number, or one longer than 23 days.
    """

    connect: float | None = attrs.field(default=15.0, validator=_check)
    first_event: float | None = attrs.field(default=60.0, validator=_check)
    idle: float | None = attrs.field(default=600.0, validator=_check)
    total: float | None = attrs.field(default=None, validator=_check)
    lane_wait: float | None = attrs.field(default=60.0, validator=_check)
    close: float | None = attrs.field(default=2.0, validator=_check)

    def but(self, changes: Timeouts | Mapping[str, Any] | None) -> Timeouts:
        """
        Return these limits with some of them changed.

        Args:
            changes: A ``Timeouts`` replaces all limits, a mapping such as ``{"first_event": 5}`` the named
                ones, None none.

        Raises:
            ConfigurationError: The mapping names an unknown limit, or a limit is bad.
        """
        if changes is None:
            return self
        if isinstance(changes, Timeouts):
            return changes
        if not isinstance(changes, Mapping):
            raise ConfigurationError(
                f"timeouts is {changes!r}: give a Timeouts, or a mapping such as {{'first_event': 5}}."
            )
        known = [field.name for field in attrs.fields(Timeouts)]
        unknown = [str(name) for name in changes if name not in known]
        if unknown:
            raise ConfigurationError(
                f"timeouts has no limit named {', '.join(unknown)}: choose from {', '.join(known)}."
            )
        return attrs.evolve(self, **changes)
