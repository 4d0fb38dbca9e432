"""What the servers of these campaigns say: a text that follows from the question, so that both ends know it."""

from __future__ import annotations

import random
from collections.abc import Iterator

from llmws.testing import rules
from llmws.testing.answer import Answer
from llmws.testing.request import Event, Request


__all__ = ["flood", "hold", "said", "silent", "speak"]

_WORDS = ["river", "Ærø", "stone", "猫", "light", "of", "a", "Überlingen", "🚲", "seven"]
# How long a held answer waits for its client to go; reached by failures alone.
_PATIENCE = 60.0


def said(question: str) -> str:
    """Return the answer to a question."""
    choose = random.Random(question)
    return " ".join([question, *choose.choices(_WORDS, k=choose.randint(1, 12))])


def speak(request: Request) -> Iterator[Event]:
    """Answer by the question's first word: be silent, hold, flood, or say what is due."""
    question = request.input_text
    special = {"silent": silent, "hold": hold, "flood": flood}.get(question.split(" ")[0])
    yield from special(request) if special else rules.text(said(question))(request)


def silent(request: Request) -> Iterator[Event]:
    """Say nothing until the client is gone."""
    assert request.connection is not None
    request.connection.closed.wait(_PATIENCE)
    yield from ()


def hold(request: Request) -> Iterator[Event]:
    """Say a word, and then nothing until the client is gone."""
    answer = Answer(request)
    yield from answer.start()
    yield from _first_word(answer)
    yield from silent(request)


def flood(request: Request) -> Iterator[Event]:
    """Talk until the client is gone."""
    answer = Answer(request)
    yield from answer.start()
    (*head, delta) = _first_word(answer)
    yield from head
    while True:
        yield delta


def _first_word(answer: Answer) -> list[Event]:
    events = answer.message("one two three")
    return [next(events) for _ in range(3)]
