"""
A conversation: turns that follow each other, of which each sends only what the server lacks.

A shell around ``Course``, which has the state and lets one thread at a time go on with it: here is what is public.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from ...errors import ConfigurationError
from ...timeouts import Timeouts
from ...wire.process import on_fork
from ..routing.turn import Turn
from ..sending.continuation import Anchor, Continuation
from ..sending.request import check_params
from ..sending.settings import Settings
from ..stream.legs import Leg
from ..stream.snapshot import Response
from ..stream.stream import Stream
from ..tools.fields import wire_fields
from ..tools.pending import Item
from ..tools.replay import input_items
from ..tools.toolloop import TooLongError, ToolRun
from ..tools.tools import Toolbox, listed
from ..vocabulary.items import OutputItem, Usage
from .chain import Chain, TurnRecord
from .compaction import COMPACT_PATH, compacted_items, compaction_request
from .course import Course
from .outcome import Running
from .saved import dumped, loaded


__all__ = ["Conversation", "ConversationHost"]

Input = str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None

# What a conversation does itself, and what to use instead.
_OWN = {
    "previous_response_id": "the conversation keeps track of it; to go on elsewhere use fork() or from_dict()",
    "conversation": "it keeps its own transcript; for a conversation of the server's use session.stream()",
    "input": "give it to stream()",
    "timeouts": "give it to stream(), create() or run(), or to Session(…) for all turns",
}


class ConversationHost(Protocol):
    """What a conversation needs of its session."""

    max_frame_bytes: int

    def limits(self, changes: Timeouts | Mapping[str, Any] | None = None) -> Timeouts:
        """Return the session's limits with some of them changed."""

    def open_turn(
        self, continuation: Continuation, *, timeouts: Timeouts, started_at: float
    ) -> Stream:
        """Start a turn, whose limits count from ``started_at`` on the monotonic clock; never blocks."""

    def register(self, conversation: Conversation) -> None:
        """Have a conversation moved when its connection is replaced."""

    def legs(self, turn: Turn) -> Sequence[Leg]:
        """Return the responses that a turn which has ended came to, in order; none if it ended before its first."""

    def check_open(self) -> None:
        """Raise ``SessionClosedError`` if the session was closed."""

    def check_may_wait(self) -> None:
        """Raise ``WouldDeadlockError`` on the I/O thread."""

    def post(self, path: str, body: dict[str, Any], *, started_at: float) -> dict[str, Any]:
        """Post JSON over HTTP and wait for the answer's, within the session's limits."""


