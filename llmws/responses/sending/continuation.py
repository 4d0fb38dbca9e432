"""
One turn of a conversation before it is sent: what the server may still have, and the two messages that would do.

Only the router knows, at the moment of writing, which connection lives and what its lanes have cached. So a turn has
all that is needed for either message, and builds the one that is chosen from bytes that are there: on the I/O thread
nothing is encoded. Values only, immutable.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal

import attrs

from ...wire import jsoncodec
from .settings import Settings
from .transcript import Window


__all__ = ["Anchor", "Continuation", "Keeper", "Sent"]


@attrs.frozen
class Sent:
    """
    What was sent for a turn.

    Attributes:
        kind: ``delta``, which is only what the server lacks, or ``full``, which is the whole transcript.
        reason: Why so, in a few words, such as ``parent cached`` or ``settings changed: tools``.
        items: How many input items were sent.
        bytes: The size of the message.
        saved_bytes: How many more the full message would have taken; 0 for ``full``. Below 0 where the reference to the
            parent is longer than all that it stands for.
    """

    kind: Literal["delta", "full"]
    reason: str
    items: int
    bytes: int
    saved_bytes: int


@attrs.frozen
class Anchor:
    """
    A response that the server may still have, and what it stands for.

    Attributes:
        response_id: The wire's id.
        covers: How many items of the transcript it stands for, counted from the first.
        stored: Whether the server keeps it beyond the connection.
        home: The router's token for the lane of one socket that caches it; None if none does.
        warmed: Whether it is a warm-up's: the connection is the successor of one that was replaced.
    """

    response_id: str
    covers: int
    stored: bool
    home: Hashable | None = None
    warmed: bool = False


class Keeper:
    """A conversation as the router knows it: by identity, and as long as it lives."""

    __slots__ = ("__weakref__",)

    def __repr__(self) -> str:
        return f"<Keeper {id(self):#x}>"


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Continuation:
    """
    All that a turn may send; safe to use on any thread.

    Attributes:
        anchors: Responses that the turn may follow, best first; empty if only the full transcript will do.
        why_full: Why there are no anchors, such as ``first turn``; ``""`` if there are.
        forked: Whether this is the first turn of a fork, which must not be on the lane that caches its parent.
        keeper: The conversation: a lane is kept for it.
        settings: All fields of the message besides ``input``.
        history: The transcript.
        given: The turn's own input items.
        steers: What the server itself puts before them behind a parent, because it was steered, and the caller where
            there is none.
        generate: Whether the server is to answer; a warm-up only has it read.
    """

    anchors: tuple[Anchor, ...] = ()
    why_full: str = "first turn"
    forked: bool = False
    keeper: Keeper = attrs.field(factory=Keeper)
    settings: Settings
    history: Window
    given: tuple[bytes, ...] = ()
    steers: tuple[bytes, ...] = ()
    generate: bool = True

    def message(self, anchor: Anchor | None, reason: str) -> tuple[bytes, Sent]:
        """
        Build the ``response.create`` message, without a ``stream_id``.

        Args:
            anchor: The response to follow, one of ``anchors``; None for the full transcript.
            reason: Why, for the record.

        Returns:
            The message and what there is to say of it.
        """
        items = [*self.history.items_from(_covered(anchor)), *self._new(anchor)]
        message = b'{%b%b,"input":[%b]}' % (self._fields, _parent(anchor), b",".join(items))
        saved = 0 if anchor is None else self.size_bytes(None) - len(message)
        kind: Literal["delta", "full"] = "full" if anchor is None else "delta"
        return message, Sent(kind, reason, len(items), len(message), saved)

    def size_bytes(self, anchor: Anchor | None = None) -> int:
        """Return how long the message would be, without building it."""
        covered, new = _covered(anchor), self._new(anchor)
        count = self.history.count - covered + len(new)
        items = self.history.size_bytes_from(covered) + sum(map(len, new))
        around = len(self._fields) + len(_parent(anchor)) + len(b'{,"input":[]}')
        return around + items + max(count - 1, 0)

    def _new(self, anchor: Anchor | None) -> tuple[bytes, ...]:
        return (*self.steers, *self.given) if anchor is None else self.given

    @property
    def _fields(self) -> bytes:
        return self.settings.message if self.generate else self.settings.warm_up_message

    def __repr__(self) -> str:
        ways = ", ".join(anchor.response_id for anchor in self.anchors) or self.why_full
        return f"<Continuation {ways} given={len(self.given)} full={self.size_bytes()}>"


def _covered(anchor: Anchor | None) -> int:
    return 0 if anchor is None else anchor.covers


def _parent(anchor: Anchor | None) -> bytes:
    if anchor is None:
        return b""
    return b',"previous_response_id":%b' % jsoncodec.encode(anchor.response_id)
