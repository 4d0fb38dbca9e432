"""What is expected of a turn: that what its user saw is an ordered prefix of what the server sent, and the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

import llmws
from llmws.errors import StreamInterruptedError, TurnTimeout
from llmws.wire.parts import TERMINAL_TYPES
from tests.campaign.book import Book
from tests.campaign.script import Key, Line


__all__ = ["CANARY", "GRACE", "Seen", "Transcript", "examine", "hunt", "violation"]

CANARY = "sk-CANARY-7d1f0c5b9e"
_FINAL = ("completed", "incomplete", "failed")
_WHOLE = ("response.output_text.done", "response.content_part.done", "response.output_item.done")
# What may be added to a deadline.
GRACE = 1.0


@attrs.define
class Seen:
    """
    What the user of one turn saw.

    Attributes:
        pieces: The texts that were handed out, in order.
        events: The events, in order, without the errors; None if they were not asked for.
        response: The response, or None.
        error: What ended the turn instead, or None.
        seconds: From the beginning of the turn to its end.
        deadline: How many seconds it had.
        whole: Whether the consumer stayed to the end.
        shown: What was printed of it on the way.
    """

    pieces: list[str] = attrs.field(factory=list)
    events: list[Key] | None = None
    response: Any = None
    error: BaseException | None = None
    seconds: float = 0.0
    deadline: float = float("inf")
    whole: bool = True
    shown: list[str] = attrs.field(factory=list)

    @property
    def completed(self) -> bool:
        """Whether the turn is said to have succeeded."""
        return self.response is not None and self.response.status == "completed"


class Transcript:
    """What a conversation has come to, turn by turn, as its user knows it."""

    def __init__(self) -> None:
        self._said: list[str] = []

    def examine(self, book: Book, trial: str, line: Line, seen: Seen) -> None:
        """Expect that each time the server was asked, it knew all that had been said, in order."""
        for context in line.contexts:
            if context != [*self._said, line.question]:
                book.breach("transcripts", trial, f"{context!r} for {self._said!r}")
        if seen.completed:
            self._said += [line.question, line.text]


def examine(book: Book, trial: str, line: Line, seen: Seen) -> None:
    """Count every promise that what was seen of a turn breaks."""
    _examine_order(book, trial, line, seen)
    if seen.completed:
        if seen.response.text != line.text:
            book.breach("mismatches", trial, f"{seen.response.text!r} for {line.text!r}")
        if not line.sent_terminal:
            book.breach("no terminal", trial, seen.response)
    elif seen.response is not None:
        if seen.response.status not in _FINAL or not line.sent_terminal:
            book.breach("no terminal", trial, seen.response)
    elif seen.error is None and seen.whole:
        book.breach("no terminal", trial, "neither a response nor an error")
    if seen.error is not None and not isinstance(seen.error, llmws.LLMWSError):
        book.breach("wrong outcomes", trial, repr(seen.error))
    _examine_error(book, trial, line, seen)
    if seen.seconds > seen.deadline + GRACE:
        book.breach("late", trial, f"{seen.seconds:.2f} s of {seen.deadline:.2f} s: {seen.error!r}")
    hunt(book, trial, seen)


def _examine_order(book: Book, trial: str, line: Line, seen: Seen) -> None:
    sent = [[key for key in attempt if key[0] != "error"] for attempt in line.attempts]
    if seen.events is not None:
        breach = violation(seen.events, sent)
        if breach:
            book.breach(breach, trial, f"saw {seen.events[-4:]}, sent {sent!r}")
        if seen.completed and not (seen.events and seen.events[-1][0] in TERMINAL_TYPES):
            book.breach("no terminal", trial, f"the last event seen is {seen.events[-1:]}")
        if seen.completed and seen.events and sent and seen.events[-1] != _end_of(sent[-1]):
            book.breach("lost", trial, f"the end is {seen.events[-1]}")
    breach = violation(seen.pieces, [[key[2] for key in a if _is_text(key)] for a in sent])
    if breach:
        book.breach(breach, trial, f"pieces {seen.pieces!r}, sent {sent!r}")
    if seen.completed and seen.whole and sent:
        whole = [key[2] for key in sent[-1] if _is_text(key)]
        if seen.pieces != whole and not breach:
            book.breach("lost", trial, f"{len(seen.pieces)} pieces of {len(whole)}")


def _examine_error(book: Book, trial: str, line: Line, seen: Seen) -> None:
    """Expect that the error of a turn tells what there is of it, and that it may have been paid for."""
    error = seen.error
    if not isinstance(error, (StreamInterruptedError, TurnTimeout)):
        return
    text = "".join(key[2] for key in seen.events or [] if _is_text(key))
    # What says that a piece is done says its text once more, and is right where the pieces are not.
    done = any(key[0] in _WHOLE for key in seen.events or [])
    if getattr(error.partial, "text", None) != (line.text if done else text):
        book.breach("mismatches", trial, f"partial {error.partial!r} for {text!r}")
    if line.attempts and not error.may_have_been_billed:
        book.breach(
            "wrong outcomes", trial, f"the server ran it, and it is told otherwise: {error!r}"
        )


def violation(seen: Sequence[Any], sent: Sequence[Sequence[Any]]) -> str | None:
    """Return which promise is broken if what was seen is no chain of prefixes of what was sent, by answer."""
    # How much of what was seen may be explained by the answers so far: of each any prefix may have been seen.
    reached = {0}
    for attempt in sent:
        for start in sorted(reached):
            for length, item in enumerate(attempt):
                position = start + length
                if position == len(seen) or seen[position] != item:
                    break
                reached.add(position + 1)
    if len(seen) in reached:
        return None
    position, everything = max(reached), [item for attempt in sent for item in attempt]
    odd = seen[position]
    if odd not in everything:
        return "foreign"
    return "doubled" if odd in seen[:position] else "lost"


def _is_text(key: Key) -> bool:
    return key[0] == "response.output_text.delta"


def _end_of(attempt: Sequence[Key]) -> Key | None:
    return next((key for key in attempt if key[0] in TERMINAL_TYPES), None)


def hunt(book: Book, trial: str, seen: Seen) -> None:
    """Look for the canary key in everything that a turn shows."""
    shown = [*seen.shown, repr(seen.response)]
    for error in _chain(seen.error):
        shown += [str(error), repr(error), repr(vars(error)) if hasattr(error, "__dict__") else ""]
    if any(CANARY in words for words in shown):
        book.breach("keys", trial, "in an error or a repr")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and what it was made of."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        yield error
        error = error.__cause__ or error.__context__
