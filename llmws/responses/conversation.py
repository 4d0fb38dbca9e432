"""
A conversation: turns that follow each other, of which each sends only what the server lacks.

A shell around ``Chain``, which holds the state: here are the lock, the waiting for the turn before, and what is public.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ..errors import ConfigurationError, WouldDeadlockError
from ..timeouts import Timeouts
from ..wire.monitor import Monitor
from ..wire.process import on_fork
from .chain import Chain, TurnRecord
from .compaction import COMPACT_PATH, compacted_items, compaction_request
from .continuation import Anchor, Continuation
from .fields import wire_fields
from .items import OutputItem, Usage
from .legs import Leg
from .outcome import Running, outcome_of
from .pending import Item
from .replay import input_items
from .request import check_params
from .saved import dumped, loaded
from .settings import Settings
from .snapshot import Response
from .stream import Stream
from .toolloop import ToolRun
from .tools import Toolbox
from .turn import Turn


__all__ = ["Conversation", "ConversationHost"]

T = TypeVar("T")
Input = str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None

# What a conversation does itself, and what to use instead.
_OWN = {
    "previous_response_id": "the conversation keeps track of it; to go on elsewhere use fork() or from_dict()",
    "conversation": "it keeps its own transcript; for a conversation of the server's use session.stream()",
    "input": "give it to stream()",
}


class ConversationHost(Protocol):
    """What a conversation needs of its session."""

    max_frame_bytes: int

    def open_turn(
        self, continuation: Continuation, *, timeouts: Timeouts | Mapping[str, Any] | None
    ) -> Stream:
        """Start a turn; never blocks."""

    def register(self, conversation: Conversation) -> None:
        """Have a conversation moved when its connection is replaced."""

    def legs(self, turn: Turn) -> Sequence[Leg]:
        """Return the responses that a turn which has ended came to, in order; none if it ended before its first."""

    def check_may_wait(self) -> None:
        """Raise ``WouldDeadlockError`` on the I/O thread."""

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Post JSON over HTTP and wait for the answer's."""


