"""How long each phase of a turn may take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .errors import ConfigurationError


__all__ = ["Timeouts"]

# Sockets and selectors count milliseconds in 31 bits: 24 days.
_LONGEST = 2_000_000


def _check(instance: Timeouts, attribute: attrs.Attribute[float], value: float | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(
            f"Timeouts.{attribute.name} is {value!r}: give seconds as a number, or None for no limit."
        )
    if not 0 < value <= _LONGEST:
        raise ConfigurationError(
            f"Timeouts.{attribute.name} is {value!r}: give a number of seconds above 0 and up to {_LONGEST:,}, "
            "or None for no limit."
        )


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
        ConfigurationError: A limit is no positive number, or longer than 23 days.
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
