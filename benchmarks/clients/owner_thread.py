"""
The limit for a library whose socket belongs to a thread of its own: the raw socket behind the least of such threads.

What it costs beyond the raw socket is the price of two hand-overs between threads on the machine at hand, which no
code of ours can lower.
"""

from __future__ import annotations

import collections
import itertools
import selectors
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from .raw import Fast, frame_of, split


__all__ = ["OwnerThread"]

_READ_BYTES = 65_536


class OwnerThread(Fast):
    """A thread that selects, reads and writes; a log; a condition that its reader waits at."""

    def open(self) -> None:
        """Connect, upgrade, and start the thread."""
        super().open()
        self._connection.setblocking(False)
        self._outbox: collections.deque[bytes] = collections.deque()
        self._log: list[bytes] = []
        self._cursor = 0
        self._changed = threading.Condition()
        self._ear, self._bell = socket.socketpair()
        self._thread = threading.Thread(target=self._own)
        self._thread.start()

    def events(self, request: Mapping[str, Any]) -> Iterator[Any]:
        """Post a request, and iterate over what the thread brings, decoded."""
        self._outbox.append(frame_of(request))
        self._bell.send(b"x")
        return itertools.chain.from_iterable(self._batches())

    def _batches(self) -> Iterator[list[Any]]:
        while True:
            with self._changed:
                while len(self._log) == self._cursor:
                    self._changed.wait()
                new = self._log[self._cursor :]
            self._cursor += len(new)
            yield [self._decode(message) for message in new]

    def _own(self) -> None:
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ)
            selector.register(self._ear, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._connection:
                        messages, rest = split(rest + self._connection.recv(_READ_BYTES))
                        with self._changed:
                            self._log += messages
                            self._changed.notify_all()
                    elif not self._ear.recv(1):
                        return
                    else:
                        self._connection.send(self._outbox.popleft())

    def close(self) -> None:
        """End the thread, and close the socket."""
        self._bell.close()
        self._thread.join()
        self._ear.close()
        super().close()
