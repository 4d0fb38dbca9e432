"""The embedded server: the Responses API on loopback, for tests of llmws and of what is built on it."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
import time

from ..errors import ConfigurationError, RecordingMismatchError
from .http import Head, HTTPReader, Refusal, accept_upgrade, answer, error_body
from .ledger import Ledger, public_headers
from .posts import HTTPConnection
from .refusals import RefuseUpgrade
from .replay import Replay, Source
from .request import Rule
from .rules import answering, echo
from .semantics import Semantics
from .sockets import Listener, SharedSocket
from .stage import Stage
from .websocket import WebSocket


__all__ = ["Server"]

_PATH = "/v1/responses"
_COMPACT_PATH = f"{_PATH}/compact"
# How long ``close`` waits for rules that do not watch ``request.connection.closed``.
_CLOSE_SECONDS = 5.0


class Server:
    """
    A server of the Responses API on 127.0.0.1, in this process, over WebSocket and over HTTP with SSE.

    ::

        with llmws.testing.Server(rule=rules.text("Hello!")) as server:
            client = OpenAI(base_url=server.base_url, api_key="none")

    It serves from the moment it is made until it is closed. Creates of one lane are answered in order, those of
    different lanes at the same time, within the API's limits. It caches and stores responses as the API does, so
    ``previous_response_id`` must name one that it still has; a call must have its output, and an output its call;
    warm-ups, steering and compaction work. No key is asked for, and none is kept. Every method may be called from any
    thread.

    Args:
        recording: What to play: the path of a recording, a ``Recording``, or a list of server events. One part is
            played for each create, from the first one again on each connection.
        rule: What answers instead; None and no recording echoes the input. See ``llmws.testing.rules``.
        ssl_context: Serve TLS with this context.
        port: The port, or 0 for any that is free.
        chunk_bytes: The most to write in one call of ``send``; 1 makes every byte travel by itself.
        delay: Seconds between two events of an answer.
        semantics: Limits, chains, steering and age; None does what OpenAI documents, but for a recording, which is
            played whatever ``previous_response_id`` says and cannot be steered.
        refuse_upgrade: Which upgrades get an HTTP status for an answer; see ``faults.RefuseUpgrade``.

    Attributes:
        base_url: What a client takes as its base URL, such as ``http://127.0.0.1:49152/v1``.
        ledger: Every request, and how its answer ended.
        errors: What rules raised, in order; such an answer ends with an error event.

    Raises:
        ConfigurationError: Both a recording and a rule were given, or a number makes no sense.
        RecordingError: The recording cannot be read.
        OSError: The port is taken.
    """

    def __init__(
        self,
        recording: Source | None = None,
        *,
        rule: Rule | None = None,
        ssl_context: ssl.SSLContext | None = None,
        port: int = 0,
        chunk_bytes: int | None = None,
        delay: float = 0.0,
        semantics: Semantics | None = None,
        refuse_upgrade: RefuseUpgrade | None = None,
    ) -> None:
        if recording is not None and rule is not None:
            raise ConfigurationError("Give a recording or a rule: one of them answers, not both.")
        _check(rule, ssl_context, port, chunk_bytes, delay)
        self._replay = None if recording is None else Replay(recording)
        if semantics is not None and not isinstance(semantics, Semantics):
            raise ConfigurationError(f"semantics is {semantics!r}: give a Semantics, or None.")
        self._refuse_upgrade = refuse_upgrade
        self._upgrades = itertools.count(1)
        live = self._replay is None
        self._semantics = semantics or Semantics(chains=live, steering=live)
        player = self._replay or answering(rule or echo())
        self._stage = Stage(
            player, delay=delay, chains=self._semantics.chains, pairs=self._semantics.pairs
        )
        self._ssl_context = ssl_context
        self._chunk_bytes = chunk_bytes
        self._listener = Listener(port)
        scheme = "http" if ssl_context is None else "https"
        self.base_url = f"{scheme}://127.0.0.1:{self._listener.port}/v1"
        # Open connections and their threads. The accepting thread adds, each connection's thread removes its own.
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, SharedSocket] = {}
        self._accepting = threading.Thread(
            target=self._accept, name="llmws-testing-accept", daemon=True
        )
        self._accepting.start()

    @property
    def ledger(self) -> Ledger:
        """Every request, and how its answer ended."""
        return self._stage.ledger

    @property
    def errors(self) -> list[Exception]:
        """What rules raised, in order."""
        return self._stage.errors

    @property
    def mismatches(self) -> list[RecordingMismatchError]:
        """Where creates differed from the recorded ones; always empty without a recording of both ways."""
        return self._replay.mismatches if self._replay else []

    def check(self) -> None:
        """
        Raise the first thing that went wrong: a rule's exception, else a request that differs from the recording.

        Raises:
            RecordingMismatchError: A create differed from the recorded one; the answer was played all the same.
        """
        for error in (*self.errors, *self.mismatches):
            raise error

    def forget(self, response_id: str | None = None) -> None:
        """
        Forget a response, so that it cannot be continued any more.

        Args:
            response_id: Which; None forgets every response, stored or cached on whatever connection.
        """
        self._stage.memory.forget(response_id)

    def evict(self, connection: int, lane: str | None = None) -> None:
        """
        Forget what a lane has cached; a response that was stored too can still be continued.

        Args:
            connection: The connection's number, from 1.
            lane: The lane's name, or None for the default lane.
        """
        self._stage.memory.evict(connection, lane)

    def close(self) -> None:
        """
        Stop serving, end every connection without a word, and wait for the server's threads.

        Idempotent. Waits at most 5 s, and that long only for rules that do not end when ``connection.closed`` is set.
        """
        deadline = time.monotonic() + _CLOSE_SECONDS
        self._listener.stop()
        self._accepting.join(_CLOSE_SECONDS)
        self._listener.close()
        with self._lock:
            connections = list(self._open.items())
        for _, sock in connections:
            sock.stop()
        for thread, _ in connections:
            thread.join(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Server({self.base_url!r}, {self.ledger!r})"

    def _accept(self) -> None:
        number = 0
        while (accepted := self._listener.accept()) is not None:
            number += 1
            self._begin(accepted, number)

    def _begin(self, accepted: socket.socket, number: int) -> None:
        try:
            sock = SharedSocket(accepted, chunk_bytes=self._chunk_bytes)
        except OSError:  # The client is gone already, or there are no descriptors left.
            accepted.close()
            return
        thread = threading.Thread(
            target=self._serve, args=(sock, number), name=f"llmws-testing-{number}", daemon=True
        )
        with self._lock:
            self._open[thread] = sock
        thread.start()

    def _serve(self, sock: SharedSocket, number: int) -> None:
        try:
            if self._ssl_context is not None:
                sock.secure(self._ssl_context)
            self._answer_requests(sock, number)
        except OSError:
            pass  # The client went away, or would have no TLS with us.
        finally:
            sock.close()
            with self._lock:
                self._open.pop(threading.current_thread(), None)

    def _answer_requests(self, sock: SharedSocket, number: int) -> None:
        """Answer POSTs until the client ends, or turns the connection into a WebSocket."""
        reader = HTTPReader(sock.receive)
        posts = HTTPConnection(sock, self._stage, number)
        try:
            while (head := reader.head()) is not None and not posts.closed.is_set():
                compacts = head.path.endswith(_COMPACT_PATH) and head.method == "POST"
                if not (compacts or head.path.endswith(_PATH)):
                    raise Refusal(404, "not_found", f"There is nothing but {_PATH} here.")
                if head.method != "POST":
                    accepted = accept_upgrade(head)
                    refusal = self._refuse_upgrade
                    if refusal is not None and refusal.refuses(next(self._upgrades)):
                        sock.send(refusal.answer())
                        break
                    self._run(sock, number, head, accepted, reader.rest())
                    return
                body = reader.body(head)
                if body is None:
                    return
                (posts.compact if compacts else posts.post)(head, body)
                if not head.keeps_alive:
                    break
        except Refusal as refusal:
            # The rest of a request that was refused is not worth reading: the connection ends.
            headers = {**refusal.headers, "Connection": "close"}
            sock.send(answer(refusal.status, error_body(refusal), headers))
        finally:
            posts.closed.set()
        sock.finish()
        while sock.receive():
            pass

    def _run(
        self, sock: SharedSocket, number: int, head: Head, accepted: bytes, rest: bytes
    ) -> None:
        # Counted first: a client that reads the answer finds it in the ledger.
        self.ledger.connected()
        sock.send(accepted)
        headers = public_headers(head.headers)
        connection = WebSocket(sock, self._stage, number, headers, self._semantics)
        connection.run(rest)


def _check(
    rule: object, ssl_context: object, port: object, chunk_bytes: object, delay: object
) -> None:
    """Refuse arguments that make no sense, before a socket is opened."""
    if rule is not None and not callable(rule):
        raise ConfigurationError(
            f"rule is {rule!r}: give a function of a request, such as rules.echo()."
        )
    if ssl_context is not None and not isinstance(ssl_context, ssl.SSLContext):
        raise ConfigurationError(f"ssl_context is {ssl_context!r}: give an ssl.SSLContext.")
    if not (isinstance(port, int) and 0 <= port <= 65_535):
        raise ConfigurationError(f"port is {port!r}: give a number from 0 to 65535.")
    if chunk_bytes is not None and not (isinstance(chunk_bytes, int) and chunk_bytes >= 1):
        raise ConfigurationError(f"chunk_bytes is {chunk_bytes!r}: give 1 or more, or None.")
    if not (isinstance(delay, (int, float)) and 0 <= delay < threading.TIMEOUT_MAX):
        raise ConfigurationError(f"delay is {delay!r}: give seconds from 0 up.")
