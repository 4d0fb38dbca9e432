"""One WebSocket connection of the embedded server: the thread that reads it, and what it makes of messages."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from ..wire import jsoncodec
from ..wire.framing import (
    PONG,
    TEXT,
    Binary,
    Close,
    Delivery,
    Framing,
    Ping,
    Pong,
    Violation,
    encode,
    encode_close,
)
from .answer import error_event
from .lanes import Lanes
from .ledger import Entry
from .limits import Limits, connection_limit
from .request import Event, Request
from .semantics import Semantics
from .sockets import SharedSocket
from .stage import Stage
from .steering import Performance, Series
from .steers import Steer, failed_steer, steer_fault, successor_of, with_steers


__all__ = ["WebSocket"]


@attrs.frozen
class _Over:
    """What is left of a response that is over: its numbers, and why it can be steered no more."""

    series: Series
    code: str


class WebSocket:
    """
    A connection after its upgrade; it is the ``Connection`` that rules get.

    One thread runs ``run`` and alone reads. Each lane plays its creates on a thread of its own; all of them write.

    Args:
        sock: The connection's socket.
        stage: Where answers are played.
        number: Which connection of the server it is.
        headers: The upgrade's, credentials as fingerprints.
        semantics: What is done beside answering.
    """

    def __init__(
        self,
        sock: SharedSocket,
        stage: Stage,
        number: int,
        headers: Mapping[str, str],
        semantics: Semantics,
    ) -> None:
        self.number = number
        self.closed = threading.Event()
        self._sock = sock
        self._stage = stage
        self._headers = headers
        self._semantics = semantics
        self._lanes = Lanes(self._play, most=semantics.runs_at_once, name=f"llmws-testing-{number}")
        self._limits = Limits(semantics)
        self._turns = itertools.count(1)
        # By response id. Each value is replaced once, by the lane's thread; the reading thread looks.
        self._responses: dict[str, Performance | _Over] = {}
        # By lane: steers that wait for the client's own create, and the response that they were for.
        self._queued: dict[str | None, tuple[Performance, list[Steer]]] = {}
        self._sending = threading.Lock()  # So that nothing follows a close frame.
        # Around the limits, so that no create slips in behind the word that the age is reached.
        self._door = threading.Lock()

    def __repr__(self) -> str:
        return f"WebSocket({self.number}, {'closed' if self.closed.is_set() else 'open'})"

    def send(self, event: Event) -> None:
        """Send an event just as it is."""
        self.send_bytes(encode(TEXT, jsoncodec.encode(event)))

    def send_bytes(self, data: bytes | bytearray) -> None:
        """Write the bytes of frames, good or bad."""
        with self._sending:
            self._write(data)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame; the reading thread waits for the client's and then ends the connection."""
        with self._sending:
            self._write(encode_close(code, reason))
            self.closed.set()

    def _write(self, data: bytes | bytearray) -> None:
        if self.closed.is_set():
            raise BrokenPipeError("The connection is closed.")
        try:
            self._sock.send(data)
        except ConnectionError:
            self.closed.set()
            raise

    def drop(self) -> None:
        """End with a bare FIN."""
        self.closed.set()
        self._sock.cut()

    def reset(self) -> None:
        """End with RST, which the reading thread sends at once."""
        self.closed.set()
        self._sock.stop(reset=True)

    def run(self, data: bytes) -> None:
        """
        Read until the connection is over; returns when no lane runs any more.

        Args:
            data: What was read together with the upgrade.
        """
        with self._ageing():
            try:
                self._read(data)
            except ConnectionError:
                pass  # The client is gone, which is no fault of the server's.
            finally:
                self.closed.set()
                self._sock.close()
                self._lanes.end()
                self._stage.memory.leave(self.number)

    def _read(self, data: bytes) -> None:
        framing = Framing("server")
        while data or (data := self._sock.receive()):
            for message in framing.feed(data):
                self._take(message)
            data = b""
            if framing.over:
                self._finish()
                return

    def _finish(self) -> None:
        """Let the client read our close frame: unread bytes at our close would turn it into a reset."""
        self._sock.finish()
        while self._sock.receive():
            pass

    @contextlib.contextmanager
    def _ageing(self) -> Iterator[None]:
        """Watch the connection's age meanwhile, on a thread of its own, if there is a limit."""
        if self._semantics.max_age is None:
            yield
            return
        name = f"llmws-testing-{self.number}-age"
        thread = threading.Thread(target=self._age, name=name, daemon=True)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def _age(self) -> None:
        if self.closed.wait(self._semantics.max_age):
            return
        with contextlib.suppress(ConnectionError):
            with self._door:
                self._limits.too_old = True
                self.send(connection_limit())
            if self._semantics.drains:
                self._lanes.wait_until_idle()
            # The API does not document how it ends the connection (inferred).
            self.close(1001, "The connection is too old.")

    def _take(self, message: Delivery) -> None:
        if self.closed.is_set():
            return
        match message:
            case Ping(payload):
                # Counted before it is written: a client that has the pong finds it in the ledger.
                self._stage.ledger.pinged()
                self.send_bytes(encode(PONG, payload))
            case Pong():
                pass
            case Close(code):
                self.close(code)
            case Violation(code, reason):
                self.close(code, reason)
            case Binary():
                self.close(1003, "events travel in text frames")
            case _:
                self._message(message)

    def _message(self, data: bytes | bytearray) -> None:
        try:
            event = jsoncodec.decode(data)
        except jsoncodec.JSONError as exc:
            self.send(error_event("invalid_json", f"The message {exc}."))
            return
        if not isinstance(event, dict):
            self.send(error_event("invalid_json", "The message is no JSON object."))
        elif event.get("type") == "response.create":
            with self._door:
                self._create(event, len(data))
        elif event.get("type") == "response.steer":
            self._steer(event)
        else:
            name = str(event.get("type"))[:80]
            message = f"The event type {name!r} is not supported."
            self.send(error_event("unsupported_event_type", message, param="type"))

    def _create(self, body: dict[str, Any], size: int) -> None:
        fault = self._limits.misnamed(body)
        if fault is not None:
            self.send(fault)
            return
        refusal = self._limits.refusal(body)
        known: dict[str, Any] = {
            "body": body,
            "transport": "ws",
            "lane": self._limits.lane_of(body),
            "headers": self._headers,
            "request_bytes": size,
        }
        if refusal is not None:
            self._stage.turn_away(Entry(connection=self.number, **known), refusal, self.send)
        else:
            self._lanes.put(self._stage.admit(self, next(self._turns), **known))

    def _play(self, request: Request, entry: Entry) -> None:
        """Play a create, and then what steers add to it; on the lane's thread."""
        request, queued = self._with_queued_steers(request)
        causes: list[Steer] = []
        while True:
            performance = self._perform(request, entry, causes)
            if queued is not None and performance.id is None:
                # Refused: the steers wait for the next attempt.
                self._queued[request.lane] = queued
                return
            causes, owed = self._after(performance)
            if not causes:
                return
            if owed:
                self._queued[request.lane] = performance, causes
                return
            queued = None
            body = successor_of(request.body, str(performance.id), causes)
            request, entry = self._stage.admit(
                self,
                next(self._turns),
                automatic=True,
                body=body,
                transport="ws",
                lane=request.lane,
                headers=self._headers,
            )

    def _perform(self, request: Request, entry: Entry, causes: list[Steer]) -> Performance:
        lane = request.lane

        def send(event: Event) -> None:
            self.send(_addressed(event, lane))

        begun = self._responses.__setitem__
        performance = Performance(request, self._semantics, send, begun, causes)
        self._stage.play(request, entry, performance.send, performance.events)
        if performance.id is not None:
            self._responses[performance.id] = _Over(performance.series, performance.refusal_code())
        return performance

    def _after(self, performance: Performance) -> tuple[list[Steer], bool]:
        with contextlib.suppress(ConnectionError):
            return performance.after()
        return [], False

    def _with_queued_steers(
        self, request: Request
    ) -> tuple[Request, tuple[Performance, list[Steer]] | None]:
        """Put steers that wait on this lane before the input; give them back if the create is no answer to theirs."""
        queued = self._queued.pop(request.lane, None)
        if queued is None:
            return request, None
        target, steers = queued
        if request.body.get("previous_response_id") == target.id:
            return attrs.evolve(request, body=with_steers(request.body, steers)), queued
        with contextlib.suppress(ConnectionError):
            message = "Another response was begun on the lane."
            target.give_back(steers, "response_not_active", message)
        return request, None

    def _steer(self, message: dict[str, Any]) -> None:
        target, given = str(message.get("previous_response_id")), message.get("input")
        found = self._responses.get(target)
        fault = steer_fault(message)
        if isinstance(found, Performance) and fault is None:
            found.steer(target, given)
            return
        if found is None:
            code, fault = "response_not_found", f"There is no response {target!r} here."
        elif fault is not None:
            code = "invalid_input"
        elif not self._semantics.steering:
            code, fault = "steering_not_supported", f"The response {target!r} cannot be steered."
        else:
            assert isinstance(found, _Over)
            code, fault = found.code, f"The response {target!r} is over."
        failed = failed_steer({"previous_response_id": target}, given, code, fault)
        if found is None:
            # It is part of no answer, but the schema wants a number (this one is inferred).
            self.send({**failed, "sequence_number": 0})
            return
        with found.series.lock:
            found.series.reply(failed)


def _addressed(event: Event, lane: str | None) -> Event:
    """Return the event as it reads on a lane: with the lane's name, or without any on the default lane."""
    if lane is not None:
        return {**event, "stream_id": lane}
    if "stream_id" in event:
        return {key: value for key, value in event.items() if key != "stream_id"}
    return event
