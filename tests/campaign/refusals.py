"""P3: the server refuses in words: twelve codes, before and behind the beginning and the first output, in two forms."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from llmws.errors import APIError
from llmws.testing import faults
from tests.campaign.arena import SCHEMES, Arena, Trial, arena, spread
from tests.campaign.book import Book
from tests.campaign.consumers import WAYS, ask
from tests.campaign.oracle import Seen, Transcript, examine
from tests.campaign.script import Line


__all__ = ["play_all", "trials"]

_PLACES = (0, "created", "delta")
_FORMS = ("nested", "flat")
_LIMITS = {"first_event": 4.0, "idle": 4.0, "lane_wait": 8.0, "total": 10.0, "close": 0.4}
# What the server asks to wait for, in seconds, with codes that are about load; and what is too long to be waited for.
_ASKED, _TOO_LONG = 0.3, 90
_ABOUT_LOAD = ("rate_limit_exceeded", "server_is_overloaded", "slow_down")
# By the table of the design: these are sent again once, before output. A plain turn has no fuller transcript to send.
_SENT_AGAIN = (
    "websocket_connection_limit_reached",
    "websocket_stream_limit_reached",
    *_ABOUT_LOAD,
    "server_error",
)


def trials(seed: int, scale: str) -> Iterator[Trial]:
    """Yield one trial for each code, place, form and round."""
    number = 0
    for repeat in range({"full": 5, "quick": 1, "suite": 1}[scale]):
        for code in faults.ERRORS:
            for place in _PLACES:
                for form in _FORMS:
                    number += 1
                    if scale == "suite" and number % 7:
                        continue
                    yield Trial(f"P3/{code}/{place}/{form}/{repeat}", seed, (code, place, form))


def play_all(book: Book, chosen: list[Trial], threads: int = 12) -> None:
    """Play trials."""
    with arena(book) as ground:
        spread(book, chosen, lambda trial: play(ground, trial), threads)


def play(ground: Arena, trial: Trial) -> None:
    """Have a turn refused, and a turn of a conversation; then take a clean one."""
    rng, book = trial.rng, ground.book
    code, place, form = trial.about
    with ground.session(rng.choice(SCHEMES), timeouts=_LIMITS) as session:
        for name, chat in (("plain", session), ("chat", session.conversation())):
            said = Transcript() if name == "chat" else None
            if said is not None:
                _clean(ground, trial, chat, "chat-first", said)
            asked = _asked(rng, code)
            line = ground.script.add(Line(trial.nonce(name), deltas=5))
            line.fault = _fault(code, place, form, asked)
            if code == "previous_response_not_found":
                ground.without_parent.add(line.nonce)
            seen = ask(
                lambda chat=chat, line=line: chat.stream(line.question),
                _LIMITS["total"],
                rng.choice(list(WAYS)),
            )
            examine(book, trial.id, line, seen)
            if said is not None:
                said.examine(book, trial.id, line, seen)
            book.count("faults" if line.struck else "did not strike")
            _judge(book, trial, line, seen, asked, in_conversation=name == "chat")
            _check_wait(ground, trial, line, asked)
            _clean(ground, trial, chat, f"{name}-after", said)


def _asked(rng: Any, code: str) -> float | None:
    """Return what the server asks to wait, if it does."""
    if code not in _ABOUT_LOAD:
        return None
    return rng.choice([None, _ASKED, _ASKED, _TOO_LONG])


def _fault(code: str, place: Any, form: Any, asked: float | None) -> faults.ErrorFrame:
    return faults.ErrorFrame(
        at=place,
        code=code,
        status=faults.ERRORS[code],
        form=form,
        headers={} if asked is None else {"retry-after": str(asked)},
    )


def _clean(ground: Arena, trial: Trial, chat: Any, name: str, said: Transcript | None) -> None:
    line = ground.script.add(Line(trial.nonce(name), deltas=3))
    seen = ask(lambda: chat.stream(line.question), _LIMITS["total"])
    examine(ground.book, trial.id, line, seen)
    if said is not None:
        said.examine(ground.book, trial.id, line, seen)
    if not seen.completed:
        ground.book.breach("not recovered", trial.id, f"{name}: {seen.error!r}")


def _judge(
    book: Book, trial: Trial, line: Line, seen: Seen, asked: float | None, *, in_conversation: bool
) -> None:
    """Expect what the design's table says: sent again once, or told as what it is."""
    code, place, _ = trial.about
    again = place != "delta" and asked != _TOO_LONG and code in _SENT_AGAIN
    if place != "delta" and code == "previous_response_not_found":
        again = in_conversation  # Whose turn was a delta, of which there is a full form.
    if again:
        book.count("recovered by itself" if seen.completed else "not sent again")
        if not seen.completed:
            book.breach("wrong outcomes", trial.id, f"not sent again: {seen.error!r}")
    elif len(line.attempts) != 1:
        book.breach("wrong outcomes", trial.id, f"sent {len(line.attempts)} times")
    else:
        book.count("told")
        if seen.completed or _code_of(seen) != code:
            book.breach("wrong outcomes", trial.id, f"told {_code_of(seen)!r}: {seen.error!r}")


def _code_of(seen: Seen) -> Any:
    if isinstance(seen.error, APIError):
        return seen.error.code
    return ((seen.response and seen.response.error) or {}).get("code")


def _check_wait(ground: Arena, trial: Trial, line: Line, asked: float | None) -> None:
    """Expect that what the server asked for was waited."""
    if asked is None:
        return
    entries = [
        entry
        for server in ground.servers.values()
        for entry in server.ledger.requests
        if entry.nonce == line.nonce
    ]
    for first, second in itertools.pairwise(entries):
        if second.received - (first.finished or first.received) < asked - 0.05:
            ground.book.breach("wrong outcomes", trial.id, f"did not wait {asked} s")
