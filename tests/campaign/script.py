"""What the server of a campaign says: each turn's text is a function of its nonce, and all that went out is kept."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs

from llmws.testing import Request, rules
from llmws.testing.faulty import Fault
from llmws.testing.nonces import nonce_in, nonce_text
from llmws.wire.parts import TERMINAL_TYPES


__all__ = ["Key", "Line", "Script", "key_of"]

# An event as it is compared: its type, its number, its piece of text.
Key = tuple[str, Any, Any]


def key_of(event: Any) -> Key:
    """Return what identifies an event within its turn."""
    return event["type"], event.get("sequence_number"), event.get("delta")


@attrs.define(eq=False)
class Line:
    """
    One turn of the script.

    Attributes:
        nonce: What its text is a function of, and by which the ledger knows it.
        deltas: How many pieces its text has.
        fault: What goes wrong with its answer, or None.
        hook: Called with the number of each event before it goes out, in the server's thread.
        times: How many of its answers the fault strikes; the next one is whole.
        attempts: What the server sent, by answer.
        struck: How often the fault did its harm.
        contexts: What the server knew to be said, by answer, each item in words.
    """

    nonce: str
    deltas: int = 8
    fault: Fault | None = None
    hook: Callable[[int], object] | None = None
    times: int = 1
    attempts: list[list[Key]] = attrs.field(factory=list)
    struck: int = 0
    contexts: list[list[str]] = attrs.field(factory=list)

    @property
    def question(self) -> str:
        """What to ask."""
        return f"nonce {self.nonce}"

    @property
    def text(self) -> str:
        """The whole answer."""
        return nonce_text(self.nonce, self.deltas)

    @property
    def sent_terminal(self) -> bool:
        """Whether the latest answer went out up to its terminal event."""
        return bool(self.attempts) and any(key[0] in TERMINAL_TYPES for key in self.attempts[-1])


class Script:
    """A rule that answers each nonce by its line; a nonce without a line is answered whole."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        self._lock = threading.Lock()

    def add(self, line: Line) -> Line:
        """Say what a turn's answer is to be, before it is asked for."""
        self._lines[line.nonce] = line
        return line

    def remove(self, line: Line) -> None:
        """Forget a turn that is over."""
        self._lines.pop(line.nonce, None)

    def __call__(self, request: Request) -> Iterator[dict[str, Any]]:
        line = self._lines.get(nonce_in(request.input_text) or "")
        if line is None:
            return iter(rules.nonce(8)(request))
        with self._lock:
            attempt: list[Key] = []
            line.attempts.append(attempt)
            line.contexts.append([_words(item) for item in request.context])
            faulty = line.fault is not None and len(line.attempts) <= line.times
        events: Iterable[Any] = rules.answering(rules.nonce(line.deltas))(request)
        if faulty:
            assert line.fault is not None
            events = line.fault.play(request, iter(events), lambda: _strike(line))
        return _kept(line, attempt, events)


def _words(item: Any) -> str:
    content = item.get("content") if isinstance(item, dict) else item
    if isinstance(content, list):
        return "".join(str(part.get("text")) for part in content)
    return str(content)


def _strike(line: Line) -> None:
    line.struck += 1


def _kept(line: Line, attempt: list[Key], events: Iterable[Any]) -> Iterator[Any]:
    """Pass events on, each noted before it goes out: what a client sees is never ahead of the notes."""
    numbers = itertools.count()
    for event in events:
        if line.hook is not None:
            line.hook(next(numbers))
        # What a fault adds has no number yet, and would get the next one behind this.
        if "sequence_number" not in event and event["type"] != "error":
            event = {**event, "sequence_number": len(attempt)}
        attempt.append(key_of(event))
        yield event
