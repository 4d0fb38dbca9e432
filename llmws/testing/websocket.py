"""One WebSocket connection of the embedded server: its lanes, and the thread that reads it."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

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
from .ledger import Entry
from .request import Event, Request
from .sockets import SharedSocket
from .stage import Stage


__all__ = ["WebSocket"]

_LANE_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,256}\Z")

Job = tuple[Request, Entry]


class WebSocket:
    """
    A connection after its upgrade; it is the ``Connection`` that rules get.

    One thread runs ``run`` and alone reads. Each lane plays its creates on a thread of its own, in order; all of
    them write.

    Args:
        sock: The connection's socket.
        stage: Where answers are played.
        number: Which connection of the server it is.
        headers: The upgrade's, credentials as fingerprints.
    """

    def __init__(
        self, sock: SharedSocket, stage: Stage, number: int, headers: Mapping[str, str]
    ) -> None:
        self.number = number
        self.closed = threading.Event()
        self._sock = sock
        self._stage = stage
        self._headers = headers
        self._lanes: dict[str | None, _Lane] = {}
        self._turns = 0
        # Response ids by lane, written by lane threads: a steer names a response, and its answer goes to its lane.
        self._lane_of: dict[str, str | None] = {}
        self._sending = threading.Lock()  # So that nothing follows a close frame.

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
        framing = Framing("server")
        try:
            while data or (data := self._sock.receive()):
                for message in framing.feed(data):
                    self._take(message)
                data = b""
                if framing.over:
                    self._finish()
                    break
        except ConnectionError:
            pass  # The client is gone, which is no fault of the server's.
        finally:
            self.closed.set()
            self._sock.close()
            for lane in self._lanes.values():
                lane.end()

    def _finish(self) -> None:
        """Let the client read our close frame: unread bytes at our close would turn it into a reset."""
        self._sock.finish()
        while self._sock.receive():
            pass

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
            self._create(event)
        elif event.get("type") == "response.steer":
            self._steer(event)
        else:
            name = str(event.get("type"))[:80]
            message = f"The event type {name!r} is not supported."
            self.send(error_event("unsupported_event_type", message, param="type"))

    def _create(self, body: dict[str, Any]) -> None:
        lane = body.get("stream_id")
        if "stream_id" in body and not (isinstance(lane, str) and _LANE_NAME.match(lane)):
            message = "A stream_id is 1 to 256 letters, digits, '_', '.' and '-'."
            self.send(error_event("invalid_stream_id", message, param="stream_id"))
            return
        self._turns += 1
        job = self._stage.admit(
            self, self._turns, body=body, transport="ws", lane=lane, headers=self._headers
        )
        if lane not in self._lanes:
            self._lanes[lane] = _Lane(
                f"llmws-testing-{self.number}-{lane or 'default'}", self._play
            )
        self._lanes[lane].put(job)

    def _play(self, request: Request, entry: Entry) -> None:
        lane = request.lane

        def send(event: Event) -> None:
            if entry.response_id is not None:
                self._lane_of[entry.response_id] = lane
            self.send(_addressed(event, lane))

        self._stage.play(request, entry, send)

    def _steer(self, steer: dict[str, Any]) -> None:
        """Refuse: no response of this server can be steered yet."""
        target = str(steer.get("previous_response_id"))
        code = "steering_not_supported" if target in self._lane_of else "response_not_found"
        error = {
            "type": "invalid_request_error",
            "code": code,
            "message": f"The response {target!r} cannot be steered.",
        }
        kept = {key: steer.get(key) for key in ("previous_response_id", "input")}
        failed = {
            "type": "response.steer.failed",
            "sequence_number": 0,
            "steer": kept,
            "error": error,
        }
        self.send(_addressed(failed, self._lane_of.get(target)))


def _addressed(event: Event, lane: str | None) -> Event:
    """Return the event as it reads on a lane: with the lane's name, or without any on the default lane."""
    if lane is not None:
        return {**event, "stream_id": lane}
    if "stream_id" in event:
        return {key: value for key, value in event.items() if key != "stream_id"}
    return event


class _Lane:
    """The thread that plays one lane's creates in order."""

    def __init__(self, name: str, play: Callable[[Request, Entry], None]) -> None:
        self._play = play
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        self._jobs.put(job)

    def end(self) -> None:
        """Wait for the thread; what is still queued is played to a closed connection, and so is lost."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._play(*job)
