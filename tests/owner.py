"""
The guard: whoever touches a socket of llmws owns it, and there is one owner at a time.

A dial's thread owns the socket that it sets up. Handed over, it belongs to nobody until the I/O thread that asked for
it takes it; another thread may only close it then, as the end of a post that is turned away. A forked child may only
let go of its copy. Whatever else touches it is a violation: it raises there and then, and fails the test that runs.

The sockets themselves are watched: they change their class, to one that asks before each method, and before each look
at the TLS object inside. The library is not told. It is taken hold of at two places: where a socket is set up
(``TimedSocket``) and where a dial hands it over (``Dialling``).
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import attrs

from llmws.wire.deadline import TimedSocket
from llmws.wire.dialling import Dialling


class NotTheOwner(AssertionError):
    """A thread touched a socket that is another's."""


@attrs.define(eq=False)
class _Ownership:
    """Who may touch one socket: ``holder``, or, as long as there is none, the thread that takes it over."""

    holder: int | None
    taker: int | None = None
    pid: int = attrs.field(factory=os.getpid)

    def allows(self, thread: int, touch: str) -> bool:
        """Tell whether a thread that is not the holder may touch the socket all the same."""
        if os.getpid() != self.pid:
            return touch == "detach"
        if self.holder is None and (thread == self.taker or touch == "close"):
            self.holder = thread
            return True
        return False


class Guard:
    """
    Knows the owner of every socket that a dial has made.

    Attributes:
        violations: What was touched by whom, with the stack; whoever looks at them takes them away.
        watched: How many sockets were handed over so far.
        tell: Called with each violation, on the thread that is to blame.
    """

    def __init__(self, tell: Callable[[str], object] = lambda violation: None) -> None:
        self.violations: list[str] = []
        self.watched = 0
        self.tell = tell
        self._asking_kinds: dict[type[socket.socket], type[socket.socket]] = {}
        self._owners: weakref.WeakKeyDictionary[socket.socket, _Ownership] = (
            weakref.WeakKeyDictionary()
        )
        self._takers: weakref.WeakKeyDictionary[Dialling, int] = weakref.WeakKeyDictionary()

    def touched(self, sock: socket.socket, touch: str) -> None:
        """Raise ``NotTheOwner`` unless the calling thread may touch the socket."""
        owner = self._owners.get(sock)
        thread = threading.get_ident()
        if owner is None or owner.holder == thread or owner.allows(thread, touch):
            return
        holder = "nobody yet" if owner.holder is None else _name(owner.holder)
        if os.getpid() != owner.pid:
            holder = "the parent process"
        violation = (
            f"{touch} by {threading.current_thread().name}, but the socket belongs to {holder}"
        )
        stack = "".join(traceback.format_stack(limit=8)[:-2])
        self.violations.append(f"{violation}\n{stack}")
        self.tell(self.violations[-1])
        raise NotTheOwner(violation)

    def take(self) -> list[str]:
        """Return the violations so far, and forget them."""
        taken, self.violations = self.violations, []
        return taken

    def owned(self, sock: Any) -> None:
        """Make the calling thread the owner."""
        if isinstance(sock, socket.socket):
            self._watch(sock, _Ownership(threading.get_ident()))

    def free(self, sock: socket.socket) -> None:
        """Let anybody touch the socket: whoever called the dial does with it what he likes."""
        self._owners.pop(sock, None)

    def handed_over(self, sock: Any, taker: int | None) -> None:
        """Give the socket to the thread that takes it first, which is to be this one."""
        if isinstance(sock, socket.socket):
            self.watched += 1
            self._watch(sock, _Ownership(None, taker))

    def _watch(self, sock: socket.socket, owner: _Ownership) -> None:
        kind = type(sock)
        if kind not in self._asking_kinds.values():
            if kind not in self._asking_kinds:
                self._asking_kinds[kind] = self._asking_kind(kind)
            sock.__class__ = self._asking_kinds[kind]
        self._owners[sock] = owner

    def _asking_kind(self, kind: type[socket.socket]) -> type[socket.socket]:
        """Return a class of the same layout whose methods ask first."""
        body: dict[str, Any] = {"__slots__": (), "__repr__": object.__repr__}
        for name in dir(kind):
            if not name.startswith("_") and callable(getattr(kind, name)):
                body[name] = self._asking(name, getattr(kind, name))
        if issubclass(kind, ssl.SSLSocket):
            body["_sslobj"] = self._asking_attribute("_sslobj")
        return type(f"Watched{kind.__name__}", (kind,), body)

    def _asking(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def method(sock: socket.socket, *arguments: Any, **options: Any) -> Any:
            self.touched(sock, name)
            return plain(sock, *arguments, **options)

        return method

    def _asking_attribute(self, name: str) -> property:
        def get(sock: socket.socket) -> Any:
            self.touched(sock, name)
            return sock.__dict__[name]

        def put(sock: socket.socket, value: Any) -> None:
            self.touched(sock, name)
            sock.__dict__[name] = value

        return property(get, put)

    @contextlib.contextmanager
    def watching(self) -> Iterator[Guard]:
        """Watch every socket that is set up meanwhile."""
        with (
            mock.patch.object(TimedSocket, "sock", self._socket_in_the_making(), create=True),
            mock.patch.object(TimedSocket, "hand_over", self._hand_over(TimedSocket.hand_over)),
            mock.patch.object(Dialling, "__init__", self._init(Dialling.__init__)),
            mock.patch.object(Dialling, "start", self._start(Dialling.start)),
        ):
            yield self

    def _socket_in_the_making(self) -> property:
        def get(wire: TimedSocket) -> Any:
            return wire.__dict__["sock"]

        def put(wire: TimedSocket, sock: Any) -> None:
            wire.__dict__["sock"] = sock
            self.owned(sock)

        return property(get, put)

    def _hand_over(self, plain: Callable[..., socket.socket]) -> Callable[..., socket.socket]:
        def hand_over(wire: TimedSocket) -> socket.socket:
            sock = plain(wire)
            self.free(sock)
            return sock

        return hand_over

    def _init(self, plain: Callable[..., None]) -> Callable[..., None]:
        def init(dialling: Dialling, dial: Callable[..., Any], *others: Any) -> None:
            known = weakref.ref(dialling)

            def dial_and_hand_over(*arguments: Any) -> Any:
                dialled = dial(*arguments)
                self.handed_over(dialled.sock, self._takers.get(known()))
                return dialled

            plain(dialling, dial_and_hand_over, *others)

        return init

    def _start(self, plain: Callable[..., None]) -> Callable[..., None]:
        def start(dialling: Dialling, *arguments: Any) -> None:
            # Only the I/O thread starts dials: it is the one that takes the socket over.
            self._takers[dialling] = threading.get_ident()
            plain(dialling, *arguments)

        return start


def _name(ident: int) -> str:
    names = [thread.name for thread in threading.enumerate() if thread.ident == ident]
    return names[0] if names else "a thread that has ended"


def watch_program() -> None:
    """Watch every socket of this process until its end; violations go to stderr, which tests find empty."""
    watching = Guard(tell=lambda violation: os.write(2, violation.encode())).watching()
    watching.__enter__()
    _for_good.append(watching)


_for_good: list[contextlib.AbstractContextManager[Guard]] = []
