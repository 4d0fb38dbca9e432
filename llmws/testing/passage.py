"""One connection through a ``FaultProxy``: two sockets, what is between them, and what goes wrong with it."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from .plans import Plan, Way


__all__ = ["Passage", "Pipe"]

_READ_BYTES = 64 * 1024
# A direction holds no more than this, whatever slows it down: then its source is made to wait.
_HELD_BYTES = 1024 * 1024
# So often a single byte may be written until the other connections have their turn.
_WRITES = 64
# What is throttled goes in steps of this many seconds.
_STEP = 0.01


class Pipe:
    """
    One direction of a connection.

    Attributes:
        taken_bytes: How many bytes came from the source.
        passed_bytes: How many of them the sink's kernel has taken.
        ended: How the source has ended, or empty.
        swallows: Whether what comes is thrown away.
        shut: Whether the sink was told of an end.
        blocked: Whether the sink has no room.
        delay: Seconds that each piece is held.
        rate: Bytes that are passed on a second, or None for all.
        size: Bytes that are written at a time, or None for all.
    """

    def __init__(self) -> None:
        self.taken_bytes = 0
        self.passed_bytes = 0
        self.ended: Literal["", "eof", "reset"] = ""
        self.swallows = False
        self.shut = False
        self.blocked = False
        self.delay = 0.0
        self.rate: float | None = None
        self.size: int | None = None
        # When each piece may go on, and the piece; the source's end is an empty one.
        self._held: deque[tuple[float, memoryview]] = deque()
        self._held_bytes = 0
        self._free_at = 0.0  # When the rate allows more.

    @property
    def wants_bytes(self) -> bool:
        """Whether the source is to be read."""
        return not self.ended and self._held_bytes < _HELD_BYTES

    @property
    def done(self) -> bool:
        """Whether the source's end has got as far as it ever will."""
        return bool(self.ended) and (self.shut or self.swallows)

    @property
    def empty(self) -> bool:
        """Whether nothing is held."""
        return not self._held

    @property
    def due(self) -> float | None:
        """When something may be passed on, or None."""
        if not self._held or self.blocked:
            return None
        return max(self._held[0][0], self._free_at)

    def read(self, source: socket.socket, now: float) -> None:
        """Take what the source has."""
        try:
            data = source.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, self.ended = b"", "reset"
        else:
            self.taken_bytes += len(data)
            if not data:
                self.ended = "eof"
        if not (self.swallows or self.shut):
            self._held.append((now + self.delay, memoryview(data)))
            self._held_bytes += len(data)

    def write(self, sink: socket.socket, now: float, most: int | None) -> None:
        """
        Pass on what may go.

        Args:
            sink: Where to.
            now: Monotonic seconds.
            most: The most bytes, or None.
        """
        stop = None if most is None else self.passed_bytes + most
        for _ in range(_WRITES):
            due = self.due
            if due is None or due > now or self.passed_bytes == stop:
                return
            piece = self._held[0][1]
            if not piece:
                self._held.popleft()
                if self.ended == "eof":
                    self.cut(sink)
                return
            self._send(sink, piece, now, stop)

    def _send(self, sink: socket.socket, piece: memoryview, now: float, stop: int | None) -> None:
        room = [len(piece)]
        if stop is not None:
            room.append(stop - self.passed_bytes)
        if self.size is not None:
            room.append(self.size)
        if self.rate is not None:
            room.append(max(1, int(self.rate * _STEP)))
        try:
            count = sink.send(piece[: min(room)])
        except (BlockingIOError, InterruptedError):
            self.blocked = True
            return
        except OSError:
            # Nobody reads there any more; what the sink itself still says is for the other direction.
            self.swallow()
            return
        self.passed_bytes += count
        self._held_bytes -= count
        if self.rate is not None:
            self._free_at = max(now, self._free_at) + count / self.rate
        due, _ = self._held.popleft()
        if count < len(piece):
            self._held.appendleft((due, piece[count:]))

    @property
    def reset_is_due(self) -> bool:
        """Whether a reset of the source has come through: nothing is held before it, or nothing of it moves."""
        return self.ended == "reset" and not self.swallows and (self.blocked or not self._held)

    def swallow(self) -> None:
        """Throw away what is held and what comes."""
        self.swallows = True
        self._empty()

    def cut(self, sink: socket.socket | None) -> None:
        """Tell the sink that this is the end, whatever still comes."""
        if self.shut:
            return
        self.shut = True
        self._empty()
        if sink is not None:
            with contextlib.suppress(OSError):  # It is gone, or was never there.
                sink.shutdown(socket.SHUT_WR)

    def _empty(self) -> None:
        self._held.clear()
        self._held_bytes = 0
        self.blocked = False


