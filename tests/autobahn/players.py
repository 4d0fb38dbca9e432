"""Two players of the cases: against the link alone, and against a connection over a real socket."""

from __future__ import annotations

import contextlib
import queue
import socket
from collections.abc import Iterator
from typing import Any

import attrs

from llmws.wire.framing import Close, Framing
from llmws.wire.link import LinkPolicy
from llmws.wire.steps import CloseSocket, Deliver, Lost, Tick
from tests.autobahn.cases import MAX_MESSAGE_BYTES, Case
from tests.autobahn.echo import Driver
from tests.wire.lives import Life
from tests.wire.peers import Peer, read_head, switching


__all__ = ["Transcript", "expected", "play_link", "playing_over_sockets"]

# Nothing waits for so long unless it is broken.
_SECONDS = 10.0
# A long message in pieces of a byte takes long and shows no more.
_MOST_PIECES = 2000


@attrs.frozen
class Transcript:
    """
    What came of a case.

    Attributes:
        read: What the server read in each step; of a close the code, for the words are not part of the case.
        delivered: The messages that the router was handed.
        lost: The close code that it was told, and whether the server was to blame.
        closed: Whether the socket was closed in the end.
    """

    read: tuple[tuple[Any, ...], ...]
    delivered: tuple[bytes, ...]
    lost: tuple[int, bool] | None
    closed: bool = True


def expected(case: Case) -> Transcript:
    """Return what is to come of a case."""
    read = tuple(tuple(map(_without_words, read)) for _, read in case.steps)
    return Transcript(read, case.delivered, (case.lost, case.violation))


def _without_words(item: Any) -> Any:
    return ("close", item.code) if isinstance(item, Close) else item


def _pieces(data: bytes, piece_bytes: int | None) -> list[bytes]:
    size = max(len(data) if piece_bytes is None else piece_bytes, len(data) // _MOST_PIECES, 1)
    return [data[start : start + size] for start in range(0, len(data), size)]


def play_link(case: Case, piece_bytes: int | None) -> Transcript:
    """Play a case against a link: no socket, no thread, and what is to be written is written at once."""
    life = Life(max_message_bytes=MAX_MESSAGE_BYTES).opened()
    read: list[tuple[Any, ...]] = []
    delivered: list[bytes] = []
    ends: list[Any] = []
    for data, _ in case.steps:
        step: list[Any] = []
        for piece in _pieces(data, piece_bytes):
            for action in life.receive(piece):
                ends += [action] if isinstance(action, (Lost, CloseSocket)) else []
                messages = action.messages if isinstance(action, Deliver) else []
                delivered += map(bytes, messages)
                for message in messages if case.echo else []:
                    life.send(object(), message)
            some, actions = life.write()
            step += map(_without_words, some)
            if life.link.deadline == life.now:  # What it has to say can wait no longer.
                actions += life.step(Tick())
                some, more = life.write()
                step += map(_without_words, some)
                actions += more
            ends += [action for action in actions if isinstance(action, (Lost, CloseSocket))]
        read.append(tuple(step))
    losses = [end for end in ends if isinstance(end, Lost)]
    lost = (losses[0].code, losses[0].violation) if len(losses) == 1 else None
    return Transcript(tuple(read), tuple(delivered), lost, ends[-1:] == [CloseSocket()])


@contextlib.contextmanager
def playing_over_sockets() -> Iterator[SocketPlayer]:
    """Give a player whose connection visits a server that plays the case's part, both with threads of their own."""
    player = SocketPlayer()
    with Peer(player.serve) as peer:
        policy = LinkPolicy(max_message_bytes=MAX_MESSAGE_BYTES)
        with Driver(peer.port, policy) as player.driver:
            yield player


class SocketPlayer:
    """Plays cases one after the other; for each, the connection dials anew."""

    driver: Driver

    def __init__(self) -> None:
        self._parts: queue.SimpleQueue[tuple[Case, int | None]] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[tuple[tuple[Any, ...], ...], bool]] = (
            queue.SimpleQueue()
        )

    def play(self, case: Case, piece_bytes: int | None) -> Transcript:
        """
        Play a case.

        Raises:
            TimeoutError: The connection did not find an end.
        """
        self.driver.echo.answers = case.echo
        self._parts.put((case, piece_bytes))
        delivered = self.driver.visit("/", _SECONDS)
        read, closed = self._results.get(timeout=_SECONDS)
        lost = self.driver.lost
        assert lost is not None
        return Transcript(read, tuple(map(bytes, delivered)), (lost.code, lost.violation), closed)

    def serve(self, conn: socket.socket) -> None:
        """Play the server's part, on a thread of its own."""
        conn.settimeout(_SECONDS)
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn.sendall(switching(read_head(conn)))
        case, piece_bytes = self._parts.get(timeout=_SECONDS)
        reading = _Reading(conn)
        read = []
        for data, wanted in case.steps:
            # A client that has had enough need not wait for the rest.
            with contextlib.suppress(ConnectionError):
                for piece in _pieces(data, piece_bytes):
                    conn.sendall(piece)
            read.append(reading.take(len(wanted)))
        read[-1] += reading.take(None)
        self._results.put((tuple(read), reading.ended))


class _Reading:
    """
    What a server reads.

    Attributes:
        ended: Whether the client closed the socket.
    """

    def __init__(self, conn: socket.socket) -> None:
        self._conn = conn
        self._framing = Framing("server")
        self.ended = False

    def take(self, count: int | None) -> tuple[Any, ...]:
        """Read so many frames, or with None all there are; more if they came together, fewer if no more come."""
        read: list[Any] = []
        while not self.ended and (count is None or len(read) < count):
            try:
                data = self._conn.recv(65_536)
            except ConnectionError:
                data = b""
            except TimeoutError:
                break
            self.ended = not data
            read += map(_without_words, self._framing.feed(data))
        return tuple(read)
