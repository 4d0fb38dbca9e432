"""Host names of the campaign: a look-up answers what a trial says, in its order; all other names are the system's."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any


__all__ = ["Answer", "answering", "closed_port", "deaf_port", "name_for", "served_names"]

# A port, an error, or an event before which there is no answer.
Answer = int | OSError | threading.Event
_SUFFIX = ".campaign.test"
_answers: dict[str, deque[Answer]] = {}
_numbers = itertools.count(1)


def name_for(answers: list[Answer]) -> str:
    """Return a new name; the last answer is given again and again."""
    name = f"t{next(_numbers)}{_SUFFIX}"
    _answers[name] = deque(answers)
    return name


def answering(host: str, port: Any) -> int:
    """Return the port that stands for a name at its next look-up."""
    answers = _answers[host]
    answer = answers.popleft() if len(answers) > 1 else answers[0]
    if isinstance(answer, threading.Event):
        answer.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")
    if isinstance(answer, OSError):
        raise answer
    return answer or port


@contextlib.contextmanager
def served_names() -> Iterator[None]:
    """Answer look-ups of the campaign's names, for any client of this process."""
    system = socket.getaddrinfo

    def look_up(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(host, str) and host.endswith(_SUFFIX):
            place = ("127.0.0.1", answering(host, port))
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place)]
        return system(host, port, *arguments, **options)

    socket.getaddrinfo = look_up  # type: ignore[assignment]
    try:
        yield
    finally:
        socket.getaddrinfo = system
        _answers.clear()


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Give a port where nobody listens, and that nobody else gets meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """Give a port whose SYNs stay without an answer: the queue of its listener is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            queued = stack.enter_context(socket.socket())
            queued.setblocking(False)
            queued.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
