"""
Whose messages are whose: a batch from the socket, cut into what each lane was sent.

Each message is decoded once, here or by the reader that asks for it: where all are flat deltas, which is nearly always,
the decoder tells lane and number without building an object, and the log keeps the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from ...errors import RemoteProtocolError
from ...wire import jsoncodec
from ..vocabulary.entries import Delta, delta_of
from ..vocabulary.events import decode
from .turn import Turn


__all__ = ["Share", "shares_of"]

Message = bytes | bytearray

_ERROR_TYPES = ("error", "response.error")
# How much of a message that cannot be read is kept.
_FAULT_BYTES = 512


@attrs.define
class Share:
    """
    The messages of one lane, in order.

    Attributes:
        lane: The lane's name; None is the default lane's.
        messages: As they came.
        numbers: The sequence number of each, if all are flat deltas; else None.
        raws: What each says, if they were decoded; else None.
        fault: What is wrong with a message that is no JSON object, and stands for itself; else None.
        unreadable: That message.
    """

    lane: str | None
    messages: list[Message]
    numbers: list[int | None] | None = None
    raws: list[dict[str, Any]] | None = None
    fault: RemoteProtocolError | None = None
    unreadable: Message = b""

    def __len__(self) -> int:
        return len(self.messages)

    def decoded(self) -> list[dict[str, Any]]:
        """Return what each message says."""
        if self.raws is None:
            self.raws = jsoncodec.decode_all(self.messages)
        return self.raws

    def fault_of(self, turn: Turn, hide: Callable[[Any], Any]) -> RemoteProtocolError:
        """Return the fault as the error of a turn, without keys that the server quotes."""
        # Hidden before it is cut, so that no half of a key is left at the end.
        beginning = hide(bytes(self.unreadable[: 2 * _FAULT_BYTES]))[:_FAULT_BYTES]
        return RemoteProtocolError(hide(str(self.fault)), raw=beginning, **turn.facts())

    def size_bytes(self, start: int, stop: int) -> int:
        """Return what some of the messages took on the wire."""
        return sum(map(len, self.messages[start:stop]))


def shares_of(messages: Sequence[Message]) -> list[Share]:
    """
    Cut a batch by lanes, in the order in which each lane is first heard of; never raises.

    A message that nobody can read has a share of its own, with the fault; whose it was cannot be known.
    """
    deltas = _deltas(messages)
    if deltas is not None:
        return _by_lane([delta.stream_id for delta in deltas], messages, deltas, None)
    raws = _decoded(messages)
    return _one_by_one(messages) if raws is None else _raw_shares(messages, raws)


def _deltas(messages: Sequence[Message]) -> list[Delta] | None:
    """Return the deltas if every message is a flat one, and there is a decoder that can tell; else None."""
    if delta_of is None:
        return None
    try:
        return [*map(delta_of, messages)]
    except ValueError:
        return None


def _by_lane(
    names: list[Any],
    messages: Sequence[Message],
    deltas: list[Delta] | None,
    raws: list[dict[str, Any]] | None,
) -> list[Share]:
    if names and names.count(names[0]) == len(names):
        numbers = None if deltas is None else [delta.sequence_number for delta in deltas]
        return [Share(_hashable(names[0]), [*messages[: len(names)]], numbers, raws)]
    places: dict[str | None, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(_hashable(name), []).append(place)
    return [
        Share(
            name,
            [messages[at] for at in at_places],
            None if deltas is None else [deltas[at].sequence_number for at in at_places],
            None if raws is None else [raws[at] for at in at_places],
        )
        for name, at_places in places.items()
    ]


def _hashable(name: Any) -> str | None:
    """Return a lane's name; what is none names a lane that nobody has."""
    return name if name is None or isinstance(name, str) else ""


def _raw_shares(messages: Sequence[Message], raws: list[dict[str, Any]]) -> list[Share]:
    """Cut by lanes, but for errors without one: whose such a one is hangs on all that came before it."""
    names = [raw.get("stream_id") for raw in raws]
    if names.count(None) in (0, len(names)):
        return _by_lane(names, messages, None, raws)
    shares, start = [], 0
    ends = [
        place
        for place, raw in enumerate(raws)
        if names[place] is None and raw.get("type") in _ERROR_TYPES
    ]
    for cut in sorted({0, *ends, *(end + 1 for end in ends), len(raws)}):
        if start < cut:
            part = slice(start, cut)
            shares += _by_lane(names[part], messages[part], None, raws[part])
        start = cut
    return shares


def _decoded(messages: Sequence[Message]) -> list[dict[str, Any]] | None:
    """Return the object that each message is, or None if one of them is none."""
    try:
        raws = jsoncodec.decode_all(messages)
    except jsoncodec.JSONError:
        return None
    return raws if {*map(type, raws)} <= {dict} else None


def _one_by_one(messages: Sequence[Message]) -> list[Share]:
    """Cut a batch of which some messages are no objects, however many they are."""
    shares: list[Share] = []
    readable: list[Message] = []
    raws: list[dict[str, Any]] = []
    for message in messages:
        try:
            raws.append(decode(message).raw)
            readable.append(message)
        except RemoteProtocolError as exc:
            shares += _raw_shares(readable, raws)
            readable, raws = [], []
            shares.append(Share(None, [], fault=exc, unreadable=message))
    return shares + _raw_shares(readable, raws)
