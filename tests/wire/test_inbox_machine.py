"""Any life of a log, beside a list that does the same: readers at their own pace, listeners, the end, overflow."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llmws.errors import InboxOverflowError
from llmws.wire.inbox import Inbox


MOST_BYTES, MOST_ITEMS = 60, 25
LONG_AGO = 0.0


class InboxMachine(RuleBasedStateMachine):
    """One writer, some readers, and the plainest log there is: a list, a count of bytes and an end."""

    def __init__(self) -> None:
        super().__init__()
        self.inbox: Inbox[int] = Inbox(max_bytes=MOST_BYTES, max_items=MOST_ITEMS)
        self.items: list[int] = []
        self.bytes = 0
        self.over = False
        self.error: BaseException | None = None
        self.readers: list[list[int]] = []
        self.heard: list[list[tuple[int, bool]]] = []
        self.changes: list[int] = []  # For each listener, how many calls are due.

    def changed(self) -> None:
        self.changes = [count + 1 for count in self.changes]

    @rule(count=st.integers(0, 6), size=st.integers(0, 20))
    def extend(self, count: int, size: int) -> None:
        new = list(range(len(self.items), len(self.items) + count))
        was_over = self.over
        fits = self.bytes + size <= MOST_BYTES and len(self.items) + count <= MOST_ITEMS
        if not was_over:
            if fits:
                self.items += new
                self.bytes += size
            else:
                self.over = True
            self.changed()
        taken = self.inbox.extend(new, size)
        if was_over:
            return  # Nobody asks what becomes of items behind the end; below nothing has changed.
        assert taken is fits
        if not fits:
            assert isinstance(self.inbox.error, InboxOverflowError)
            self.error = self.inbox.error

    @rule(error=st.sampled_from([None, ValueError("first"), OSError("second")]))
    @precondition(lambda self: len(self.items) > 5 or self.over)
    def end(self, error: Exception | None) -> None:
        first = not self.over
        if first:
            self.over, self.error = True, error
            self.changed()
        assert self.inbox.end(error) is first

    @precondition(lambda self: len(self.readers) < 4)
    @rule()
    def open_reader(self) -> None:
        self.readers.append([])

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), most=st.sampled_from([1, 2, 5, 1000]))
    def read(self, data: st.DataObject, most: int) -> None:
        seen = data.draw(st.sampled_from(self.readers))
        expected = self.items[len(seen) : len(seen) + most]
        assert self.inbox.read(len(seen), LONG_AGO, most=most) == expected
        seen += expected

    @precondition(lambda self: len(self.heard) < 3)
    @rule(nested=st.booleans())
    def listen(self, nested: bool) -> None:
        """Register a listener; a nested one reads, as those of callbacks do."""
        heard: list[tuple[int, bool]] = []
        self.inbox.listen(self.listener(heard, nested))
        self.heard.append(heard)
        self.changes.append(1)

    def listener(self, heard: list[tuple[int, bool]], nested: bool) -> Callable[[], None]:
        def hear() -> None:
            count = len(self.inbox.read(0, LONG_AGO)) if nested else len(self.inbox)
            heard.append((count, self.inbox.ended))

        return hear

    @invariant()
    def it_is_what_the_list_is(self) -> None:
        assert len(self.inbox) == len(self.items)
        assert self.inbox.ended is self.over
        assert self.inbox.error is self.error
        assert self.inbox.wait_ended(LONG_AGO) is self.over

    @invariant()
    def every_reader_has_a_prefix(self) -> None:
        assert all(seen == self.items[: len(seen)] for seen in self.readers)

    @invariant()
    def every_listener_was_told_of_every_change_and_last_of_the_present(self) -> None:
        assert [len(heard) for heard in self.heard] == self.changes
        assert all(heard[-1] == (len(self.items), self.over) for heard in self.heard)

    def teardown(self) -> None:
        self.inbox.end()
        if not self.over:
            self.over = True
            self.changed()
        self.it_is_what_the_list_is()
        self.every_listener_was_told_of_every_change_and_last_of_the_present()
        for seen in self.readers:  # The end waits for nobody, and takes nothing away.
            assert seen + self.inbox.read(len(seen)) == self.items


InboxMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestAnyLog = InboxMachine.TestCase