class Conversation:
    """
    A chain of turns with its transcript; made by ``session.conversation(…)``.

    A turn becomes part of it when its response is completed, or incomplete. After any other end it stays where it was,
    and the next turn sends the whole transcript. All methods may be called from any thread. One turn runs at a time: a
    further one waits for the one before, as long as its own ``lane_wait`` and ``total`` allow.

    What is read of it, such as ``items``, is as of the last turn that has ended.

    Args:
        host: Opens the turns.
        defaults: The session's fields of each request.
        settings: Fields of each request, before the session's: ``instructions``, ``tools``, ``store`` and so on.

    Raises:
        ConfigurationError: A field cannot be sent, or is the conversation's own.
    """

    def __init__(
        self, host: ConversationHost, defaults: Mapping[str, Any] | None = None, /, **settings: Any
    ) -> None:
        self._host = host
        # With their functions, for ``run``.
        self._tools: tuple[Any, ...] = ()
        general = dict(defaults or {})
        for fields in (general, settings):
            if fields.get("tools") is not None:
                fields["tools"] = self._tools = listed(fields["tools"])
        self._own = Settings.of(_fields(settings, "conversation()"))
        self._settings = Settings.of(_fields(general, "Session()")).but(self._own.decoded())
        self._course = Course(host)
        on_fork(self._course, "renew")
        host.register(self)

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
            timeouts: Limits of this turn: a ``Timeouts``, or a mapping of those that differ from the session's. The
                wait for the turn before counts in ``lane_wait`` and ``total``.
            changes: Fields that differ in this turn alone. What the server has was made with the old ones, so that this
                turn and the next send the whole transcript.

        Raises:
            ConfigurationError: A field or the input cannot be sent, a call would stay without its output, an output has
                no call, or all of the input was given before; nothing was sent.
            LaneTimeout: The turn before, or another thread's call, took longer than ``lane_wait``; nothing was sent.
            TotalTimeout: They took longer than ``total``; nothing was sent.
            WouldDeadlockError: The turn before still runs and this is the I/O thread, or this thread is already in the
                middle of a call, as a signal handler may find it.
            SessionClosedError: The session was closed.
            OutboxFullError: Too many bytes of requests wait to be written.
            ConnectError: The system has no thread for the connection.
        """
        return self._begin(input, timeouts, changes)

    def _begin(
        self,
        input: Input,
        timeouts: Timeouts | Mapping[str, Any] | None,
        changes: dict[str, Any],
        opened: list[Stream] | None = None,
    ) -> Stream:
        started_at = time.monotonic()
        limits = self._host.limits(timeouts)
        settings = self._settings.but(_fields(changes, "stream()"))
        given = input_items(input)

        def begin() -> Stream:
            stream, running = self._open(given, settings, limits, started_at)
            try:
                # In C, which Ctrl-C does not strike: so whoever waits for it knows of the turn just if this here does.
                if opened is not None:
                    opened.append(stream)
            finally:
                self._course.running = running
            return stream

        return self._course.alone(begin, limits, started_at)

    def _open(
        self,
        given: list[Item],
        settings: Settings,
        limits: Timeouts,
        started_at: float,
    ) -> tuple[Stream, Running]:
        chain = self._course.chain
        new = chain.pending.admit(given)
        if given and not new:
            raise ConfigurationError("All of the input was given before: there is nothing to send.")
        continuation = self._course.edit(lambda chain: chain.begin(settings, new))
        self._check_size(continuation)
        self._course.about_to_begin()
        stream = self._host.open_turn(continuation, timeouts=limits, started_at=started_at)
        return stream, Running(stream._turn, [*chain.steers, *new], settings)

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

        What goes wrong with a tool goes back to the model as its output, and is kept in ``tool_errors``. Calls that
        wait for their output come first: their tools are run, and what they return is sent before the input.

        Args:
            input: As for ``stream``; outputs may be missing, None goes on where a run was left.
            tools: Tools of this run, instead of the conversation's: ``Tool``, ``CustomTool`` or the wire's dicts.
            max_turns: After so many turns the run ends, whatever they call for; None means no limit.
            tool_timeout: Seconds for one call of a tool; None means no limit.
            approve_mcp: Says by True or False whether a call on an MCP server may go on; without it the run ends there.
            timeouts: Limits of each turn, as for ``stream``.
            changes: Fields that differ in the turns of this run.

        Returns:
            An iterator over the chunks of all turns, with the last response as ``response``; the first is sent now.

        Raises:
            ConfigurationError: As for ``stream``; so are the other errors.
        """
        if tools is not None:
            tools = changes["tools"] = listed(tools)
        return ToolRun(
            lambda given, opened: self._begin(given, timeouts, {**changes}, opened),
            input,
            toolbox=Toolbox.of(self._tools if tools is None else tools),
            max_turns=max_turns,
            tool_timeout=tool_timeout,
            approve_mcp=approve_mcp,
            transcript=lambda: self.items,
            begun=self._course.begun_calls,
            check_open=self._host.check_open,
        )

    def _check_size(self, continuation: Continuation) -> None:
        """Refuse what no message can carry; a whole transcript that is too long matters only if it is to be sent."""
        continuation.settings.check_model()
        size = min(map(continuation.size_bytes, continuation.anchors or (None,)))
        if size > self._host.max_frame_bytes:
            raise TooLongError(
                f"The turn takes {size:,} bytes, and the provider accepts messages of up to "
                f"{self._host.max_frame_bytes:,}: shorten the input, or the conversation by compact() or "
                "truncate_to().",
                size - self._host.max_frame_bytes,
            )

    # What there is.

    @property
    def items(self) -> list[dict[str, Any]]:
        """The transcript, read anew each time: changing it changes nothing, assigning it does (``replace_items``)."""
        return self._course.settled(lambda chain: chain.transcript.window()).decoded()

    @items.setter
    def items(self, items: Sequence[Mapping[str, Any]]) -> None:
        self.replace_items(items)

    @property
    def usage(self) -> Usage:
        """The tokens of all turns, failed ones too, and compactions; warm-ups are in the session's ``stats``."""
        return self._course.settled(lambda chain: chain.usage)

    @property
    def turns(self) -> list[TurnRecord]:
        """What became of the turns, oldest first; of the latest thousand."""
        return self._course.settled(lambda chain: list(chain.records))

    @property
    def response_id(self) -> str | None:
        """The latest response that the transcript ends with, or None if it ends with none."""
        return self._course.settled(lambda chain: chain.response_id)

    def __repr__(self) -> str:
        # Without the lock: shown by debuggers, in the middle of anything.
        state = " running" if self._course.running is not None else ""
        chain = self._course.chain
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
        twin._course.chain = self._course.settled(Chain.fork)
        return twin

    def _twin(self) -> Conversation:
        twin = Conversation(self._host)
        twin._own, twin._settings, twin._tools = self._own, self._settings, self._tools
        return twin

    def truncate_to(self, to: int | TurnRecord) -> None:
        """
        Forget what came after; the next turn sends the whole transcript.

        Waits while a turn runs, whose own limits bound that.

        Args:
            to: How many items to keep, or the turn (one of ``turns``) that shall be the last.

        Raises:
            ConfigurationError: There are not as many items, or the turn is no longer part of the transcript.
        """
        self._course.alone(
            lambda: self._course.edit(lambda chain: chain.truncate(_position(chain, to)))
        )

    def replace_items(self, items: Input) -> None:
        """
        Replace the transcript; the next turn sends all of it.

        Waits while a turn runs, whose own limits bound that.

        Args:
            items: The new items, as for ``stream``.

        Raises:
            ConfigurationError: They have no usable form, or an output stands without its call.
        """
        replaced = input_items(items, "items")
        Chain.check(replaced)
        self._course.alone(
            lambda: self._course.edit(lambda chain: chain.replace(replaced, "history edited"))
        )

    def compact(self) -> None:
        """
        Have the server put the transcript into fewer tokens; the next turn sends all of what it became.

        Waits while a turn runs, and for the server's answer; turns of other threads wait meanwhile. The session's
        limits hold: ``lane_wait`` for the turn before, ``connect``, ``first_event`` until the server answers, ``idle``
        between two pieces of its answer, and ``total`` for all of it. Where ``total`` is None, the answer may take as
        long as ``connect``, ``first_event`` and ``idle`` together; where one of these is None too, there is no bound.

        If it fails, the conversation stays as it was.

        Raises:
            ConfigurationError: The conversation is empty, there is no model, or calls wait for their output; nothing
                was sent.
            SessionClosedError: The session was closed; nothing was sent.
            APIError: The server refused.
            ConnectError: The server could not be reached; nothing was sent.
            TurnTimeout: A limit has passed; which one, its class says.
            TurnError: The connection broke, the session was closed meanwhile, or the answer makes no sense;
                ``may_have_been_billed`` tells whether it may cost anything.
            WouldDeadlockError: As for ``stream``.
        """
        started_at = time.monotonic()
        limits = self._host.limits()
        self._course.alone(lambda: self._compact(started_at), limits, started_at)

    def _compact(self, started_at: float) -> None:
        chain = self._course.chain
        chain.pending.admit(())
        body = compaction_request(self._settings, chain.transcript.items)
        answer = self._host.post(COMPACT_PATH, body, started_at=started_at)
        items, usage = compacted_items(answer), Usage.from_wire(answer.get("usage"))
        self._course.edit(lambda chain: chain.compact(items, usage))

    # Warm-ups, for rotation.

    def warm_request(self) -> Continuation | None:
        """Return a turn that has another connection read the transcript; None if there is nothing to read."""
        return self._course.settled(lambda chain: chain.warm_up(self._settings))

    def add_anchor(self, anchor: Anchor, warmed: Continuation) -> bool:
        """
        Remember what a warm-up came to.

        Args:
            anchor: Its response.
            warmed: What ``warm_request`` had returned for it.

        Returns:
            Whether it is of use: the transcript may have been edited since.
        """
        return self._course.settled(lambda chain: chain.add_anchor(anchor, warmed))

    @property
    def last_used(self) -> float:
        """When its latest turn ended, or began if it was not answered, on the monotonic clock; now, if it runs."""
        return self._course.last_used

    @property
    def home(self) -> object:
        """The lane of its latest turn, or of what its next one goes on from; None if there is none."""
        return self._course.home

    @property
    def keeper(self) -> object:
        """What the router knows the conversation by."""
        return self._course.chain.keeper

    # Elsewhere.

    def to_dict(self) -> dict[str, Any]:
        """
        Return the conversation as plain JSON, as of the last turn that has ended.

        Keys are not part of it: what looks like one in the settings is left out. What was said is, as it was said.

        Raises:
            ConfigurationError: A setting nests too deep to be searched for keys.
        """
        # Copied first: reading all items is not for under the lock.
        return dumped(self._course.settled(Chain.copy), self._own)

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
                message says where. Or there is no session.
        """
        if not callable(getattr(session, "conversation", None)):
            raise ConfigurationError(
                f"session is of type {type(session).__name__}: give the Session that is to run its turns."
            )
        saved = loaded(data)
        lacking = [path for name, path in saved.secret.items() if name not in settings]
        if lacking:
            raise ConfigurationError(
                f"Something secret was not saved, at {', '.join(lacking)}: give these settings to from_dict() again."
            )
        conversation = session.conversation(**{**saved.settings, **settings})
        assert isinstance(conversation, Conversation)
        conversation._course.chain = saved.chain
        return conversation


def _fields(given: dict[str, Any], where: str) -> dict[str, Any]:
    """Return fields as the wire has them."""
    own = next((name for name in _OWN if name in given), None)
    if own is not None:
        raise ConfigurationError(f"A conversation cannot take {own!r}: {_OWN[own]}.")
    check_params(given, where)
    return wire_fields(given)


def _position(chain: Chain, to: int | TurnRecord) -> int:
    """Return how many items there are up to a turn, or as told."""
    if isinstance(to, TurnRecord):
        end = next((end for record, end in chain.marks if record is to), None)
        if end is None:
            raise ConfigurationError(
                "This turn is no part of the transcript, or no longer: give one of turns that was not compacted, "
                "cut off or failed."
            )
        return end
    count = len(chain.transcript)
    if isinstance(to, bool) or not isinstance(to, int) or not 0 <= to <= count:
        raise ConfigurationError(f"truncate_to({to!r}): give a turn, or 0 to {count} items.")
    return to
