"""A network of this process's own: loopback and nothing else, so that a server on 0.0.0.0 is nobody else's business."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys


__all__ = ["leave_the_network"]

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_IFREQ = struct.Struct("16sH22x")


def leave_the_network() -> str:
    """
    Move the calling thread, and all that it starts from now on, into a new network namespace.

    There is no way back. Call it before the first thread: a user namespace is only for processes with one.

    Returns:
        Why it is not possible, or nothing.
    """
    if not sys.platform.startswith("linux"):
        return f"there are no network namespaces on {sys.platform}"
    libc = ctypes.CDLL(None, use_errno=True)
    # Root may do it; where it may not, or for others, a user namespace gives the right to.
    if libc.unshare(_CLONE_NEWNET) and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        return f"this system gives no network namespace: {os.strerror(ctypes.get_errno())}"
    try:
        _raise_loopback()
    except OSError as exc:
        return f"the loopback of a new network namespace cannot be raised: {exc}"
    return ""


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0))
        _, flags = _IFREQ.unpack(answer)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", flags | _IFF_UP))