class Conversation:
    """
    A chain of turns with its transcript; made by ``session.conversation(…)``.

    A turn becomes part of it when its response is completed, or incomplete. After any other end it stays where it was,
    and the next turn sends the whole transcript. All methods may be called from any thread. One turn runs at a time: a
    further one waits for the one before, as long as that one's own limits allow.

    What is read of it, such as ``items``, is as of the last turn that has ended.

    Args:
        host: Opens the turns.
        defaults: The session's fields of each request.
        settings: Fields of each request, before the session's: ``instructions``, ``tools``, ``store`` and so on.

    Raises:
        ConfigurationError: A field cannot be sent, or is the conversation's own.
    """

    def __init__(
        self, host: ConversationHost, defaults: Mapping[str, Any] | None = None, **settings: Any
    ) -> None:
        self._host = host
        # With their functions, for ``run``.
        self._tools: tuple[Any, ...] = ()
        general = dict(defaults or {})
        for fields in (general, settings):
            if fields.get("tools") is not None:
                fields["tools"] = self._tools = tuple(fields["tools"])
        self._own = Settings.of(_fields(settings, "conversation()"))
        self._settings = Settings.of(_fields(general, "Session()")).but(self._own.decoded())
        self._chain = Chain()
        self._running: Running | None = None
        # The thread that opens a turn, or edits; others wait for it.
        self._claimed_by: int | None = None
        self._used_at = float("-inf")
        self._renew()
        on_fork(self, "_renew")
        host.register(self)

    def _renew(self) -> None:
        """Make what holds locks; in a forked child, again."""
        self._monitor = Monitor()
        self._claimed_by = None

    # Turns.

    def stream(
        self,
        input: Input = None,
        *,
        timeouts: Timeouts | Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Stream:
        """
        Start the next turn; blocks only while the one before still runs.

        Args:
            input: What is new: a string, one item (a dict) or a list of items. If the last response has calls, their
                outputs have to be among it.
            timeouts: Limits of this turn: a ``Timeouts``, or a mapping of those that differ from the session's.
            changes: Fields that differ in this turn alone. What the server has was made with the old ones, so that this
                turn and the next send the whole transcript.

        Raises:
            ConfigurationError: A field or the input cannot be sent, a call would stay without its output, or an output
                has no call; nothing was sent.
            WouldDeadlockError: The turn before still runs and this is the I/O thread, or this thread is already in the
                middle of a call, as a signal handler may find it.
            SessionClosedError: The session was closed.
            OutboxFullError: Too many bytes of requests wait to be written.
            ConnectError: The system has no thread for the connection.
        """
        settings = self._settings.but(_fields(changes, "stream()"))
        given = input_items(input)
        return self._alone(lambda: self._open(given, settings, timeouts))

    def _open(
        self,
        given: list[Item],
        settings: Settings,
        timeouts: Timeouts | Mapping[str, Any] | None,
    ) -> Stream:
        given = self._chain.pending.admit(given)
        with self._monitor.lock:
            continuation = self._chain.begin(settings, given)
        self._check_size(continuation)
        # Before it begins: a rotation at this moment is to move it.
        self._used_at = time.monotonic()
        stream = self._host.open_turn(continuation, timeouts=timeouts)
        self._running = Running(stream._turn, [*self._chain.steers, *given], settings)
        return stream

    def create(
        self,
        input: Input = None,
        *,
        timeouts: Timeouts | Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Response:
        """
        Run the next turn and wait for its response.

        Returns:
            The response: completed, incomplete or failed.

        Raises:
            TurnError: The turn ended without a response.
            ConnectError: There was no connection to be had; nothing was sent.
            ConfigurationError: As for ``stream``; so are the other errors.
        """
        return self.stream(input, timeouts=timeouts, **changes).response()

    def run(
        self,
        input: Input = None,
        *,
        tools: Iterable[Any] | None = None,
        max_turns: int | None = 16,
        tool_timeout: float | None = 60.0,
        approve_mcp: Callable[[OutputItem], bool] | None = None,
        timeouts: Timeouts | Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> ToolRun:
        """
        Run turns, and the tools that they call, until a response calls none.

        What goes wrong with a tool goes back to the model as its output, and is kept in ``tool_errors``.

        Args:
            input: As for ``stream``.
            tools: Tools of this run, instead of the conversation's: ``Tool``, ``CustomTool`` or the wire's dicts.
            max_turns: After so many turns the run ends, whatever they call for; None means no limit.
            tool_timeout: Seconds for one call of a tool; None means no limit.
            approve_mcp: Says whether a call on an MCP server may go on; without it the run ends there.
            timeouts: Limits of each turn, as for ``stream``.
            changes: Fields that differ in the turns of this run.

        Returns:
            An iterator over the chunks of all turns, with the last response as ``response``. The first turn is sent
            now, each further one when the chunk after the last one of a turn is asked for.

        Raises:
            ConfigurationError: As for ``stream``; so are the other errors.
        """
        if tools is not None:
            tools = changes["tools"] = tuple(tools)
        return ToolRun(
            lambda given: self.stream(given, timeouts=timeouts, **changes),
            input,
            toolbox=Toolbox.of(self._tools if tools is None else tools),
            max_turns=max_turns,
            tool_timeout=tool_timeout,
            approve_mcp=approve_mcp,
        )

    def _check_size(self, continuation: Continuation) -> None:
        """Refuse what no message can carry; a whole transcript that is too long matters only if it is to be sent."""
        if not continuation.settings.model:
            raise ConfigurationError(
                'No model: pass model="…" to the call, to Session(…) or to conversation(…).'
            )
        size = min(map(continuation.size_bytes, continuation.anchors or (None,)))
        if size > self._host.max_frame_bytes:
            raise ConfigurationError(
                f"The turn takes {size:,} bytes, and the provider accepts messages of up to "
                f"{self._host.max_frame_bytes:,}: shorten the input, or the conversation by compact() or truncate_to()."
            )

    # One at a time.

    def _alone(self, work: Callable[[], T]) -> T:
        """Wait until no turn runs and nobody else is at it, and keep it so while working."""
        me = threading.get_ident()
        if self._claimed_by == me:
            raise WouldDeadlockError(
                "This thread is in the middle of a call of the same conversation, as a signal handler may find it."
            )
        try:
            while not self._claimed(me):
                running = self._running
                if running is not None:
                    self._host.check_may_wait()
                    running.turn.inbox.wait_ended()
                else:
                    self._monitor.wait_for(lambda: self._claimed_by is None)
            return work()
        finally:
            if self._claimed_by == me:
                self._claimed_by = None
                with self._monitor.lock:
                    self._monitor.notify()

    def _claimed(self, me: int) -> bool:
        self._settle()
        with self._monitor.lock:
            if self._claimed_by is None and self._running is None:
                self._claimed_by = me
        return self._claimed_by == me

    def _settle(self) -> None:
        """Take in the outcome of the latest turn, once it has ended."""
        running = self._running
        if running is None or not running.turn.ended:
            return
        # What takes time is done before the lock is taken, by whoever comes; only one of them goes on.
        outcome = outcome_of(running, self._host.legs(running.turn))
        with self._monitor.lock:
            if self._running is not running:
                return
            for answer, record in outcome[running.taken :]:
                if answer is None:
                    self._chain.give_up(record)
                else:
                    self._chain.take_in(answer, record)
                running.taken += 1
            self._used_at = running.turn.last_event_at or self._used_at
            self._running = None

    def _settled(self, look: Callable[[Chain], T]) -> T:
        """Look at the state as of the last turn that has ended, under the lock."""
        self._settle()
        with self._monitor.lock:
            return look(self._chain)

    # What there is.

    @property
    def items(self) -> list[dict[str, Any]]:
        """The transcript, read anew each time: changing it changes nothing, assigning it does (``replace_items``)."""
        return self._settled(lambda chain: chain.transcript.window()).decoded()

    @items.setter
    def items(self, items: Sequence[Mapping[str, Any]]) -> None:
        self.replace_items(items)

    @property
    def usage(self) -> Usage:
        """The tokens of all turns so far, failed and incomplete ones too; warm-ups are in the session's ``stats``."""
        return self._settled(lambda chain: chain.usage)

    @property
    def turns(self) -> list[TurnRecord]:
        """What became of the turns, oldest first; of the latest thousand."""
        return self._settled(lambda chain: list(chain.records))

    @property
    def response_id(self) -> str | None:
        """The latest response that the transcript ends with, or None if it ends with none."""
        return self._settled(lambda chain: chain.response_id)

    def __repr__(self) -> str:
        # Without the lock: shown by debuggers, in the middle of anything.
        state = " running" if self._running is not None else ""
        chain = self._chain
        return (
            f"<Conversation items={len(chain.transcript)} response_id={chain.response_id!r}{state}>"
        )

    # Edits.

    def fork(self) -> Conversation:
        """
        Return a conversation that goes its own way from the last turn that has ended; nothing is sent.

        Its items are shared until either goes on. It begins without turns and tokens of its own.
        """
        twin = self._twin()
        twin._chain = self._settled(Chain.fork)
        return twin

    def _twin(self) -> Conversation:
        twin = Conversation(self._host)
        twin._own, twin._settings, twin._tools = self._own, self._settings, self._tools
        return twin

    def truncate_to(self, to: int | TurnRecord) -> None:
        """
        Forget what came after; the next turn sends the whole transcript. Waits while a turn runs.

        Args:
            to: How many items to keep, or the turn (one of ``turns``) that shall be the last.

        Raises:
            ConfigurationError: There are not as many items, or the turn is no longer part of the transcript.
        """
        self._alone(lambda: self._edit(lambda chain: chain.truncate(self._position(to))))

    def _edit(self, change: Callable[[Chain], None]) -> None:
        with self._monitor.lock:
            change(self._chain)

    def _position(self, to: int | TurnRecord) -> int:
        if isinstance(to, TurnRecord):
            end = next((end for record, end in self._chain.marks if record is to), None)
            if end is None:
                raise ConfigurationError(
                    "This turn is no part of the transcript, or no longer: give one of turns that was not compacted, "
                    "cut off or failed."
                )
            return end
        count = len(self._chain.transcript)
        if isinstance(to, bool) or not isinstance(to, int) or not 0 <= to <= count:
            raise ConfigurationError(f"truncate_to({to!r}): give a turn, or 0 to {count} items.")
        return to

    def replace_items(self, items: Input) -> None:
        """
        Replace the transcript; the next turn sends all of it. Waits while a turn runs.

        Args:
            items: The new items, as for ``stream``.

        Raises:
            ConfigurationError: They have no usable form, or an output stands without its call.
        """
        replaced = input_items(items, "items")
        Chain.check(replaced)
        self._alone(lambda: self._edit(lambda chain: chain.replace(replaced, "history edited")))

    def compact(self) -> None:
        """
        Have the server put the transcript into fewer tokens; the next turn sends all of what it became.

        Waits while a turn runs, and for the server's answer; turns of other threads wait meanwhile.

        Raises:
            ConfigurationError: There is no model, or calls wait for their output.
            APIError: The server refused; the conversation stays as it was.
            ConnectError: The server could not be reached; the conversation stays as it was.
        """
        self._alone(self._compact)

    def _compact(self) -> None:
        self._chain.pending.admit(())
        body = compaction_request(self._settings, self._chain.transcript.items)
        answer = self._host.post(COMPACT_PATH, body)
        items, usage = compacted_items(answer), Usage.from_wire(answer.get("usage"))
        self._edit(lambda chain: chain.compact(items, usage))

    # Warm-ups, for rotation.

    def warm_request(self) -> Continuation | None:
        """Return a turn that has another connection read the transcript; None if there is nothing to read."""
        return self._settled(lambda chain: chain.warm_up(self._settings))

    def add_anchor(self, anchor: Anchor, warmed: Continuation) -> bool:
        """
        Remember what a warm-up came to.

        Args:
            anchor: Its response; it covers ``warmed.history.count`` items.
            warmed: What ``warm_request`` had returned for it.

        Returns:
            Whether it is of use: the transcript may have been edited since.
        """
        return self._settled(lambda chain: chain.add_anchor(anchor, warmed))

    @property
    def last_used(self) -> float:
        """When its latest turn ended, or began if it was not answered, on the monotonic clock; now, if it runs."""
        running = self._running
        if running is None:
            return self._used_at
        turn = running.turn
        return (turn.last_event_at or self._used_at) if turn.ended else time.monotonic()

    @property
    def home(self) -> object:
        """The lane of its latest turn, or of what its next one goes on from; None if there is none."""
        running = self._running
        if running is not None and not running.turn.ended and running.turn.home is not None:
            return running.turn.home
        return self._settled(lambda chain: chain.home)

    @property
    def keeper(self) -> object:
        """What the router knows the conversation by."""
        return self._chain.keeper

    # Elsewhere.

    def to_dict(self) -> dict[str, Any]:
        """
        Return the conversation as plain JSON, as of the last turn that has ended.

        Keys are not part of it: what looks like one in the settings is left out. What was said is, as it was said.
        """
        # Copied first: reading all items is not for under the lock.
        return dumped(self._settled(Chain.copy), self._own)

    @classmethod
    def from_dict(cls, data: object, *, session: Any, **settings: Any) -> Conversation:
        """
        Go on with a conversation that was saved, maybe by another process.

        Args:
            data: What ``to_dict`` returned.
            session: The ``Session`` whose turns it shall be.
            settings: Fields before the saved ones; tools that ``run`` is to call have to be given again.

        Raises:
            ConfigurationError: The data is something else, or a setting with something secret was not given again; the
                message says where.
        """
        saved = loaded(data)
        lacking = [path for name, path in saved.secret.items() if name not in settings]
        if lacking:
            raise ConfigurationError(
                f"Something secret was not saved, at {', '.join(lacking)}: give these settings to from_dict() again."
            )
        conversation = session.conversation(**{**saved.settings, **settings})
        assert isinstance(conversation, Conversation)
        conversation._chain = saved.chain
        return conversation


def _fields(given: dict[str, Any], where: str) -> dict[str, Any]:
    """Return fields as the wire has them."""
    own = next((name for name in _OWN if name in given), None)
    if own is not None:
        raise ConfigurationError(f"A conversation cannot take {own!r}: {_OWN[own]}.")
    check_params(given, where)
    return wire_fields(given)
