"""
Faults: what goes wrong with an answer of the embedded server, as values.

A fault wraps a rule, and strikes once an answer has got to a certain place::

    rule = faults.CloseAfter(at=3, code=1011)(rules.text("Hello!"))

    rng = random.Random(seed)
    rule = faults.apply(rules.echo(), lambda request: faults.pick(rng))  # One for each request.

The ``repr`` of a fault is the Python that makes it again. What goes wrong below, in the network, is the part of
``FaultProxy``.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import attrs

from ..errors import ConfigurationError
from ..wire.framing import BINARY, TEXT, encode
from .faulty import PLACES, Fault, FaultyRule, Hit, Place, Struck, apply
from .refusals import ERRORS, UPGRADES, ErrorFrame, RefuseUpgrade
from .request import Event


__all__ = [
    "ALL",
    "CLOSE_CODES",
    "ERRORS",
    "GARBLED",
    "PLACES",
    "UPGRADES",
    "CloseAfter",
    "Duplicate",
    "ErrorFrame",
    "Fault",
    "FaultyRule",
    "Fin",
    "Garble",
    "HalfOpen",
    "Omit",
    "Place",
    "RefuseUpgrade",
    "Rst",
    "SlowDrip",
    "Stall",
    "Struck",
    "apply",
    "pick",
]


@attrs.frozen(kw_only=True)
class CloseAfter(Fault):
    """
    The server sends a close frame.

    Args:
        code: Its code, or None for a frame without any.
        reason: Its words.
    """

    code: int | None = attrs.field(default=1011)
    reason: str = ""

    _label: ClassVar[str] = "close {0.code}"

    @code.validator
    def _check_code(self, _: object, code: object) -> None:
        if code is not None and not (type(code) is int and 1000 <= code <= 4999):
            raise ConfigurationError(f"code is {code!r}: give one from 1000 to 4999, or None.")

    def _strike(self, hit: Hit) -> Iterable[Event]:
        # 1005 is what the framing calls a close frame without a code; it never travels.
        hit.connection.close(1005 if self.code is None else self.code, self.reason)
        return ()


@attrs.frozen(kw_only=True)
class Fin(Fault):
    """The server's side ends with a bare FIN, which a client calls 1006."""

    _label: ClassVar[str] = "FIN"

    def _strike(self, hit: Hit) -> Iterable[Event]:
        hit.connection.drop()
        return ()


@attrs.frozen(kw_only=True)
class Rst(Fault):
    """The connection is reset, which may take with it what was sent and not read yet, at any place."""

    _label: ClassVar[str] = "RST"

    @property
    def may_lose_output(self) -> bool:
        """True even behind the end: a reset overtakes."""
        return True

    def _strike(self, hit: Hit) -> Iterable[Event]:
        hit.connection.reset()
        return ()


@attrs.frozen(kw_only=True)
class HalfOpen(Fault):
    """
    The connection stays open, and nothing more comes on it: no event of any lane, no pong, no answer to a close.

    What the client sends is taken and thrown away, so that the server notices when it leaves.
    """

    _label: ClassVar[str] = "half-open"

    def _strike(self, hit: Hit) -> Iterable[Event]:
        connection = hit.connection

        def swallow(*_: object) -> None:
            if connection.closed.is_set():
                raise BrokenPipeError("The connection is closed.")

        # All that a connection says goes through these two, whoever says it.
        for name in ("send_bytes", "close"):
            setattr(connection, name, swallow)
        return hit.wait_for_end()


@attrs.frozen(kw_only=True)
class Stall(Fault):
    """The answer stops, while pings are answered and other lanes go on."""

    _label: ClassVar[str] = "stall"

    def _strike(self, hit: Hit) -> Iterable[Event]:
        return hit.wait_for_end()


@attrs.frozen(kw_only=True)
class SlowDrip(Fault):
    """
    The rest of the answer comes slowly; all of it, for a patient client.

    Args:
        delay: Seconds in front of each event.
    """

    delay: float = attrs.field(default=0.01)

    _label: ClassVar[str] = "slow drip"
    _needs_event: ClassVar[bool] = True
    _loses: ClassVar[bool] = False

    @delay.validator
    def _check_delay(self, _: object, delay: object) -> None:
        if not (isinstance(delay, (int, float)) and 0 <= delay < threading.TIMEOUT_MAX):
            raise ConfigurationError(f"delay is {delay!r}: give seconds from 0 up.")

    def _strike(self, hit: Hit) -> Iterable[Event]:
        for event in hit.rest:
            if hit.connection.closed.wait(self.delay):
                return
            yield event


