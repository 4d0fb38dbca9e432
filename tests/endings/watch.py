"""Every way to follow a turn, each on a thread of its own, so that none that hangs can hang the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import llmws


class Witness:
    """One thread that follows a turn: what it saw, and how that ended."""

    def __init__(self, name: str, work: Callable[[Callable[[Any], None]], Any]) -> None:
        self.name = name
        self.seen: list[Any] = []
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended_at = 0.0
        self._work = work
        self._changed = threading.Condition()
        self._ended = False
        threading.Thread(target=self._run, name=f"witness-{name}", daemon=True).start()

    def _run(self) -> None:
        try:
            self.result = self._work(self._note)
        except Exception as exc:  # noqa: BLE001 - what it raises is what the test asks.
            self.error = exc
        self.ended_at = time.monotonic()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _note(self, item: Any) -> None:
        with self._changed:
            self.seen.append(item)
            self._changed.notify_all()

    def has_seen(self, count: int, patience: float) -> None:
        """Wait until it has seen so many things."""
        with self._changed:
            enough = self._changed.wait_for(
                lambda: len(self.seen) >= count or self._ended, patience
            )
        assert enough, f"{self.name} did not see {count} things, but {len(self.seen)}"
        assert len(self.seen) >= count, f"{self.name} ended early: {self.error!r}"

    def end(self, patience: float) -> BaseException | None:
        """Wait for its end, and return what it raised."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._ended, patience), f"{self.name} did not end"
        return self.error


def _each(view: Callable[[llmws.Stream], Any]) -> Callable[[llmws.Stream, Any], None]:
    def work(stream: llmws.Stream, note: Callable[[Any], None]) -> None:
        for item in view(stream):
            note(item)

    return work


# run() comes first: it takes the callbacks over, and must share them with those that ``on`` registers.
WAYS: dict[str, Callable[[llmws.Stream, Callable[[Any], None]], Any]] = {
    "run": lambda stream, note: stream.run(event=note),
    "chunks": _each(iter),
    "events": _each(lambda stream: stream.events()),
    "texts": _each(lambda stream: stream.texts()),
    "sse": _each(lambda stream: stream.sse()),
    "response": lambda stream, note: stream.response(),
    "wait": lambda stream, note: stream.wait(),
}


class Watch:
    """All the ways and all the callbacks that can end, on one stream."""

    def __init__(self, stream: llmws.Stream) -> None:
        self.stream = stream
        self.told: dict[str, list[Any]] = {"event": [], "error": [], "done": []}
        for name, log in self.told.items():
            stream.on(name, log.append)
        self.witnesses = {name: self._witness(name) for name in WAYS}

    def _witness(self, name: str) -> Witness:
        return Witness(name, lambda note: WAYS[name](self.stream, note))

    def saw_events(self, count: int, patience: float) -> None:
        """Wait until every way that follows events has had so many."""
        for name in ("run", "events", "sse"):
            self.witnesses[name].has_seen(count, patience)

    def errors(self, patience: float) -> list[BaseException]:
        """Wait for all to end, and return the errors: one of each way but wait(), and the callback's."""
        ended = {name: witness.end(patience) for name, witness in self.witnesses.items()}
        assert ended.pop("wait") is None
        assert self.told["done"] == [], "done was called although the turn had no response"
        assert len(self.told["error"]) == 1, f"error was called {len(self.told['error'])} times"
        returned = [name for name, error in ended.items() if error is None]
        assert returned == [], f"{returned} ended as if all were well"
        return [*[error for error in ended.values() if error], *self.told["error"]]

    def check_result(self, text: str, patience: float) -> None:
        """Wait for all to end well, with this text."""
        for witness in self.witnesses.values():
            error = witness.end(patience)
            assert error is None, f"{witness.name} ended with {error!r}"
        assert self.told["error"] == []
        assert [response.text for response in self.told["done"]] == [text]
        assert self.witnesses["response"].result.text == text
        assert "".join(self.witnesses["texts"].seen) == text


def facts(error: BaseException) -> dict[str, Any]:
    """Return everything that an error tells, its partial spelled out."""
    told = dict(vars(error), kind=type(error), words=str(error))
    partial = told.pop("partial", None)
    if partial is not None:
        told |= {
            "partial_text": partial.text,
            "partial_id": partial.id,
            "partial_status": partial.status,
            "partial_finish_reason": partial.finish_reason,
        }
    return told
