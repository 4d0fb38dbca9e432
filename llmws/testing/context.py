"""What a response stands for: every item that a model would see, from the first one on."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from typing import Any

from ..wire import jsoncodec
from .pairs import Call, answered_by, call_in, nameless, owed_after, refers, unanswered


__all__ = ["Context", "items_of", "tokens_in"]


def items_of(given: Any) -> list[Any]:
    """Return a request's input as items: a string is one message of the user, and None is nothing."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return list(given) if isinstance(given, list) else []


def tokens_in(item: Any) -> int:
    """Estimate what an item costs: a token for four bytes of its JSON."""
    return len(jsoncodec.encode(item)) // 4 + 1


class Context:
    """
    Some items, in order; immutable, and safe to use from any thread.

    A context and those that continue it share one list that only grows, so a turn costs what it adds and not what
    came before. Only a second continuation of the same context copies.

    Attributes:
        tokens: The estimated cost of the items.
    """

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._chain = _Chain()
        self._chain.grow(items)
        self._length = len(self._chain.items)
        self.tokens = self._chain.tokens
        self._owed = owed_after({}, self._chain.items)

    @property
    def items(self) -> list[Any]:
        """The items, as a new list."""
        return self._chain.items[: self._length]

    def extended(self, items: Iterable[Any]) -> Context:
        """Return the context of these items and of some more."""
        chain = self._chain
        with chain.lock:
            if len(chain.items) == self._length:
                items = list(items)
                chain.grow(items)
                return _at_the_end_of(chain, owed_after(self._owed, items))
            items = [*chain.items[: self._length], *items]
        return Context(items)

    def twice(self, items: Iterable[Any]) -> str | None:
        """Return the first id that these items have and this context or another of them has too, or None."""
        seen: set[str] = set()
        for item in items:
            name = _id_of(item)
            if name is None:
                continue
            if name in seen or self._chain.places.get(name, self._length) < self._length:
                return name
            seen.add(name)
        return None

    def unpaired(self, items: Iterable[Any]) -> str | None:
        """
        Say which output among these items has no call, or which call stays without output, or None.

        What a reference stands for is not known, so a context that has one is taken for complete.
        """
        items = list(items)
        if self._chain.reference < self._length or any(map(refers, items)):
            return None
        here = set(map(call_in, items))
        for call in map(answered_by, items):
            if call is not None and call not in here and not self._has(call):
                return nameless(call)
        # Which of two faults the API names first is not on record.
        return next(map(unanswered, owed_after(self._owed, items)), None)

    def _has(self, call: Call) -> bool:
        return self._chain.calls.get(call, self._length) < self._length

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"Context({self._length} items, about {self.tokens} tokens)"


def _at_the_end_of(chain: _Chain, owed: dict[Call, int]) -> Context:
    context = object.__new__(Context)
    context._chain, context._length, context.tokens = chain, len(chain.items), chain.tokens
    context._owed = owed
    return context


class _Chain:
    """The list that contexts are beginnings of."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.items: list[Any] = []
        self.places: dict[str, int] = {}  # By id, where an item came first.
        self.calls: dict[Call, int] = {}  # Where each call came first.
        self.reference: float = math.inf  # Where the first reference to an item came.
        self.tokens = 0

    def grow(self, items: Iterable[Any]) -> None:
        for item in items:
            name = _id_of(item)
            if name is not None:
                self.places.setdefault(name, len(self.items))
            call = call_in(item)
            if call is not None:
                self.calls.setdefault(call, len(self.items))
            if refers(item):
                self.reference = min(self.reference, len(self.items))
            self.items.append(item)
            self.tokens += tokens_in(item)


def _id_of(item: Any) -> str | None:
    # A reference is no second item, but the first one's name.
    if not isinstance(item, dict) or item.get("type") == "item_reference":
        return None
    name = item.get("id")
    return name if isinstance(name, str) else None
