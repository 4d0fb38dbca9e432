"""How much of the API the embedded server does, and within which limits."""

from __future__ import annotations

import threading
from typing import Any, Literal

import attrs

from ..errors import ConfigurationError


__all__ = ["Semantics"]

_LANES = (True, False, "serial", "ignored", "refused")


def _count(least: int) -> Any:
    def check(semantics: object, field: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigurationError(f"{field.name} is {value!r}: give {least} or more.")

    return check


@attrs.frozen(kw_only=True)
class Semantics:
    """
    What a ``Server`` does beside answering; the defaults are what OpenAI documents.

    Args:
        lanes: Whether ``stream_id`` names a lane of its own. ``"serial"``: events carry the name, but one create runs
            at a time. ``"ignored"``, and False: one at a time, and events carry no name. ``"refused"``: as if there
            were no such parameter.
        most_active: How many responses of a connection run at once; further creates wait, first come, first served.
        most_names: How many names of lanes a connection may use in its life.
        chains: Whether a ``previous_response_id`` must name a response that the lane's cache or the store still has. A
            recording is played without.
        pairs: Whether a create is refused whose context, the parent's and its own input, has a call without its output
            or an output without its call. Nothing is looked at without ``chains``.
        steering: Whether running responses can be steered. A recording cannot.
        most_steers: How many steers may wait for one response.
        max_age: Seconds after which a connection takes no more creates, says so, and closes with 1001; None for never.
        drains: Whether what the connection took before its age ran out is answered before it closes.

    Raises:
        ConfigurationError: A value makes no sense.
    """

    lanes: bool | Literal["serial", "ignored", "refused"] = attrs.field(default=True)
    most_active: int = attrs.field(default=16, validator=_count(1))
    most_names: int = attrs.field(default=32, validator=_count(0))
    chains: bool = True
    pairs: bool = True
    steering: bool = True
    most_steers: int = attrs.field(default=32, validator=_count(0))
    max_age: float | None = attrs.field(default=None)
    drains: bool = True

    @lanes.validator
    def _check_lanes(self, field: object, value: object) -> None:
        if not isinstance(value, (bool, str)) or value not in _LANES:
            raise ConfigurationError(
                f"lanes is {value!r}: give True, False, 'serial', 'ignored' or 'refused'."
            )

    @max_age.validator
    def _check_max_age(self, field: object, value: object) -> None:
        if value is None:
            return
        if not isinstance(value, (int, float)) or not 0 < value < threading.TIMEOUT_MAX:
            raise ConfigurationError(f"max_age is {value!r}: give seconds above 0, or None.")

    @property
    def runs_at_once(self) -> int:
        """How many responses of a connection run at the same time."""
        return self.most_active if self.lanes is True else 1
