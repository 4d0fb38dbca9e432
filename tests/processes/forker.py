"""
A process that forks again and again, at the worst of moments: run in a program of its own, which has a session.

Each child must find that the parent's streams are not its own, that its session works, and soon; and the parent must
not notice. Nothing here may be waited for without a limit: what hangs in a child is ended by an alarm, and counted.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import llmws


__all__ = ["SITUATIONS", "run"]

# Longer than any child needs, and shorter than anybody waits.
_CHILD_SECONDS = 20
_WORDS = "one two three"


class Forker:
    """
    Forks, and counts what children and parent found wrong.

    Attributes:
        name: The situation's, for turns to be told apart.
        session: Opened by the parent; one turn of it was run.
        control: Another one, which releases turns that the server holds.
        found: Failures by kind.
        forks: How many children there were.
        slowest: Seconds that the slowest child took for all it does.
    """

    def __init__(
        self, name: str, session: llmws.Session, control: llmws.Session, choose: random.Random
    ) -> None:
        self.name = name
        self.session = session
        self.control = control
        self.choose = choose
        self.found: Counter[str] = Counter()
        self.forks = 0
        self.slowest = 0.0
        self.inherited: list[llmws.Stream] = []

    def fork(self) -> None:
        """Fork once, on this thread, and see that the child ends well."""
        begun = time.monotonic()
        pid = os.fork()
        if not pid:
            self._be_the_child()
        self.forks += 1
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self.slowest = max(self.slowest, time.monotonic() - begun)
        if code:
            self.found[f"a child ended with {code}"] += 1

    def _be_the_child(self) -> None:
        """Do what a child does, and end with 0 if all of it went well."""
        code = 99
        try:
            signal.alarm(_CHILD_SECONDS)
            code = self._child()
        except BaseException as exc:  # noqa: BLE001  It is told, and counted by the parent.
            os.write(2, f"in a child: {type(exc).__name__}: {exc}\n".encode())
        finally:
            os._exit(code)

    def _child(self) -> int:
        for stream in self.inherited:
            if not (_is_refused(lambda s: s.response(5), stream) and _is_refused(list, stream)):
                return 1
            with contextlib.suppress(llmws.ForkedError):
                stream.wait(5)  # The turn has ended: at once.
        if self.session.create("in a child").text != _WORDS:
            return 2
        if self.session.stats.dials != 1 or self.session.stats.turns != 1:
            return 3
        told: list[str] = []
        self.session.stream("told in a child").on("text", told.append).wait(10)
        if "".join(told) != _WORDS:
            return 4
        self.session.close()
        return 0

    def hold(self) -> llmws.Stream:
        """Start a turn that stays in its middle until ``release``."""
        stream = self.session.stream(f"hold {self.name}{self.forks}")
        self.inherited = [stream]
        return stream

    def release(self) -> None:
        """Let the turn go on that was held before the last fork."""
        self.control.create(f"release {self.name}{self.forks - 1}")

    def expect(self, kind: str, stream: llmws.Stream) -> None:
        """See that the parent's turn was not disturbed."""
        text = stream.response(_CHILD_SECONDS).text
        if text != _WORDS:
            self.found[f"{kind}: {text!r}"] += 1


def _is_refused(use: Callable[[llmws.Stream], object], stream: llmws.Stream) -> bool:
    """Tell whether a stream that was running in the parent is refused in the child."""
    try:
        use(stream)
    except llmws.ForkedError as error:
        return "parent process" in str(error)
    return False


def in_the_middle_of_a_stream(forker: Forker) -> None:
    """Fork on the main thread while another one reads."""
    stream = forker.hold()
    reader = iter(stream.texts())
    next(reader)
    rest = threading.Thread(target=lambda: list(reader))
    rest.start()
    forker.fork()
    forker.release()
    rest.join()
    forker.expect("mid-stream", stream)


def in_a_callback(forker: Forker) -> None:
    """Fork on a callback thread, in the middle of a callback."""
    stream = forker.hold()
    once = iter([forker.fork, forker.release])
    problems: list[BaseException] = []

    def fork_and_release(_: str) -> None:
        for step in once:
            step()

    stream.on("text", fork_and_release).on("callback_error", problems.append)
    stream.wait(_CHILD_SECONDS)
    for problem in problems:
        forker.found[f"a callback: {problem!r}"] += 1
    forker.expect("callback", stream)


def in_a_dial(forker: Forker) -> None:
    """Fork while a dial is on its way, at some point of it or just after."""
    forker.inherited = []
    session = forker.session
    with llmws.Session("m", base_url=sys.argv[1], api_key="none") as forker.session:
        stream = forker.session.stream("Hi")
        threading.Event().wait(forker.choose.uniform(0.0, 0.01))
        forker.fork()
        forker.expect("dial", stream)
    forker.session = session


def among_busy_threads(forker: Forker) -> None:
    """Fork while turns and callbacks take and give back every lock there is."""
    forker.inherited = []
    with _busy(forker):
        for _ in range(4):
            threading.Event().wait(forker.choose.uniform(0.0, 0.02))
            forker.fork()


@contextlib.contextmanager
def _busy(forker: Forker, threads: int = 4) -> Iterator[None]:
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            stream = forker.session.stream("Hi").on("chunk", lambda chunk: None)
            forker.expect("busy", stream)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        ended.set()
        for worker in workers:
            worker.join()


SITUATIONS: dict[str, Callable[[Forker], None]] = {
    "mid-stream": in_the_middle_of_a_stream,
    "callback": in_a_callback,
    "dial": in_a_dial,
    "busy": among_busy_threads,
}


def run(session: llmws.Session, forks: int, seed: int) -> dict[str, Any]:
    """
    Fork so many times in each situation.

    Returns:
        For each situation the forks, the failures by kind and the slowest child; and how often the parent dialled.
    """
    told: dict[str, Any] = {}
    control = llmws.Session("m", base_url=sys.argv[1], api_key="none")
    assert session.create("first").text == _WORDS
    for name, situation in SITUATIONS.items():
        forker = Forker(name, session, control, random.Random(f"{seed} {name}"))
        while forker.forks < forks and not forker.found:
            situation(forker)
        told[name] = {
            "forks": forker.forks,
            "found": dict(forker.found),
            "slowest": round(forker.slowest, 3),
        }
    told["dials"] = session.stats.dials
    session.close()
    control.close()
    return told
