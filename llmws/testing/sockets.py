"""One socket of the embedded server, plain or TLS, that several threads may use."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import threading


__all__ = ["Bell", "Listener", "SharedSocket"]

_READ_BYTES = 64 * 1024
# Unlike epoll, poll holds no descriptor of its own.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)


class Bell:
    """Something to wait for beside a socket: rung once, it ends every wait, present and to come."""

    def __init__(self) -> None:
        self._near, self._far = socket.socketpair()

    def fileno(self) -> int:
        """Return what becomes readable when the bell rings."""
        return self._near.fileno()

    def ring(self) -> None:
        """End every wait; any thread may do so, any number of times."""
        # The far end's end of file stays readable for ever, which a byte that somebody reads would not.
        self._far.close()

    def close(self) -> None:
        """Give the descriptors back, once nobody waits any more."""
        self._far.close()
        self._near.close()


class SharedSocket:
    """
    A connected socket that one thread reads while any thread writes.

    The socket is non-blocking and threads wait beside it, with the lock free: two threads must not be inside one TLS
    object, and one that waits for bytes would otherwise keep another from writing. A write is whole: the
    pieces of two threads never mix.

    Args:
        sock: The accepted socket, which this object owns from now on.
        chunk_bytes: The most that one call of ``send`` may take, or None for as much as it will.
    """

    def __init__(self, sock: socket.socket, *, chunk_bytes: int | None = None) -> None:
        sock.setblocking(False)
        # Tests time single events, and a byte at a time must travel as such.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._chunk_bytes = chunk_bytes
        self._bell = Bell()
        self._lock = threading.Lock()  # Around each call into the socket or its TLS object.
        self._write_lock = threading.Lock()  # Around each whole write, its waits included.
        self._stopped = False

    def secure(self, context: ssl.SSLContext) -> None:
        """
        Do the TLS handshake, before any other use.

        Raises:
            OSError: The client refused, went away or spoke no TLS.
        """
        self._sock = secured = context.wrap_socket(
            self._sock, server_side=True, do_handshake_on_connect=False
        )
        while True:
            try:
                return secured.do_handshake()
            except ssl.SSLWantReadError:
                self._wait(selectors.EVENT_READ)
            except ssl.SSLWantWriteError:
                self._wait(selectors.EVENT_WRITE)
            if self._stopped:
                raise BrokenPipeError("The connection was stopped during its TLS handshake.")

    def receive(self) -> bytes:
        """Return the next bytes, or none once the client is gone or the socket was stopped."""
        while not self._stopped:
            try:
                with self._lock:
                    return self._sock.recv(_READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(selectors.EVENT_READ)
            except ssl.SSLWantWriteError:
                self._wait(selectors.EVENT_WRITE)
            except OSError:
                break
        return b""

    def send(self, data: bytes | bytearray) -> None:
        """
        Write all of the bytes, in pieces of at most ``chunk_bytes``.

        Raises:
            ConnectionError: They cannot be written any more.
        """
        step = self._chunk_bytes or len(data) or 1
        with self._write_lock, memoryview(data) as view:
            position = 0
            while position < len(view):
                position += self._send_some(view[position : position + step])

    def _send_some(self, piece: memoryview) -> int:
        while not self._stopped:
            try:
                with self._lock:
                    return self._sock.send(piece)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(selectors.EVENT_WRITE)
            except ssl.SSLWantReadError:
                self._wait(selectors.EVENT_READ)
            except ConnectionError:
                raise
            except OSError as exc:  # A TLS error, or a socket that is closed on this side.
                raise BrokenPipeError(f"The connection is closed: {exc}") from exc
        raise BrokenPipeError("The connection is closed.")

    def _wait(self, event: int) -> None:
        with _Selector() as selector:
            selector.register(self._sock, event)
            selector.register(self._bell, selectors.EVENT_READ)
            selector.select()

    def finish(self) -> None:
        """End the writing half as a good peer does; the client may still send."""
        if isinstance(self._sock, ssl.SSLSocket):
            # Sends our close_notify; waiting for the client's would be its own kind of hang.
            with self._lock, contextlib.suppress(OSError, ValueError):
                self._sock.unwrap()
        self.cut()

    def cut(self) -> None:
        """Send a bare FIN, as a process does that dies: TLS is not told."""
        with contextlib.suppress(OSError):
            # Around SSLSocket.shutdown, which would let go of the TLS object under a reading thread.
            socket.socket.shutdown(self._sock, socket.SHUT_WR)

    def stop(self, *, reset: bool = False) -> None:
        """
        End every read and write, present and to come, in whatever thread; ``close`` then gives the socket back.

        Args:
            reset: Whether ``close`` sends RST in place of FIN.
        """
        if reset:
            with contextlib.suppress(OSError):
                linger = struct.pack("ii", 1, 0)
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._stopped = True
        self._bell.ring()

    def close(self) -> None:
        """Stop, wait until no thread is inside, and give the descriptors back; only for the reading thread."""
        self.stop()
        with self._write_lock, self._lock:
            self._sock.close()
            self._bell.close()


class Listener:
    """
    A listening socket on loopback whose ``accept`` can be ended.

    Args:
        port: The port, or 0 for any that is free.
    """

    def __init__(self, port: int) -> None:
        self._sock = socket.create_server(("127.0.0.1", port), backlog=128)
        self._sock.setblocking(False)
        self._bell = Bell()
        self.port: int = self._sock.getsockname()[1]
        self._stopped = False

    def accept(self) -> socket.socket | None:
        """Return the next connection, or None once stopped."""
        while not self._stopped:
            with _Selector() as selector:
                selector.register(self._sock, selectors.EVENT_READ)
                selector.register(self._bell, selectors.EVENT_READ)
                selector.select()
            # The client may be gone again, or this process out of descriptors: neither ends the server.
            with contextlib.suppress(OSError):
                return self._sock.accept()[0]
        return None

    def stop(self) -> None:
        """End ``accept``, from any thread."""
        self._stopped = True
        self._bell.ring()

    def close(self) -> None:
        """Give the descriptors back, once nobody accepts any more."""
        self._sock.close()
        self._bell.close()
