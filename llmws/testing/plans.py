"""What shall happen to a connection of a ``FaultProxy``, and when."""

from __future__ import annotations

import math
from typing import Literal, get_args

import attrs

from ..errors import ConfigurationError


__all__ = ["Plan", "Way", "What"]

What = Literal[
    "reset",
    "fin",
    "black_hole",
    "half_close",
    "delay",
    "throttle",
    "split",
    "refuse",
    "mute",
]
Way = Literal["both", "client", "server"]

# What each needs to know beside what it is.
_AMOUNTS = {"delay": "seconds", "throttle": "bytes_per_second", "split": "size_bytes"}
_TRIGGERS = ("after_client_bytes", "after_server_bytes", "after_seconds")


@attrs.frozen(repr=False)
class Plan:
    """
    One thing that goes wrong on one connection, once.

    * ``reset`` sends RST to both sides, ``fin`` a FIN.
    * ``black_hole`` takes what comes, passes nothing on, and keeps the connection open.
    * ``half_close`` ends one direction with a FIN while the other goes on.
    * ``delay`` holds what comes for a time, ``throttle`` passes so many bytes a second, ``split`` so many a ``send``.
    * ``refuse`` resets the connection when it is accepted, ``mute`` accepts it and no more; neither dials the target.

    Bytes are counted in each direction by itself, from the first one on (TLS and the upgrade are among them), when they
    are passed on; exactly so many go through before it happens.

    Args:
        what: What happens.
        way: Whose bytes it is about: the client's, the server's, or both; for a black hole and all below it.
        after_client_bytes: It happens when so many of the client's bytes were passed on.
        after_server_bytes: It happens when so many of the server's bytes were passed on.
        after_seconds: It happens so many seconds after the connection was accepted. Without any of these three, it
            happens at once.
        seconds: How long ``delay`` holds each piece.
        bytes_per_second: How many ``throttle`` lets through.
        size_bytes: How many bytes ``split`` writes at a time.

    Raises:
        ConfigurationError: It makes no sense.
    """

    what: What
    way: Way = attrs.field(default="both", kw_only=True)
    after_client_bytes: int | None = attrs.field(default=None, kw_only=True)
    after_server_bytes: int | None = attrs.field(default=None, kw_only=True)
    after_seconds: float | None = attrs.field(default=None, kw_only=True)
    seconds: float | None = attrs.field(default=None, kw_only=True)
    bytes_per_second: float | None = attrs.field(default=None, kw_only=True)
    size_bytes: int | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.what not in get_args(What):
            raise ConfigurationError(
                f"what is {self.what!r}: give one of {', '.join(get_args(What))}."
            )
        if self.way not in get_args(Way):
            raise ConfigurationError(f"way is {self.way!r}: give 'client', 'server' or 'both'.")
        self._check_amounts()
        self._check_trigger()

    def __repr__(self) -> str:
        said = attrs.asdict(self, filter=lambda field, value: value != field.default)
        words = [f"{name}={value!r}" for name, value in said.items() if name != "what"]
        return f"Plan({', '.join([repr(self.what), *words])})"

    def _check_amounts(self) -> None:
        needed = _AMOUNTS.get(self.what)
        for name in _AMOUNTS.values():
            given = getattr(self, name)
            if (given is None) == (name == needed):
                word = "needs" if given is None else "has no"
                raise ConfigurationError(f"A {self.what!r} {word} {name}.")
            if given is not None and not _is_number(given, above=0):
                raise ConfigurationError(f"{name} is {given!r}: give a number above 0.")
        if self.size_bytes is not None and type(self.size_bytes) is not int:
            raise ConfigurationError(f"size_bytes is {self.size_bytes!r}: give a whole number.")
        if self.way != "both" and self.what in ("reset", "fin", "refuse", "mute"):
            raise ConfigurationError(f"A {self.what!r} is always for both ways.")

    def _check_trigger(self) -> None:
        given = [name for name in _TRIGGERS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigurationError(f"Give one of {' and '.join(given)}.")
        for name in given:
            amount = getattr(self, name)
            whole = name.endswith("_bytes")
            if not _is_number(amount) or (whole and type(amount) is not int):
                raise ConfigurationError(f"{name} is {amount!r}: give a number from 0 up.")
        if given and self.at_accept:
            raise ConfigurationError(f"A {self.what!r} happens at once or never.")

    @property
    def at_accept(self) -> bool:
        """Whether it can only happen to a connection that is just accepted."""
        return self.what in ("refuse", "mute")

    @property
    def waits(self) -> bool:
        """Whether something has to come before it happens."""
        return any(getattr(self, name) is not None for name in _TRIGGERS)


def _is_number(value: object, above: float | None = None) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return False
    return value >= 0 if above is None else value > above
