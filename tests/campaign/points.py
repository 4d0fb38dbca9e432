"""The forty places of a turn's life at which a connection is harmed, and the four harms."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal

import attrs

from llmws.testing import FaultProxy, faults
from llmws.testing.faulty import Place
from llmws.testing.plans import Plan
from tests.campaign.names import Answer, closed_port, deaf_port, name_for
from tests.campaign.script import Line


__all__ = ["HARMS", "POINTS", "Harm", "Point", "Sizes", "host_of", "plan_of", "server_fault"]

Harm = Literal["FIN", "RST", "black hole", "mute"]
HARMS: tuple[Harm, ...] = ("FIN", "RST", "black hole", "mute")
Phase = Literal["name", "accept", "handshake", "upgrade", "request", "answer", "idle", "close"]


@attrs.frozen
class Point:
    """
    A place.

    Attributes:
        name: What it is called.
        phase: In which part of a turn's life it lies.
        at: Where in that: a share of its bytes, a number of bytes, or an event.
    """

    name: str
    phase: Phase
    at: Any = 0


def _points() -> Iterator[Point]:
    yield Point("DNS", "name", "look-up")
    yield Point("SYN", "name", "dial")
    yield Point("accepted", "accept")
    for share in (0.0, 0.05, 0.25, 0.5, 0.75, 1.0):
        yield Point(f"{share:.0%} of what the client says to connect", "handshake", share)
    for share in (0.0, 0.1, 0.3, 0.6, 0.9, 1.0):
        yield Point(f"{share:.0%} of what the server says to connect", "upgrade", share)
    for count in (0, 1, 2, 7, 12):
        yield Point(f"{count} bytes of the request", "request", count)
    for share in (0.25, 0.5, 0.75, 0.95, 1.0):
        yield Point(f"{share:.0%} of the request", "request", share)
    yield Point("request taken, nothing said", "answer", 0)
    yield Point("created", "answer", "created")
    for count in (2, 3, 4):
        yield Point(f"{count} events", "answer", count)
    yield Point("first delta", "answer", "delta")
    for count in (6, 8, 10):
        yield Point(f"{count} events", "answer", count)
    yield Point("before the terminal event", "answer", "terminal")
    yield Point("behind the terminal event", "answer", "end")
    yield Point("idle, and a turn at once", "idle", 0.0)
    yield Point("idle, and a turn in a while", "idle", 0.03)
    yield Point("before the close frame", "close", "before")
    yield Point("while the close is awaited", "close", "behind")


POINTS = tuple(_points())


@attrs.frozen
class Sizes:
    """
    What a clean connection takes, in bytes.

    Attributes:
        client: What the client says up to the end of the upgrade.
        server: What the server says up to there.
        request: The client's request with its frame and its TLS record.
        close: Whatever the client says before its close frame is handed on.
    """

    client: int
    server: int
    request: int
    close: int


def plan_of(point: Point, harm: Harm, sizes: Sizes) -> Plan | None:
    """Return what the proxy does to the first connection; None if the harm is done elsewhere or later."""
    when: dict[str, int] = {}
    if point.phase == "handshake":
        when["after_client_bytes"] = max(1, round(point.at * (sizes.client - 1)))
    elif point.phase == "upgrade":
        when["after_server_bytes"] = max(1, round(point.at * (sizes.server - 1)))
    elif point.phase == "request":
        share = point.at * sizes.request if isinstance(point.at, float) else point.at
        when["after_client_bytes"] = sizes.client + min(round(share), sizes.request)
    elif point.name == "while the close is awaited":
        when["after_client_bytes"] = sizes.close + 1
    elif point.phase != "accept":
        return None
    if point.phase == "accept" and harm in ("RST", "mute"):
        return Plan("refuse" if harm == "RST" else "mute")
    return network_plan(harm, **when)


def network_plan(harm: Harm, **when: int) -> Plan:
    """Return a harm as the network does it."""
    if harm == "mute":
        return Plan("black_hole", way="server", **when)  # type: ignore[arg-type]
    what = {"FIN": "fin", "RST": "reset", "black hole": "black_hole"}[harm]
    return Plan(what, **when)  # type: ignore[arg-type]


def server_fault(harm: Harm, at: Place) -> faults.Fault:
    """Return a harm as a server does it, within an answer."""
    kinds = {
        "FIN": faults.Fin,
        "RST": faults.Rst,
        "black hole": faults.HalfOpen,
        "mute": faults.Stall,
    }
    return kinds[harm](at=at)


def arm(point: Point, harm: Harm, line: Line) -> None:
    """Have the server do its harm to an answer, if it is the server's part."""
    if point.phase == "answer":
        line.fault = server_fault(harm, point.at)


@contextlib.contextmanager
def host_of(point: Point, harm: Harm, proxy: FaultProxy) -> Iterator[str | None]:
    """Give the name to dial where the harm lies in finding the server, and see to what has to be there for it."""
    if point.phase != "name":
        yield None
        return
    with contextlib.ExitStack() as stack:
        answers, over = _ANSWERS[point.at, harm](stack)
        stack.callback(over.set)
        yield name_for([*answers, proxy.port])


def _no_such_name(stack: Any) -> tuple[list[Answer], threading.Event]:
    # Once for good, and once until a resolver that was down is back.
    return [socket.gaierror(socket.EAI_NONAME, "Name or service not known")], threading.Event()


def _resolver_down(stack: Any) -> tuple[list[Answer], threading.Event]:
    return [socket.gaierror(socket.EAI_AGAIN, "Temporary failure")], threading.Event()


def _no_answer(stack: Any) -> tuple[list[Answer], threading.Event]:
    never = threading.Event()
    return [never], never


def _refused(times: int) -> Callable[[Any], tuple[list[Answer], threading.Event]]:
    def make(stack: Any) -> tuple[list[Answer], threading.Event]:
        port = stack.enter_context(closed_port())
        return [port] * times, threading.Event()

    return make


def _deaf(stack: Any) -> tuple[list[Answer], threading.Event]:
    return [stack.enter_context(deaf_port())], threading.Event()


def _mute(stack: Any) -> tuple[list[Answer], threading.Event]:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return [listener.getsockname()[1]], threading.Event()


_ANSWERS: dict[tuple[str, Harm], Callable[[Any], tuple[list[Answer], threading.Event]]] = {
    ("look-up", "FIN"): _no_such_name,
    ("look-up", "RST"): _resolver_down,
    ("look-up", "black hole"): _no_answer,
    ("look-up", "mute"): _mute,
    ("dial", "FIN"): _refused(1),
    ("dial", "RST"): _refused(2),
    ("dial", "black hole"): _deaf,
    ("dial", "mute"): _mute,
}
