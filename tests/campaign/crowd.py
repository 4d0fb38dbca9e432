"""
P6: sixteen threads take turns on one session while Python switches threads as often as it can; nothing is harmed.

Rounds differ in what the server does with lanes: it has them, takes their names without saying them again, or answers
one request after the other; the client is told of the first alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmws.testing import Semantics
from tests.campaign.arena import SCHEMES, Arena, Trial, arena, spread
from tests.campaign.book import Book
from tests.campaign.consumers import WAYS, ask
from tests.campaign.oracle import Seen, Transcript, examine
from tests.campaign.script import Line
from tests.life.crowd import switching


__all__ = ["play_all", "trials"]

_THREADS = 16
_KINDS = (True, True, "ignored", True, "serial")
_LIMITS = {
    "connect": 20.0,
    "first_event": 20.0,
    "idle": 20.0,
    "lane_wait": 20.0,
    "total": 20.0,
    "close": 5.0,
}


def trials(seed: int, scale: str) -> Iterator[Trial]:
    """Yield rounds, each of sixteen threads with so many turns."""
    rounds, turns = {"full": (20, 50), "quick": (5, 8), "suite": (1, 3)}[scale]
    for index in range(rounds):
        yield Trial(f"P6/{index}", seed, turns)


def play_all(book: Book, chosen: list[Trial], threads: int = 1) -> None:
    """Play rounds, one after the other, each on servers of its own."""
    for trial in chosen:
        kind = _KINDS[int(trial.id.split("/")[1]) % len(_KINDS)]
        given = {} if kind is True else {"lanes": None}
        with arena(book, semantics=Semantics(lanes=kind)) as ground:
            scheme = trial.rng.choice(SCHEMES)
            with ground.session(scheme, timeouts=_LIMITS, **given) as session, switching():
                _round(ground, trial, session)
        if book.stuck:
            return


def _round(ground: Arena, trial: Trial, session: Any) -> None:
    def work(part: Trial) -> None:
        rng = part.rng
        said = Transcript() if part.about % 4 == 0 else None
        chat = session if said is None else session.conversation(store=part.about % 8 == 0)
        for number in range(trial.about):
            line = ground.script.add(Line(part.nonce(number), deltas=rng.randint(3, 12)))
            way = rng.choice(list(WAYS))
            seen = ask(lambda line=line: chat.stream(line.question), _LIMITS["total"], way)
            _examine(ground, part, line, seen, said)
            if not seen.completed:
                return  # Those behind it would tell the same, each in its time.

    parts = [Trial(f"{trial.id}/{index}", trial.seed, index) for index in range(_THREADS)]
    spread(ground.book, parts, work, _THREADS)


def _examine(ground: Arena, part: Trial, line: Line, seen: Seen, said: Transcript | None) -> None:
    examine(ground.book, part.id, line, seen)
    if said is not None:
        said.examine(ground.book, part.id, line, seen)
    ground.script.remove(line)
    ground.book.count("turns")
    if not seen.completed:
        ground.book.breach("not recovered", part.id, repr(seen.error))
