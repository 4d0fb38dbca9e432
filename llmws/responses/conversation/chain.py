"""
The pure state of a conversation: its transcript, what the server has of it, and what became of each turn.

No I/O, no lock. A turn is begun, which changes nothing, and later taken in or given up; so what the server sees as its
context is at all times the transcript and the turn's own input, whichever message is sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import attrs

from ...errors import ConfigurationError
from ..sending.continuation import Anchor, Continuation, Keeper, Sent
from ..sending.settings import Settings
from ..sending.transcript import Transcript
from ..tools.pending import Item, Pending, item_of, waits_for
from ..vocabulary.items import Usage


__all__ = ["Answer", "Chain", "TurnRecord"]

# Records kept, of the latest turns; the sum of tokens counts them all.
_RECORDS = 1000
# Responses that are remembered, one and warm-ups on other connections.
_ANCHORS = 4


@attrs.frozen
class TurnRecord:
    """
    What became of a turn.

    Attributes:
        response_id: The wire's id, or None if the server gave none.
        status: The response's status, such as ``completed``; None if the turn ended without a response.
        sent: What was sent for it, or None if nothing was, as for what the server answered to a steer: that was no
            request of its own.
        usage: Its tokens, or None if the server did not say.
        error: The error that it ended with, in words, or None.
    """

    response_id: str | None
    status: str | None
    sent: Sent | None = None
    usage: Usage | None = None
    error: str | None = None


@attrs.frozen
class Answer:
    """
    A response that becomes part of the transcript.

    Attributes:
        given: The input that it answers.
        output: Its output, as input of later turns.
        anchor: What the next turn may go on from, less what it covers; None if the server gave it no id.
        settings: What it was made with.
        steers: What the server puts before the input of the next turn, because the response was steered.
    """

    given: Sequence[Item]
    output: Sequence[Item]
    anchor: Anchor | None
    settings: Settings
    steers: Sequence[Item] = ()


@attrs.frozen
class _Held:
    """An anchor, and what tells the settings apart that its response was made with."""

    anchor: Anchor
    digests: dict[str, str] = attrs.field(repr=False)
    warmed: bool = False


class Chain:
    """
    A transcript with what goes with it; one thread at a time may use it.

    Args:
        items: The transcript.
        why_full: Why the first turn sends all of it.
    """

    def __init__(self, items: Iterable[Item] = (), why_full: str = "first turn") -> None:
        self.keeper = Keeper()
        self.records: deque[TurnRecord] = deque(maxlen=_RECORDS)
        self.usage = Usage()
        self.response_id: str | None = None
        # Where each turn ends in the transcript, as far as it is still there.
        self.marks: list[tuple[TurnRecord, int]] = []
        # What the server puts before the input of the next turn.
        self.steers: Sequence[Item] = ()
        # Newest first.
        self._held: list[_Held] = []
        self._why_full = why_full
        self._forked = False
        # The latest turn's.
        self._settings: Settings | None = None
        # How much of the transcript is sure, while an answer is taken in.
        self._safe: int | None = None
        self._set_items([*items])

    def __repr__(self) -> str:
        return f"<Chain {self.transcript!r} response_id={self.response_id!r}>"

    def items(self) -> list[Item]:
        """Return the transcript's items, read anew."""
        return [item_of(data) for data in self.transcript.items]

    @property
    def home(self) -> object:
        """Where the response is cached that the next turn would rather go on from; None if none is."""
        return self._held[0].anchor.home if self._held else None

    @property
    def parent(self) -> tuple[Anchor, dict[str, str]] | None:
        """The response that stands for the whole transcript, and the digests of its settings; None if none does."""
        whole = (held for held in self._held if held.anchor.response_id == self.response_id)
        return next(((held.anchor, held.digests) for held in whole), None)

    # Turns.

    def begin(self, settings: Settings, given: Sequence[Item]) -> Continuation:
        """
        Return what a turn may send; changes nothing.

        Args:
            settings: All fields besides the input.
            given: The turn's input, admitted by ``pending``.
        """
        held = [each for each in self._held if each.digests == settings.digests]
        fitting = tuple(each.anchor for each in held)
        if self.steers:
            # They wait on the lane of the response that was steered, and nowhere else.
            fitting = tuple(
                attrs.evolve(each.anchor, stored=False)
                for each in held
                if not (each.warmed or self._forked)
            )
        return Continuation(
            anchors=fitting,
            why_full="" if fitting else self._reason(settings),
            forked=self._forked,
            keeper=self.keeper,
            settings=settings,
            history=self.transcript.window(),
            given=tuple(item.data for item in given),
            steers=tuple(item.data for item in self.steers),
        )

    def _reason(self, settings: Settings) -> str:
        if not self._held:
            return self._why_full
        if self._held[0].digests == settings.digests:
            return "the parent was steered"
        before, now = self._held[0].digests, settings.digests
        changed = (name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        return f"settings changed: {', '.join(sorted(changed))}"

    def take_in(self, answer: Answer, record: TurnRecord) -> None:
        """
        Make a response part of the transcript, and the parent of the next turn.

        May be called again for an answer whose taking in was struck by Ctrl-C, and is the same then as called once.
        """
        if self._safe is not None:
            self._back_to(self._safe)
        self._safe = len(self.transcript)
        self._extend(answer.given)
        self.steers = answer.steers
        self._output_at = len(self.transcript)
        self._extend(answer.output, by_server=True)
        self.marks.append((record, len(self.transcript)))
        self._follow(answer)
        self._safe = None
        self._drop_compacted()
        self.note(record)

    def _follow(self, answer: Answer) -> None:
        warmed = [each for each in self._held if each.warmed]
        self._held, self._forked, self._settings = warmed, False, answer.settings
        self.response_id = answer.anchor.response_id if answer.anchor is not None else None
        if any(item.cut_off and waits_for(item.raw) for item in answer.output):
            # Such a call is no part of the transcript, and it is unknown what the server makes of it.
            self._why_full = "the parent ends in the middle of a call"
        elif answer.anchor is None:
            self._why_full = "the parent has no id"
        else:
            anchor = attrs.evolve(answer.anchor, covers=len(self.transcript))
            others = [each for each in warmed if each.anchor.home != anchor.home]
            self._held = [_Held(anchor, answer.settings.digests), *others]

    def give_up(self, record: TurnRecord, *, was_sent: bool) -> None:
        """Note a turn that ended otherwise: the transcript stays, and the server may have lost what it had of it."""
        if self._held and was_sent:
            self._held, self._forked = [], False
            self._why_full = "parent lost by an error"
        self.note(record)

    def note(self, record: TurnRecord) -> None:
        """Keep a record, and add up its tokens."""
        self.records.append(record)
        self.usage = self.usage + (record.usage or Usage())

    # Warm-ups.

    def warm_up(self, settings: Settings) -> Continuation | None:
        """
        Return a turn that only has the server read the transcript.

        Calls whose outputs are not there yet are left, with the rest of their response, for the turn that brings those:
        the server would refuse the one without the other.

        Args:
            settings: To be used if there was no turn yet.

        Returns:
            None if there is nothing to read.
        """
        count = self._output_at if self.pending.owed else len(self.transcript)
        if not count:
            return None
        return Continuation(
            why_full="warm-up",
            keeper=self.keeper,
            settings=self._settings or settings,
            history=self.transcript.window().first(count),
            generate=False,
        )

    def add_anchor(self, anchor: Anchor, warmed: Continuation) -> bool:
        """
        Remember a response that stands for the transcript too.

        Args:
            anchor: The response.
            warmed: What it has read.

        Returns:
            Whether it can be used: an edit since then makes it worthless.
        """
        if not self.transcript.holds(warmed.history):
            return False
        self._held = [_Held(anchor, warmed.settings.digests, warmed=True), *self._held][:_ANCHORS]
        return True

    def resume(self, anchor: Anchor, digests: dict[str, str]) -> None:
        """Go on from a response of another process."""
        self._held = [_Held(attrs.evolve(anchor, covers=len(self.transcript)), digests)]

    # Edits.

    def fork(self) -> Chain:
        """Return a chain that goes its own way from here; it shares the items, and has had no turns of its own."""
        twin = Chain(why_full=self._why_full)
        twin.transcript = self.transcript.cut()
        twin.pending = self.pending.copy()
        twin.response_id = self.response_id
        twin.marks = [*self.marks]
        twin.steers = self.steers
        twin._held = [*self._held]
        twin._forked = bool(self._held)
        twin._settings = self._settings
        twin._output_at = self._output_at
        twin._compaction = self._compaction
        return twin

    def copy(self) -> Chain:
        """Return the chain as it is now, to be read at leisure."""
        twin = self.fork()
        twin.records, twin.usage = self.records.copy(), self.usage
        return twin

    @staticmethod
    def check(items: Iterable[Item], where: str = "items") -> None:
        """
        Refuse a transcript in which an output stands without its call.

        Args:
            items: The transcript.
            where: What to call it in an error.

        Raises:
            ConfigurationError: One does.
        """
        pending = Pending()
        for index, item in enumerate(items):
            if not pending.note(item):
                raise ConfigurationError(f"{where}[{index}] is a {item.type} without its call.")

    def truncate(self, count: int) -> None:
        """Keep the first items only."""
        if count == len(self.transcript):
            return
        self._back_to(count)
        self._lose_anchors("history edited")

    def _back_to(self, count: int) -> None:
        marks = [mark for mark in self.marks if mark[1] <= count]
        self._set_items([item_of(data) for data in self.transcript.items[:count]])
        self.marks = marks

    def replace(self, items: Sequence[Item], why_full: str) -> None:
        """Replace the transcript; what the server has of the old one counts no more."""
        self._set_items(items)
        self._lose_anchors(why_full)

    def compact(self, items: Sequence[Item], usage: Usage | None) -> None:
        """Replace the transcript by what a compaction made of it, which cost so many tokens."""
        self.replace(items, "compacted")
        self.usage = self.usage + (usage or Usage())

    def _lose_anchors(self, why_full: str) -> None:
        self._held, self._forked, self._why_full = [], False, why_full
        self.response_id = None

    def _set_items(self, items: Sequence[Item]) -> None:
        self.transcript = Transcript(item.data for item in items)
        self.pending = Pending(items)
        self.marks = []
        self.steers = ()
        # Where the latest output begins; unknown, but then nothing is sent without it.
        self._output_at = 0
        # Where a compaction is, and which calls before it wait for their outputs.
        self._compaction: tuple[int, frozenset[str]] | None = None

    # Compaction by the server.

    def _extend(self, items: Iterable[Item], *, by_server: bool = False) -> None:
        for item in items:
            if by_server and item.type == "compaction":
                self._compaction = len(self.transcript), frozenset(self.pending.owed)
            if not (by_server and item.cut_off and waits_for(item.raw)):
                self.transcript.extend([item.data])
                self.pending.note(item)

    def _drop_compacted(self) -> None:
        """
        Drop what a compaction item stands for, once no call before it waits for its output any more.

        An output is worth nothing to the server without its call.
        """
        if self._compaction is None:
            return
        start, waiting = self._compaction
        if not waiting.isdisjoint(self.pending.owed):
            return
        marks = [(record, end - start) for record, end in self.marks if end > start]
        output_at = max(self._output_at - start, 0)
        steers = self.steers
        self._set_items([item_of(data) for data in self.transcript.items[start:]])
        self.marks, self._output_at, self.steers = marks, output_at, steers
        # What was warmed stands for items that are no more.
        covers = len(self.transcript)
        self._held = [
            attrs.evolve(each, anchor=attrs.evolve(each.anchor, covers=covers))
            for each in self._held
            if not each.warmed
        ]
