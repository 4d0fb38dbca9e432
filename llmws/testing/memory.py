"""What the server remembers of responses: the latest of each lane, and those that were to be stored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any

import attrs

from .answer import error_event
from .compaction import left_by
from .context import Context, items_of
from .request import Event, Request


__all__ = ["Memory"]

_KEPT = frozenset({"response.completed", "response.incomplete"})


@attrs.frozen
class _Cached:
    """The latest response of a lane."""

    id: str
    context: Context


class Memory:
    """
    The continuation cache of every connection, and the store of the server; safe to use from any thread.

    A lane keeps its latest response, until the next one is created on it, a continuation of it on the same lane ends in
    an error, or the connection is over. What was not sent with ``store: false`` can be found in the store too.

    Args:
        chains: Whether ``previous_response_id`` must name something that is remembered. Otherwise nothing is
            remembered, and any id will do.
        pairs: Whether each call must have its output, and each output its call; only looked at with ``chains``.
    """

    def __init__(self, *, chains: bool = True, pairs: bool = True) -> None:
        self._chains = chains
        self._pairs = chains and pairs
        self._lock = threading.Lock()
        self._stored: dict[str, Context] = {}
        self._lanes: dict[int, dict[str | None, _Cached]] = {}  # By connection, then by lane.

    def open(self, request: Request) -> tuple[Request, Event | None]:
        """Return a request with its parent's context, and the error that refuses it, or None."""
        given = items_of(request.body.get("input"))
        named = request.body.get("previous_response_id") if self._chains else None
        parent = Context() if named is None else self.find(str(named), request)
        if parent is None:
            message = f"Previous response with id {str(named)[:80]!r} not found."
            return request, _refusal("previous_response_not_found", message, "previous_response_id")
        double = parent.twice(given) if self._chains else None
        if double is not None:
            message = (
                f"Duplicate item found with id {double}. Remove duplicate items and try again."
            )
            return request, _refusal(None, message, "input")
        return attrs.evolve(request, parent=parent if named is not None else None), None

    def unpaired(self, request: Request) -> Event | None:
        """
        Return the error that refuses a create with a call or an output that stands alone, or None.

        Warm-ups are held to it too (inferred).
        """
        if not self._pairs:
            return None
        parent = request.parent or Context()
        message = parent.unpaired(items_of(request.body.get("input")))
        return None if message is None else _refusal(None, message, "input")

    def find(self, response_id: str, request: Request) -> Context | None:
        """Return what a response stands for, if this request may continue it."""
        with self._lock:
            for cached in self._lanes.get(_connection_of(request), {}).values():
                if cached.id == response_id:
                    return cached.context
            return self._stored.get(response_id)

    def keep(
        self, request: Request, answer: Callable[[Request], Iterable[Event]]
    ) -> Generator[Event, None, None]:
        """Yield an answer's events, and remember what it comes to before the client can know of it."""
        if not self._chains:
            yield from answer(request)
            return
        # As the client sent it, whatever the rule makes of the body.
        given = items_of(request.body.get("input"))
        output: list[Any] = []
        kept = False
        try:
            for event in answer(request):
                kind = event.get("type")
                if kind == "response.created":
                    self.evict(_connection_of(request), request.lane)
                elif kind == "response.output_item.done":
                    output.append(event.get("item"))
                elif kind in _KEPT:
                    self._commit(request, given, event.get("response") or {}, output)
                    kept = True
                yield event
        finally:
            if not kept:
                self._forget_parent(request)

    def forget(self, response_id: str | None = None) -> None:
        """Forget a response, or everything, in the store and in the caches."""
        with self._lock:
            if response_id is None:
                self._stored.clear()
                self._lanes.clear()
                return
            self._stored.pop(response_id, None)
            for lanes in self._lanes.values():
                for lane in [lane for lane, cached in lanes.items() if cached.id == response_id]:
                    del lanes[lane]

    def evict(self, connection: int, lane: str | None) -> None:
        """Forget what a lane has cached; what is stored stays."""
        with self._lock:
            self._lanes.get(connection, {}).pop(lane, None)

    def leave(self, connection: int) -> None:
        """Forget what a connection has cached."""
        with self._lock:
            self._lanes.pop(connection, None)

    def __repr__(self) -> str:
        return f"Memory({len(self._stored)} stored, {len(self._lanes)} connections)"

    def _commit(self, request: Request, given: list[Any], response: Event, done: list[Any]) -> None:
        name = response.get("id")
        if not isinstance(name, str):
            return  # The rule made up events that are no response.
        said = response.get("output")
        output = said if isinstance(said, list) else done
        left, parent = left_by(output), request.parent or Context()
        context = parent.extended([*given, *output]) if left is None else Context(left)
        with self._lock:
            if request.body.get("store") is not False:
                self._stored[name] = context
            if request.transport == "ws":
                lanes = self._lanes.setdefault(_connection_of(request), {})
                lanes[request.lane] = _Cached(name, context)

    def _forget_parent(self, request: Request) -> None:
        """Evict the parent of a continuation that failed, if it is this lane's own: another lane's stays."""
        with self._lock:
            lanes = self._lanes.get(_connection_of(request), {})
            cached = lanes.get(request.lane)
            if cached is not None and cached.id == request.body.get("previous_response_id"):
                del lanes[request.lane]


def _connection_of(request: Request) -> int:
    return request.connection.number if request.connection is not None else 0


def _refusal(code: str | None, message: str, param: str) -> Event:
    return {**error_event(code, message, param=param), "sequence_number": 0}
