"""Small scripted peers on real loopback sockets: what is at the other end of a dial."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable


Script = Callable[[socket.socket], None]


class Peer:
    """A TCP server that runs a script for each connection, in a thread each, and counts the connections."""

    def __init__(
        self, script: Script, ssl_context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.script = script
        self.ssl_context = ssl_context
        self.listener = socket.create_server((host, 0), family=family)
        self.port: int = self.listener.getsockname()[1]
        self.connections = 0
        self._stopping = False
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Peer:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):  # Wakes accept() on every system.
            socket.create_connection(self.listener.getsockname()[:2], 1).close()
        self._threads[0].join(5)
        self.listener.close()
        for conn in self._open:
            with contextlib.suppress(OSError):
                conn.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(5)
            assert not thread.is_alive(), "a peer's script hangs"

    def _accept(self) -> None:
        while True:
            conn, _ = self.listener.accept()
            if self._stopping:
                conn.close()
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(conn,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, conn: socket.socket) -> None:
        # A client that gives up in the middle is what most of these tests are about.
        with contextlib.suppress(OSError):
            if self.ssl_context:
                conn.settimeout(5)
                conn = self.ssl_context.wrap_socket(conn, server_side=True)
                conn.settimeout(None)
            self._open.append(conn)
            self.script(conn)
        conn.close()


def read_head(conn: socket.socket) -> bytes:
    """Read a request's head, byte by byte so that nothing after it is taken."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = conn.recv(1)
        if not byte:
            raise ConnectionError("the client went away")
        head += byte
    return head


def until_closed(conn: socket.socket) -> None:
    """Wait for the client to go away."""
    while conn.recv(4096):
        pass


def accept_key(head: bytes) -> str:
    """Return the Sec-WebSocket-Accept that belongs to a request."""
    key = next(
        line.split(b":")[1].strip()
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key:")
    )
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest).decode()


def switching(head: bytes, extra: str = "") -> bytes:
    """Return the right answer to an upgrade, with extra header lines that each end in CR LF."""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(head)}\r\n{extra}\r\n"
    ).encode("latin-1")


def upgrading(heads: list[bytes] | None = None, *, extra: str = "", early: bytes = b"") -> Script:
    """Make a script that accepts the upgrade, keeps the request's head, and waits for the end."""

    def script(conn: socket.socket) -> None:
        head = read_head(conn)
        if heads is not None:
            heads.append(head)
        conn.sendall(switching(head, extra) + early)
        until_closed(conn)

    return script


def answering(answer: bytes, *, close: bool = True, heads: list[bytes] | None = None) -> Script:
    """Make a script that gives any request one answer."""

    def script(conn: socket.socket) -> None:
        head = read_head(conn)
        if heads is not None:
            heads.append(head)
        conn.sendall(answer)
        if not close:
            until_closed(conn)

    return script


def connect_proxy(heads: list[bytes], refusal: bytes = b"", extra: bytes = b"") -> Script:
    """Make a script of an HTTP proxy: it tunnels, or refuses; ``extra`` goes out with its 200."""

    def script(conn: socket.socket) -> None:
        head = read_head(conn)
        heads.append(head)
        if refusal:
            conn.sendall(refusal)
            return
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        target = socket.create_connection((host.strip("[]"), int(port)), 5)
        conn.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n" + extra)
        relay(conn, target)

    return script


def socks5_proxy(seen: list[tuple[str, str]], *, login: tuple[str, str] | None = None) -> Script:
    """Make a script of a SOCKS5 proxy; it notes ("name" or "address", host), and always goes to 127.0.0.1."""

    def script(conn: socket.socket) -> None:
        _, count = take(conn, 2)
        methods = take(conn, count)
        if login:
            assert 2 in methods
            conn.sendall(b"\x05\x02")
            _, size = take(conn, 2)
            user = take(conn, size)
            password = take(conn, take(conn, 1)[0])
            good = (user.decode(), password.decode()) == login
            conn.sendall(b"\x01\x00" if good else b"\x01\x01")
            if not good:
                return
        else:
            conn.sendall(b"\x05\x00")
        kind = take(conn, 4)[3]
        if kind == 3:
            seen.append(("name", take(conn, take(conn, 1)[0]).decode()))
        else:
            packed = take(conn, 4 if kind == 1 else 16)
            family = socket.AF_INET if kind == 1 else socket.AF_INET6
            seen.append(("address", socket.inet_ntop(family, packed)))
        port = int.from_bytes(take(conn, 2), "big")
        target = socket.create_connection(("127.0.0.1", port), 5)
        conn.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        relay(conn, target)

    return script


def take(conn: socket.socket, size: int) -> bytes:
    """Read exactly so many bytes."""
    data = b""
    while len(data) < size:
        more = conn.recv(size - len(data))
        if not more:
            raise ConnectionError("the client went away")
        data += more
    return data


def relay(one: socket.socket, other: socket.socket) -> None:
    """Copy bytes both ways until both ends are closed."""
    other.settimeout(None)

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=pump, args=(other, one), daemon=True)
    back.start()
    pump(one, other)
    back.join(5)
    other.close()
