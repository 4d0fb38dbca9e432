"""
A TCP proxy that breaks what goes through it, in front of any server.

::

    with Server() as server, FaultProxy.before(server.base_url) as proxy:
        proxy.plan(lambda number: Plan("reset", after_server_bytes=700) if number == 1 else None)
        session = llmws.Session("m", base_url=proxy.base_url())

It knows nothing of what it carries, so TLS passes untouched. One thread does it all, with sockets that do not block.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from ..errors import ConfigurationError, WouldDeadlockError
from .passage import Passage
from .plans import Plan


__all__ = ["Counters", "FaultProxy", "Fired"]

Planned = Plan | Sequence[Plan] | None
# How long a call waits for the proxy's thread, which never waits for anything but its sockets.
_PATIENCE = 5.0


@attrs.frozen
class Fired:
    """
    A plan that happened.

    Attributes:
        connection: The connection's number.
        plan: The plan.
        client_bytes: How many of the client's bytes were passed on before.
        server_bytes: How many of the server's bytes were passed on before.
    """

    connection: int
    plan: Plan
    client_bytes: int
    server_bytes: int


@attrs.frozen
class Counters:
    """
    What a proxy did so far.

    Attributes:
        connections: Connections that were accepted, those refused by a plan among them.
        open: How many of them are open.
        from_client_bytes: Bytes that came from clients.
        to_server_bytes: How many of these were passed on.
        from_server_bytes: Bytes that came from the server.
        to_client_bytes: How many of these were passed on.
        fired: Plans that happened.
    """

    connections: int = 0
    open: int = 0
    from_client_bytes: int = 0
    to_server_bytes: int = 0
    from_server_bytes: int = 0
    to_client_bytes: int = 0
    fired: int = 0


class FaultProxy:
    """
    A proxy on 127.0.0.1.

    It runs from the moment it is made until it is closed. Every method may be called from any thread.

    Args:
        target_host: The server's host; looked up once.
        target_port: The server's port.
        plan: What happens to connections, as for ``plan``.

    Attributes:
        port: Where it listens.
        errors: What functions given to ``plan`` raised; such a connection is reset.

    Raises:
        OSError: The host is not known, or there is no port to be had.
    """

    def __init__(
        self,
        target_host: str,
        target_port: int,
        *,
        plan: Planned | Callable[[int], Planned] = None,
    ) -> None:
        family, _, _, _, address = socket.getaddrinfo(
            target_host, target_port, type=socket.SOCK_STREAM
        )[0]
        self._target: tuple[int, tuple[object, ...]] = (family, address)
        self.errors: list[Exception] = []
        self.plan(plan)
        self._changed = threading.Condition()
        self._fired: list[Fired] = []
        self._accepted = 0
        self._closed = Counters()  # Of the connections that are over.
        self._passages: dict[int, Passage] = {}
        self._calls: deque[_Call] = deque()
        self._stopped = False
        self._listener: socket.socket | None = _listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._near, self._far = socket.socketpair()
        for end in (self._near, self._far):
            end.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="llmws-testing-proxy", daemon=True)
        self._thread.start()

    @classmethod
    def before(cls, base_url: str, plan: Planned | Callable[[int], Planned] = None) -> FaultProxy:
        """Make a proxy in front of the server of a base URL."""
        parts = urllib.parse.urlsplit(base_url)
        port = parts.port or {"https": 443, "wss": 443}.get(parts.scheme, 80)
        return cls(parts.hostname or "", port, plan=plan)

    def base_url(self, scheme: str = "http", path: str = "/v1") -> str:
        """Return what a client takes as its base URL, to go through the proxy."""
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def plan(self, plan: Planned | Callable[[int], Planned]) -> None:
        """
        Say what happens to the connections that are accepted from now on.

        Args:
            plan: A plan or several for each of them, or None for nothing, or a function that is told the connection's
                number, from 1, and returns one of these. It is called on the proxy's thread, and must not block.
        """
        self._plan = plan

    def strike(self, plan: Plan, connection: int | None = None) -> int:
        """
        Have something happen at once, to connections that are open.

        Args:
            plan: What; it waits for nothing.
            connection: The number of the connection; None for all that are open.

        Returns:
            How many connections it happened to; 0 if the proxy is closed.

        Raises:
            ConfigurationError: The plan is for connections to come.
        """
        if plan.waits or plan.at_accept:
            raise ConfigurationError(f"{plan} is for connections to come: give it to plan().")

        def strike() -> int:
            struck = [p for p in self._passages.values() if connection in (None, p.number)]
            for passage in struck:
                passage.fire(plan)
            return len(struck)

        return self._call(strike) or 0

    def refuse(self) -> None:
        """Stop listening: clients are refused by the system, while open connections go on. See ``accept``."""
        self._call(self._stop_listening)

    def accept(self) -> None:
        """
        Listen again, on the same port.

        Raises:
            OSError: Somebody else has taken the port.
        """
        self._call(self._listen_again)

    @property
    def fired(self) -> list[Fired]:
        """Every plan that happened so far."""
        with self._changed:
            return [*self._fired]

    @property
    def counters(self) -> Counters:
        """What was done so far."""
        with self._changed:
            counters = self._closed
            for passage in self._passages.values():
                counters = _added(counters, passage)
            return attrs.evolve(counters, open=len(self._passages), fired=len(self._fired))

    def wait(self, predicate: Callable[[FaultProxy], bool], timeout: float = 5.0) -> bool:
        """
        Wait until something is true of the proxy.

        Args:
            predicate: Called with this proxy after each change of it.
            timeout: The most to wait, in seconds.

        Returns:
            What the predicate said last.
        """
        with self._changed:
            return self._changed.wait_for(lambda: predicate(self), timeout)

    def close(self) -> None:
        """End every connection without a word, and the proxy's thread; idempotent, waits at most 5 s."""
        self._stopped = True
        self._ring()
        if threading.current_thread() is not self._thread:
            self._thread.join(_PATIENCE)

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"FaultProxy(port={self.port}, {self.counters!r})"

    # Calls from other threads.

    def _ring(self) -> None:
        # A full pipe wakes as well as one byte more would; a closed one is nobody's any more.
        with contextlib.suppress(OSError):
            self._far.send(b"\0")

    def _call(self, function: Callable[[], Any]) -> Any:
        """Have the proxy's thread call a function, and return what it returns; None once closed."""
        if threading.current_thread() is self._thread:
            raise WouldDeadlockError("Call this from another thread than the proxy's own.")
        call = _Call(function)
        with self._changed:
            if self._stopped:
                return None
            self._calls.append(call)
        self._ring()
        if not call.done.wait(_PATIENCE):
            raise TimeoutError("The proxy's thread does not answer.")
        if call.error is not None:
            raise call.error
        return call.result

    # The proxy's thread.

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            self._selector = selector
            try:
                selector.register(self._near, selectors.EVENT_READ)
                self._watch_listener()
                while not self._stopped:
                    self._round()
            finally:
                self._end()

    def _round(self) -> None:
        readable, writable = self._select()
        if self._near in readable:
            with contextlib.suppress(BlockingIOError):
                while self._near.recv(4096):
                    pass
        accepted = self._accept_all() if self._listener in readable else []
        with self._changed:
            self._passages.update((passage.number, passage) for passage in accepted)
            while self._calls:
                self._calls.popleft().run()
            now = time.monotonic()
            for passage in list(self._passages.values()):
                passage.step(now, readable, writable)
                if passage.over:
                    self._forget(passage)
                else:
                    self._watch(passage)
            self._changed.notify_all()

    def _select(self) -> tuple[set[Any], set[Any]]:
        dues = [passage.due for passage in self._passages.values()]
        due = min((due for due in dues if due is not None), default=None)
        timeout = None if due is None else max(0.0, due - time.monotonic())
        ready = self._selector.select(timeout)
        readable = {key.fileobj for key, mask in ready if mask & selectors.EVENT_READ}
        return readable, {key.fileobj for key, mask in ready if mask & selectors.EVENT_WRITE}

    def _accept_all(self) -> list[Passage]:
        """Accept who waits; with the lock free, as the plan is the user's code."""
        assert self._listener is not None
        accepted: list[Passage] = []
        # There is none, or it is gone again, or there are no descriptors left.
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._accepted += 1
                number, now = self._accepted, time.monotonic()
                planned = self._planned(number)
                accepted.append(Passage(number, client, self._target, planned, now, self._note))
        return accepted

    def _planned(self, number: int) -> Sequence[Plan]:
        try:
            planned = self._plan(number) if callable(self._plan) else self._plan
        except Exception as exc:  # noqa: BLE001 - it is the user's code and may raise anything.
            self.errors.append(exc)
            return [Plan("refuse")]
        return [planned] if isinstance(planned, Plan) else planned or ()

    def _note(self, passage: Passage, plan: Plan) -> None:
        up, down = passage.up.passed_bytes, passage.down.passed_bytes
        self._fired.append(Fired(passage.number, plan, up, down))

    def _watch(self, passage: Passage) -> None:
        for sock, reads, writes in passage.interests():
            events = (selectors.EVENT_READ if reads else 0) | (
                selectors.EVENT_WRITE if writes else 0
            )
            known = self._selector.get_map().get(sock)
            if known is None:
                if events:
                    self._selector.register(sock, events)
            elif not events:
                self._selector.unregister(sock)
            elif events != known.events:
                self._selector.modify(sock, events)

    def _forget(self, passage: Passage) -> None:
        for sock, _, _ in passage.interests():
            if sock in self._selector.get_map():
                self._selector.unregister(sock)
        del self._passages[passage.number]
        self._closed = _added(self._closed, passage)
        passage.close()

    def _watch_listener(self) -> None:
        if self._listener is not None:
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _listen_again(self) -> None:
        if self._listener is None:
            self._listener = _listen(self.port)
            self._watch_listener()

    def _end(self) -> None:
        with self._changed:
            self._stopped = True
            while self._calls:
                self._calls.popleft().done.set()
            for passage in list(self._passages.values()):
                self._forget(passage)
            self._stop_listening()
            self._changed.notify_all()
        self._near.close()
        self._far.close()


@attrs.define
class _Call:
    """A function that another thread wants called."""

    function: Callable[[], Any]
    result: Any = None
    error: Exception | None = None
    done: threading.Event = attrs.field(factory=threading.Event)

    def run(self) -> None:
        try:
            self.result = self.function()
        except Exception as exc:  # noqa: BLE001 - it is raised where it was asked for.
            self.error = exc
        self.done.set()


def _listen(port: int) -> socket.socket:
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    listener.setblocking(False)
    return listener


def _added(counters: Counters, passage: Passage) -> Counters:
    up, down = passage.up, passage.down
    return attrs.evolve(
        counters,
        connections=counters.connections + 1,
        from_client_bytes=counters.from_client_bytes + up.taken_bytes,
        to_server_bytes=counters.to_server_bytes + up.passed_bytes,
        from_server_bytes=counters.from_server_bytes + down.taken_bytes,
        to_client_bytes=counters.to_client_bytes + down.passed_bytes,
    )