GARBLED: Mapping[str, bytes] = {
    "garbage": b"\xff\x00\x9d\xc3 no frame at all \x81",
    "HTTP": b"HTTP/1.1 500 Internal Server Error\r\n\r\n",
    "bad UTF-8": bytes(encode(TEXT, b'{"type": "\xff\xfe"}')),
    # The header alone: a client is to refuse it before the payload comes.
    "oversized": b"\x81\x7f" + (128 * 2**20 + 1).to_bytes(8, "big"),
    "masked": bytes(encode(TEXT, b'{"type": "keepalive"}', mask=b"abcd")),
    "reserved bit": b"\xc1" + bytes(encode(TEXT, b'{"type": "keepalive"}'))[1:],
    "binary": bytes(encode(BINARY, b"\x00\xff\xfe no event")),
    "no JSON": bytes(encode(TEXT, b'{"type": "response.output_text.delta", ')),
    "no object": bytes(encode(TEXT, b'["response.output_text.delta"]')),
}
"""What ``Garble`` sends, by kind: no frames, bad frames, and messages that are no events."""


@attrs.frozen(kw_only=True)
class Garble(Fault):
    """
    The server sends bytes that break the protocol, and nothing of this answer behind them.

    Args:
        kind: One of ``GARBLED``.
    """

    kind: str = attrs.field(default="garbage")

    _label: ClassVar[str] = "garbled: {0.kind}"

    @kind.validator
    def _check_kind(self, _: object, kind: object) -> None:
        if kind not in GARBLED:
            raise ConfigurationError(f"kind is {kind!r}: give one of {', '.join(GARBLED)}.")

    def _strike(self, hit: Hit) -> Iterable[Event]:
        hit.connection.send_bytes(GARBLED[self.kind])
        return hit.wait_for_end()


@attrs.frozen(kw_only=True)
class Duplicate(Fault):
    """The next event comes twice, with one and the same sequence number."""

    _label: ClassVar[str] = "duplicate"
    _needs_event: ClassVar[bool] = True
    _loses: ClassVar[bool] = False
    _repeats: ClassVar[bool] = True

    def _strike(self, hit: Hit) -> Iterable[Event]:
        event = next(hit.rest)
        yield event
        yield {**event}
        yield from hit.rest


@attrs.frozen(kw_only=True)
class Omit(Fault):
    """The next event does not come; the numbers of the others stay as they were."""

    _label: ClassVar[str] = "omit"
    _needs_event: ClassVar[bool] = True

    def _strike(self, hit: Hit) -> Iterable[Event]:
        next(hit.rest)
        return hit.rest


CLOSE_CODES = (1000, 1001, 1008, 1009, 1011, 1012, 1013, 4402, None)
"""The codes of the ``CloseAfter`` in ``ALL``."""


def _all() -> Iterator[Fault]:
    yield from (CloseAfter(at="delta", code=code) for code in CLOSE_CODES)
    for kind in (Fin, Rst, HalfOpen, Stall, SlowDrip, Duplicate, Omit):
        yield kind(at="delta")
    yield from (Garble(at="delta", kind=kind) for kind in GARBLED)
    for code, status in ERRORS.items():
        of_connection = code == "websocket_connection_limit_reached"
        # That one names no lane, and the socket ends right behind it.
        yield ErrorFrame(
            code=code,
            status=status,
            lane=not of_connection,
            failed=not of_connection,
            close=1001 if of_connection else None,
        )
    yield ErrorFrame(code="rate_limit_exceeded", status=429, form="flat")
    yield ErrorFrame(code="rate_limit_exceeded", status=429, form="failed")
    yield ErrorFrame(code="server_is_overloaded", status=503, form="failed")
    yield ErrorFrame(code="server_error", form="flat", lane=False)


ALL: Mapping[str, Fault] = {fault.name: fault for fault in _all()}
"""One fault of every kind, by name; most strike behind the first delta, errors in front of everything."""


def pick(rng: random.Random, *, longest: int = 12, among: Mapping[str, Fault] = ALL) -> Fault:
    """
    Choose a fault and its place at random.

    Args:
        rng: What chooses; the same state gives the same fault.
        longest: How many events an answer has; a place by number lies below.
        among: What to choose from.
    """
    fault = rng.choice(list(among.values()))
    places: tuple[Place, ...] = (*PLACES, *range(longest))
    return attrs.evolve(fault, at=rng.choice(places))
