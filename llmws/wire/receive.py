"""
Reading a socket that does not block: all that is there, in few pieces.

Each piece that goes to a log wakes its readers, and changing threads costs as much as reading hundreds of events. So
whoever reads on asks for more than the first time.
"""

from __future__ import annotations

import contextlib
import socket
import ssl


__all__ = ["discard", "receive", "receive_into"]

_FIRST_BYTES = 64 * 1024
_FURTHER_BYTES = 256 * 1024
_RECORD_BYTES = 16 * 1024

_DRY = BlockingIOError("nothing more for now")


def receive(sock: socket.socket, *, first: bool) -> tuple[bytes, OSError | EOFError | None]:
    """
    Read what has come.

    Args:
        sock: A socket that does not block.
        first: Whether it was just found readable; then nobody is to wait for more than one read.

    Returns:
        What came, and why there is no more: None if there may be, ``BlockingIOError`` or one of TLS's two wants if
        there is none for now, ``EOFError`` at the end, any other error if the socket broke.
    """
    if isinstance(sock, ssl.SSLSocket):
        return _receive_records(sock, 1 if first else _FURTHER_BYTES)
    most = _FIRST_BYTES if first else _FURTHER_BYTES
    try:
        data = sock.recv(most)
    except OSError as exc:
        return b"", exc
    return data, _why_no_more(len(data), most)


def receive_into(sock: socket.socket, room: memoryview) -> tuple[int, OSError | EOFError | None]:
    """Read once into a buffer; return how many bytes came, and why there are no more, as ``receive`` does."""
    try:
        count = sock.recv_into(room)
    except OSError as exc:
        return 0, exc
    return count, _why_no_more(count, 1 if isinstance(sock, ssl.SSLSocket) else len(room))


def discard(sock: socket.socket, most: int) -> None:
    """Read what has come, about so many bytes at most, and forget it; never raises."""
    with contextlib.suppress(OSError):
        for _ in range(most // _FIRST_BYTES):
            if not sock.recv(_FIRST_BYTES):
                break


def _receive_records(sock: ssl.SSLSocket, least: int) -> tuple[bytes, OSError | EOFError | None]:
    """Read records, of which TLS gives one at a time, until there are so many bytes, or no more."""
    records: list[bytes] = []
    size = 0
    while size < least:
        try:
            record = sock.recv(_RECORD_BYTES)
        except OSError as exc:
            return b"".join(records), exc
        if not record:
            return b"".join(records), EOFError()
        records.append(record)
        size += len(record)
    return b"".join(records), None


def _why_no_more(count: int, full: int) -> OSError | EOFError | None:
    """Judge a read: one that brought less than it might have has emptied the socket."""
    if not count:
        return EOFError()
    return None if count >= full else _DRY
