"""
What wakes the I/O thread: its socket, room to write, and a post from another thread.

A connection uses nothing of the operating system but this, its socket and a clock, so a test can drive it by hand.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from typing import Protocol


__all__ = ["Poll", "SelectorPoll"]


class Poll(Protocol):
    """What a connection waits on."""

    def watch(self, sock: socket.socket) -> None:
        """Wait for this socket too."""

    def unwatch(self, sock: socket.socket) -> None:
        """Forget a socket that is about to be closed."""

    def wait(self, timeout: float | None, *, write: bool) -> tuple[bool, bool]:
        """
        Wait for something to do.

        Args:
            timeout: Seconds, or None to wait until something happens.
            write: Whether room to write is of interest.

        Returns:
            Whether the socket can be read, and whether it can be written.
        """

    def wake(self) -> None:
        """End the wait from another thread; takes no lock and never blocks or raises."""

    def close(self) -> None:
        """Release the descriptors."""

    def abandon(self) -> None:
        """Release the descriptors in a forked child, without a system call that the parent could feel."""


class SelectorPoll:
    """
    The operating system's best selector and a socket pair.

    ``wake`` may be called from any thread, signal handler or finalizer; the rest belongs to the I/O thread.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._watched: socket.socket | None = None
        self._writing = False
        self._rung = False

    def watch(self, sock: socket.socket) -> None:
        """Wait for this socket too."""
        self._selector.register(sock, selectors.EVENT_READ)
        self._watched, self._writing = sock, False

    def unwatch(self, sock: socket.socket) -> None:
        """Forget a socket that is about to be closed."""
        self._selector.unregister(sock)
        self._watched = None

    def wait(self, timeout: float | None, *, write: bool) -> tuple[bool, bool]:
        """Wait for the socket, the bell or the timeout."""
        if self._watched is not None and write is not self._writing:
            interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if write else 0)
            self._selector.modify(self._watched, interest)
            self._writing = write
        readable = writable = False
        for key, mask in self._selector.select(timeout):
            if key.fileobj is self._ear:
                self._hush()
            else:
                readable = bool(mask & selectors.EVENT_READ)
                writable = bool(mask & selectors.EVENT_WRITE)
        return readable, writable

    def wake(self) -> None:
        """Ring the bell, once until it was heard."""
        if self._rung:
            return
        try:
            self._rung = True
            self._bell.send(b"\0")
        except OSError:
            pass  # A full pipe wakes as well as one byte more; a closed one has nobody left to wake.
        except BaseException:
            self._rung = False  # Ctrl-C came between the two, and the bell may not have rung.
            raise

    def _hush(self) -> None:
        # First read, then lower the flag: a post that comes between is in its queue already, and the I/O thread
        # looks there after this.
        with contextlib.suppress(BlockingIOError):
            self._ear.recv(64)
        self._rung = False

    def close(self) -> None:
        """Release the descriptors."""
        self._selector.close()
        self._ear.close()
        self._bell.close()

    def abandon(self) -> None:
        """Release the child's copies of the descriptors."""
        # Closing an epoll descriptor takes nothing out of the set that the parent shares; unregistering would.
        self._selector.close()
        for sock in (self._ear, self._bell):
            with contextlib.suppress(OSError):
                os.close(sock.detach())
