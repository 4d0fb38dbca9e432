"""``POST /v1/responses`` at the embedded server: server-sent events, or one JSON object."""

from __future__ import annotations

import threading
from typing import Any

from ..wire import jsoncodec
from ..wire.parts import TERMINAL_TYPES
from .answer import CREATED_AT, usage_of
from .compaction import compacted
from .context import tokens_in
from .http import Head, Refusal, answer, answer_head
from .ledger import Entry, public_headers
from .request import Event, Request
from .sockets import SharedSocket
from .stage import Stage


__all__ = ["HTTPConnection"]


class HTTPConnection:
    """
    A connection that takes POSTs, one after the other; it is the ``Connection`` that rules get.

    Rules run on the connection's own thread, so a client that goes away is noticed at the next event.

    Args:
        sock: The connection's socket.
        stage: Where answers are played.
        number: Which connection of the server it is.
    """

    def __init__(self, sock: SharedSocket, stage: Stage, number: int) -> None:
        self.number = number
        self.closed = threading.Event()
        self._sock = sock
        self._stage = stage
        self._turns = 0
        self._reply: _EventStream | _Whole | None = None

    def __repr__(self) -> str:
        return f"HTTPConnection({self.number}, {'closed' if self.closed.is_set() else 'open'})"

    def send(self, event: Event) -> None:
        """Send an event just as it is, as part of the answer under way."""
        if self._reply is None:
            raise BrokenPipeError("No request is being answered on this connection.")
        self._reply.send(event)

    def send_bytes(self, data: bytes | bytearray) -> None:
        """Write raw bytes."""
        if self.closed.is_set():
            raise BrokenPipeError("The connection is closed.")
        try:
            self._sock.send(data)
        except ConnectionError:
            self.closed.set()
            raise

    def close(self, code: int = 1000, reason: str = "") -> None:
        """End the connection; HTTP has no close frame to put a code in."""
        self.drop()

    def drop(self) -> None:
        """End with a bare FIN, in the middle of the answer."""
        self.closed.set()
        self._sock.cut()

    def reset(self) -> None:
        """End with RST, as soon as the rule ends or sends."""
        self.closed.set()
        self._sock.stop(reset=True)

    def post(self, head: Head, data: bytes) -> None:
        """
        Answer one POST.

        Raises:
            Refusal: The body is no JSON object.
        """
        body = _object(data)
        self._turns += 1
        request, entry = self._stage.admit(
            self,
            self._turns,
            request_bytes=len(data),
            body=body,
            transport="sse",
            headers=public_headers(head.headers),
        )
        extra = {"x-request-id": request.new_id("req")}
        reply = self._reply = (
            _EventStream(self, extra) if body.get("stream") is True else _Whole(self, extra)
        )
        self._stage.play(request, entry, reply.send)
        self._reply = None
        if not self.closed.is_set():
            reply.finish()

    def compact(self, head: Head, data: bytes) -> None:
        """
        Answer one POST that asks for compaction: it is no create, so no rule hears of it.

        Raises:
            Refusal: The body is no JSON object.
        """
        self._turns += 1
        body = _object(data)
        entry = Entry(
            body=body,
            transport="sse",
            connection=self.number,
            headers=public_headers(head.headers),
            request_bytes=len(data),
        )
        self._stage.ledger.compacting(entry)
        request = Request(body=body, transport="sse", turn=self._turns, connection=self)
        request, refusal = self._stage.memory.open(request)
        if refusal is not None:
            self.send_bytes(_error_answer(refusal, {}))
            return
        output = compacted(request.new_id("cmp"), request.context)
        reply = {
            "id": request.new_id("resp"),
            "object": "response.compaction",
            "created_at": CREATED_AT,
            "output": output,
            "usage": usage_of(request, sum(map(tokens_in, output))),
        }
        self.send_bytes(answer(200, reply, {"x-request-id": request.new_id("req")}))


def _object(data: bytes) -> dict[str, Any]:
    try:
        body = jsoncodec.decode(data)
    except jsoncodec.JSONError as exc:
        raise Refusal(400, "invalid_json", f"The body {exc}.") from exc
    if not isinstance(body, dict):
        raise Refusal(400, "invalid_json", "The body is no JSON object.")
    return body


class _EventStream:
    """An answer as server-sent events; an error before all else becomes the answer's status."""

    def __init__(self, connection: HTTPConnection, headers: dict[str, str]) -> None:
        self._connection = connection
        self._headers = headers
        self._state = "before"  # then "streaming", or "refused"

    def send(self, event: Event) -> None:
        if self._state == "before":
            self._begin(event)
        if self._state == "streaming":
            event = {key: value for key, value in event.items() if key != "stream_id"}
            data = jsoncodec.encode(event)
            name = str(event.get("type", "")).encode()
            self._chunk(b"event: %b\ndata: %b\n\n" % (name, data))

    def _begin(self, event: Event) -> None:
        if event.get("type") == "error":
            self._state = "refused"
            self._connection.send_bytes(_error_answer(event, self._headers))
            return
        self._state = "streaming"
        fields = {
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-cache",
            "Transfer-Encoding": "chunked",
        }
        self._connection.send_bytes(answer_head(200, {**fields, **self._headers}))

    def _chunk(self, data: bytes) -> None:
        self._connection.send_bytes(b"%x\r\n%b\r\n" % (len(data), data))

    def finish(self) -> None:
        if self._state == "before":
            self._connection.send_bytes(answer(500, _NOTHING, self._headers))
        elif self._state == "streaming":
            self._chunk(b"")


class _Whole:
    """An answer as one response object."""

    def __init__(self, connection: HTTPConnection, headers: dict[str, str]) -> None:
        self._connection = connection
        self._headers = headers
        self._events: list[Event] = []

    def send(self, event: Event) -> None:
        self._events.append(event)

    def finish(self) -> None:
        ends = [event for event in self._events if event.get("type") in {*TERMINAL_TYPES, "error"}]
        if not ends:
            data = answer(500, _NOTHING, self._headers)
        elif ends[0]["type"] == "error":
            data = _error_answer(ends[0], self._headers)
        else:
            data = answer(200, self._assembled(ends[0]), self._headers)
        self._connection.send_bytes(data)

    def _assembled(self, end: Event) -> Any:
        """Return the last event's response; where it leaves the output out, the items done before."""
        response = end.get("response") or {}
        if response.get("output") is not None:
            return response
        done = [each for each in self._events if each.get("type") == "response.output_item.done"]
        done.sort(key=lambda each: each["output_index"])
        return {**response, "output": [each["item"] for each in done]}


_NOTHING = {
    "error": {
        "type": "server_error",
        "code": "no_answer",
        "message": "The server's rule gave no answer.",
        "param": None,
    }
}


def _error_answer(event: Event, headers: dict[str, str]) -> bytes:
    """Turn an ``error`` event, nested or flat, into an HTTP answer; headers inside it move to the head."""
    nested = event.get("error")
    error = dict(nested if isinstance(nested, dict) else event)
    for key in ("sequence_number", "stream_id", "status"):
        error.pop(key, None)
    inside = error.pop("headers", None) or {}
    extra = {str(name): str(value) for name, value in inside.items()}
    return answer(int(event.get("status") or 500), {"error": error}, {**headers, **extra})