class Passage:
    """
    A client's connection and the one to the target that goes with it.

    Not thread-safe: it belongs to the proxy's thread.

    Args:
        number: Which connection of the proxy it is, from 1.
        client: The accepted socket, which this object owns from now on.
        target: Address family and address of the server.
        plans: What shall happen.
        now: Monotonic seconds.
        fired: Called with each plan when it happens.
    """

    def __init__(
        self,
        number: int,
        client: socket.socket,
        target: tuple[int, tuple[object, ...]],
        plans: Sequence[Plan],
        now: float,
        fired: Callable[[Passage, Plan], object],
    ) -> None:
        self.number = number
        self.client = client
        self.server: socket.socket | None = None
        self.up, self.down = Pipe(), Pipe()
        self.over = False
        self.connected = False
        self._born = now
        self._plans = list(plans)
        self._fired = fired
        with contextlib.suppress(
            OSError
        ):  # The client may be gone again, which its next read will tell.
            _unblock(client)
        for plan in [plan for plan in plans if plan.at_accept]:
            self._plans.remove(plan)
            self.fire(plan)
        if not any(plan.at_accept for plan in plans):
            self._dial(*target)

    def _dial(self, family: int, address: tuple[object, ...]) -> None:
        try:
            self.server = socket.socket(family, socket.SOCK_STREAM)
            _unblock(self.server)
            failed = self.server.connect_ex(address)
        except OSError as exc:
            failed = exc.errno or errno.EIO
        self.connected = not failed
        if failed not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
            self.reset()

    def step(self, now: float, readable: set[socket.socket], writable: set[socket.socket]) -> None:
        """Move on: read and write what is possible, and have happen what is due."""
        if self.over:
            return
        if self.server in writable and not self.connected:
            assert self.server is not None
            if self.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.reset()
            self.connected = True
        for pipe, source, sink in self._pipes():
            if sink in writable:
                pipe.blocked = False
            if source in readable and pipe.wants_bytes:
                assert source is not None
                pipe.read(source, now)
        self._fire_due(now)
        while not self.over and self._pass_on(now):
            self._fire_due(now)
        self._look_for_end()

    def _pipes(self) -> Iterator[tuple[Pipe, socket.socket | None, socket.socket | None]]:
        yield self.up, self.client, self.server
        yield self.down, self.server, self.client

    def _pass_on(self, now: float) -> bool:
        """Write up to the next plan in each direction; return whether one is reached."""
        reached = False
        for pipe, _, sink in self._pipes():
            if sink is None or not self.connected:
                continue
            positions = [place - pipe.passed_bytes for place in self._places(pipe)]
            most = min(positions, default=None)
            before = pipe.passed_bytes
            pipe.write(sink, now, most)
            reached |= most is not None and pipe.passed_bytes - before == most
        return reached

    def _places(self, pipe: Pipe) -> Iterator[int]:
        name = "after_client_bytes" if pipe is self.up else "after_server_bytes"
        for plan in self._plans:
            place = getattr(plan, name)
            if place is not None:
                yield place

    def _fire_due(self, now: float) -> None:
        for plan in [plan for plan in self._plans if self._is_due(plan, now)]:
            if self.over:
                return
            self._plans.remove(plan)
            self.fire(plan)

    def _is_due(self, plan: Plan, now: float) -> bool:
        if plan.after_client_bytes is not None:
            return self.up.passed_bytes >= plan.after_client_bytes
        if plan.after_server_bytes is not None:
            return self.down.passed_bytes >= plan.after_server_bytes
        return self._born + (plan.after_seconds or 0.0) <= now

    def fire(self, plan: Plan) -> None:
        """Have a plan happen now."""
        self._fired(self, plan)
        if plan.what in ("reset", "refuse"):
            self.reset()
        elif plan.what == "fin":
            self._cut("both")
        elif plan.what == "half_close":
            self._cut(plan.way)
        for pipe in self._ways(plan.way):
            if plan.what in ("black_hole", "mute"):
                pipe.swallow()
            pipe.delay = pipe.delay if plan.seconds is None else plan.seconds
            pipe.rate = plan.bytes_per_second or pipe.rate
            pipe.size = plan.size_bytes or pipe.size

    def _ways(self, way: Way) -> list[Pipe]:
        return {"both": [self.up, self.down], "client": [self.up], "server": [self.down]}[way]

    def _cut(self, way: Way) -> None:
        for pipe, _, sink in self._pipes():
            if pipe in self._ways(way):
                pipe.cut(sink)

    def _look_for_end(self) -> None:
        if self.up.reset_is_due or self.down.reset_is_due:
            self.reset()
        up, down = self.up, self.down
        # The client has gone, and either there is nothing more for it, or the server will never hear of that.
        if up.done and (down.done or down.swallows or down.shut or (up.swallows and down.empty)):
            self.over = True

    @property
    def due(self) -> float | None:
        """When ``step`` is due even if no socket has anything to say, or None."""
        dues = [self._born + p.after_seconds for p in self._plans if p.after_seconds is not None]
        if self.connected:
            dues += [pipe.due for pipe in (self.up, self.down) if pipe.due is not None]
        return min(dues, default=None)

    def interests(self) -> Iterator[tuple[socket.socket, bool, bool]]:
        """Yield each socket, and whether it is of interest when it can be read and when it can be written."""
        yield self.client, self.up.wants_bytes, self.down.blocked
        if self.server is not None:
            readable = self.connected and self.down.wants_bytes
            yield self.server, readable, self.up.blocked or not self.connected

    def reset(self) -> None:
        """End with RST on both sides."""
        self.over = True
        for sock in (self.client, self.server):
            if sock is not None:
                with contextlib.suppress(OSError):
                    linger = struct.pack("ii", 1, 0)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def close(self) -> None:
        """Give both sockets back."""
        self.client.close()
        if self.server is not None:
            self.server.close()


def _unblock(sock: socket.socket) -> None:
    sock.setblocking(False)
    # Positions and single bytes are to be seen as they are.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
