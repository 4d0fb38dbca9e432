"""P4: users leave turns in every way, at every place; the session's next turn has to be its own, and right."""

from __future__ import annotations

import contextlib
import gc
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from llmws.errors import StreamCancelledError
from tests.campaign.arena import SCHEMES, Arena, Trial, arena, spread
from tests.campaign.book import Book
from tests.campaign.consumers import ask, look_back
from tests.campaign.oracle import GRACE, Seen, examine
from tests.campaign.script import Line


__all__ = ["WAYS", "play_all", "trials"]

_LIMITS = {"first_event": 5.0, "idle": 5.0, "lane_wait": 9.0, "total": 10.0, "close": 0.4}
_DELTAS = 16


class _OfTheUser(Exception):
    pass


Way = Callable[[Any, Seen, int], None]


def _read(stream: Any, seen: Seen, index: int) -> None:
    for text in itertools.islice(stream.texts(), index):
        seen.pieces.append(text)


def _break(stream: Any, seen: Seen, index: int) -> None:
    """Leave the loop, and take the response all the same."""
    _read(stream, seen, index)
    seen.response = stream.response(_LIMITS["total"])
    seen.whole = False


def _close(stream: Any, seen: Seen, index: int) -> None:
    """Leave ``with stream``."""
    with stream:
        _read(stream, seen, index)
    with contextlib.suppress(StreamCancelledError):
        seen.response = stream.response(GRACE)
    seen.whole = False


def _gc(stream: Any, seen: Seen, index: int) -> None:
    """Forget the stream, in a cycle."""
    _read(stream, seen, index)
    seen.whole = False
    cycle = [stream]
    cycle.append(cycle)  # type: ignore[arg-type]


def _interrupt(stream: Any, seen: Seen, index: int) -> None:
    """Let Ctrl-C strike in the user's loop."""
    with contextlib.suppress(KeyboardInterrupt):
        for number, text in enumerate(stream.texts()):
            seen.pieces.append(text)
            if number == index:
                raise KeyboardInterrupt
    seen.whole = False


def _raise(stream: Any, seen: Seen, index: int) -> None:
    """Raise in a callback: the turn goes on, and the other callbacks too."""
    count, told = itertools.count(), []

    def fail(text: str) -> None:
        if next(count) == index:
            raise _OfTheUser(text)

    stream.on("text", fail).on("text", seen.pieces.append).on("callback_error", told.append)
    stream.wait(_LIMITS["total"])
    seen.response = stream.response()
    if len(told) != (index < _DELTAS):
        raise AssertionError(f"callback_error was told {len(told)} times")


def _slow(stream: Any, seen: Seen, index: int) -> None:
    """Take a while for each piece."""
    for text in stream.texts():
        seen.pieces.append(text)
        threading.Event().wait(0.0005 * index)
    seen.response = stream.response()


WAYS: dict[str, Way] = {
    "break": _break,
    "close": _close,
    "gc": _gc,
    "KeyboardInterrupt": _interrupt,
    "exception": _raise,
    "slow": _slow,
}


def trials(seed: int, scale: str) -> Iterator[Trial]:
    """Yield one trial for each way and place."""
    for way in WAYS:
        for index in range({"full": 100, "quick": 16, "suite": 2}[scale]):
            yield Trial(f"P4/{way}/{index}", seed, (way, index % (_DELTAS + 1)))


def play_all(book: Book, chosen: list[Trial], threads: int = 12) -> None:
    """Play trials, on two sessions for all."""
    with arena(book) as ground:
        sessions = [ground.session(scheme, timeouts=_LIMITS) for scheme in SCHEMES]
        try:
            numbers = itertools.count()
            spread(
                book,
                chosen,
                lambda trial: _play(ground, trial, sessions[next(numbers) % len(sessions)]),
                threads,
            )
        finally:
            for session in sessions:
                session.close()


def _play(ground: Arena, trial: Trial, session: Any) -> None:
    way, index = trial.about
    book = ground.book
    line = ground.script.add(Line(trial.nonce("f"), deltas=_DELTAS))
    # The rest of the answer is still under way when the user leaves.
    line.hook = lambda number: threading.Event().wait(0.001) if number >= index + 4 else None
    seen = Seen(deadline=_LIMITS["total"])
    turn = _leave(session, line, WAYS[way], index, seen)
    if way == "gc":
        gc.collect()
    book.count("faults")
    patience = 2 * GRACE if way in ("gc", "close") else _LIMITS["total"] + GRACE
    if not turn.inbox.wait_ended(time.monotonic() + patience):
        book.breach("blocked", trial.id, "the turn goes on although nobody holds it")
    examine(book, trial.id, line, seen)
    clean = ground.script.add(Line(trial.nonce("after"), deltas=4))
    after = ask(lambda: session.stream(clean.question), _LIMITS["total"])
    examine(book, trial.id, clean, after)
    if not after.completed:
        book.breach("not recovered", trial.id, repr(after.error))


def _leave(session: Any, line: Line, way: Way, index: int, seen: Seen) -> Any:
    """Take a turn in one way; nothing of it but its state is held afterwards."""
    stream = session.stream(line.question)
    turn = stream._turn
    way(stream, seen, index)
    if turn.ended:
        look_back(stream, seen)
    return turn
