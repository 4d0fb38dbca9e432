"""Sixteen threads on one session, switched after almost every instruction: each gets its own text, whole and once."""

from __future__ import annotations

import contextlib
import itertools
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import llmws
from llmws.errors import StreamCancelledError
from tests.life.server import ServerProcess
from tests.life.speech import said
from tests.life.tally import Tally


__all__ = ["WAYS", "campaign", "switching"]

THREADS = 16
SWITCH_INTERVAL = 1e-6
_PATIENCE = 60.0

Way = Callable[[llmws.Session, str, int], "str | None"]


def _loop(session: llmws.Session, question: str, after: int) -> str:
    return "".join(chunk.text for chunk in session.stream(question) if chunk.type == "content")


def _texts(session: llmws.Session, question: str, after: int) -> str:
    return "".join(session.stream(question).texts())


def _events(session: llmws.Session, question: str, after: int) -> str:
    events = list(session.stream(question).events())
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return "".join(e["delta"] for e in events if e.type == "response.output_text.delta")


def _sse(session: llmws.Session, question: str, after: int) -> str:
    stream = session.stream(question)
    assert b"".join(stream.sse()).count(b"event: ") == len(list(stream.events()))
    return stream.response().text


def _create(session: llmws.Session, question: str, after: int) -> str:
    return session.create(question).text


def _wait(session: llmws.Session, question: str, after: int) -> str:
    stream = session.stream(question)
    stream.wait()
    return stream.snapshot.text


def _callbacks(session: llmws.Session, question: str, after: int) -> str:
    told: list[str] = []
    done: list[llmws.Response] = []
    stream = session.stream(question).on("text", told.append).on("done", done.append)
    stream.wait()
    assert [response.text for response in done] == ["".join(told)]
    return "".join(told)


def _run(session: llmws.Session, question: str, after: int) -> str:
    told: list[str] = []
    response = session.stream(question).run(text=told.append)
    assert response.text == "".join(told)
    return response.text


def _two_readers(session: llmws.Session, question: str, after: int) -> str:
    stream = session.stream(question)
    first, second = stream.texts(), stream.texts()
    pairs = list(itertools.zip_longest(first, second))
    assert all(one == other for one, other in pairs)
    return "".join(one for one, _ in pairs)


def _break(session: llmws.Session, question: str, after: int) -> str:
    stream = session.stream(question)
    seen = list(itertools.islice(stream.texts(), after))
    response = stream.response()
    assert response.text.startswith("".join(seen))
    return response.text


# These do not see the end, and their question may not even have been sent.


def _cancel(session: llmws.Session, question: str, after: int) -> None:
    stream = session.stream(question)
    seen: list[str] = []
    try:
        for text in stream.texts():
            seen.append(text)
            if len(seen) >= after:
                stream.cancel()
    except StreamCancelledError as exc:
        _check_partial(exc, question, "".join(seen))
    assert said(question).startswith("".join(seen))


def _cancel_at_once(session: llmws.Session, question: str, after: int) -> None:
    stream = session.stream(question)
    stream.cancel()
    try:
        assert stream.response().text == said(question)
    except StreamCancelledError as exc:
        _check_partial(exc, question, "")


def _check_partial(error: StreamCancelledError, question: str, seen: str) -> None:
    """Expect a part of the answer, with all that was seen of it."""
    partial = error.partial
    assert partial is not None
    assert said(question).startswith(partial.text)
    assert partial.text.startswith(seen)


def _drop(session: llmws.Session, question: str, after: int) -> None:
    seen = list(itertools.islice(session.stream(question).texts(), after))
    assert said(question).startswith("".join(seen))


WAYS: dict[str, Way] = {
    "chunks": _loop,
    "texts": _texts,
    "events": _events,
    "sse": _sse,
    "create": _create,
    "wait": _wait,
    "callbacks": _callbacks,
    "run": _run,
    "two readers": _two_readers,
    "break": _break,
    "cancel": _cancel,
    "cancel at once": _cancel_at_once,
    "drop": _drop,
}


def campaign(tally: Tally, count: int) -> None:
    """Take ``count`` turns on one session, in every way, from sixteen threads."""
    with ServerProcess() as server, llmws.Session(**server.arguments()) as session:
        session.create("warm")
        whole: list[str] = []
        _in_sixteen_threads(tally, count, session, whole)
        _check_ledger(tally, session, server, whole)


def _in_sixteen_threads(tally: Tally, count: int, session: llmws.Session, whole: list[str]) -> None:
    """Take turns until there were enough; add the questions whose text was right and whole."""
    numbers = iter(tally.rounds(count))
    turnstile = threading.Lock()

    def work(seed: str) -> None:
        choose = random.Random(seed)
        while True:
            with turnstile:  # A generator is for one thread at a time.
                number = next(numbers, None)
            if number is None:
                return
            name = choose.choice(list(WAYS))
            question = f"{name} {number}"
            with tally.trying(name):
                text = WAYS[name](session, question, choose.randint(1, 4))
                if text is not None:
                    assert text == said(question), f"{text!r} where {said(question)!r} is due"
                    whole.append(question)

    with switching():
        threads = [
            threading.Thread(target=work, args=(f"{tally.seed} {index}",), daemon=True)
            for index in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_PATIENCE + count)
    with tally.trying("no thread hangs"):
        assert not any(thread.is_alive() for thread in threads)


@contextlib.contextmanager
def switching() -> Iterator[None]:
    """Have Python switch threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _check_ledger(
    tally: Tally, session: llmws.Session, server: ServerProcess, whole: list[str]
) -> None:
    """Expect that each question was asked once, but for those that were cancelled before they were sent."""
    stats: Any = session.stats
    asked = Counter(question for question, _ in server.ledger())
    with tally.trying("the ledger"):
        assert max(asked.values()) == 1, "a question was asked twice"
        assert set(whole) <= set(asked)
        given_up = stats.turns - 1 - len(whole)
        assert stats.turns - given_up <= len(asked) <= stats.turns
        assert (stats.lost, stats.retries) == (0, 0)
        assert stats.missing_events == 0
    tally.note(
        f"{len(whole)} whole, {len(asked) - 1} of {stats.turns - 1} turns sent, on {stats.dials} connections"
    )
