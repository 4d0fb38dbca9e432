"""The tool loop: a turn, the tools that it calls, a turn with their outputs, until a response calls none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ...errors import ConfigurationError, LLMWSError, WouldDeadlockError, fresh
from ...timeouts import seconds
from ..stream.chunks import Chunk
from ..stream.snapshot import Response
from ..stream.stream import Stream
from ..vocabulary.items import OutputItem
from .calls import Answering, Begun, check_approve, check_most, left_to_caller
from .outputs import ToolError
from .pending import CallsWaitError, is_cut_off, waiting_calls, waits_for
from .replay import input_items
from .tools import Toolbox


__all__ = ["TooLongError", "ToolRun"]


class TooLongError(ConfigurationError):
    """
    A turn is longer than a message may be; for a run, which can give up outputs.

    Attributes:
        excess_bytes: By how much.
    """

    def __init__(self, message: str = "", excess_bytes: int = 0) -> None:
        super().__init__(message)
        self.excess_bytes = excess_bytes


class ToolRun:
    """
    A run of turns and tools, as an iterator over the chunks of all turns.

    The first turn was sent when this was made; each further one, and the tools before it, when the chunk after the last
    one of a turn is asked for. Where calls waited for their output already, their tools come first, when the first
    chunk is asked for. Tools run on threads of their own, their time counts for nobody but themselves. One thread at a
    time may iterate; everything else may be read by any.

    Ctrl-C while tools run ends the waiting, not the run: to iterate again goes on with it, and begins no tool twice.
    After an error each further chunk, and ``result()``, raise it again.

    Leaving ``with``, ``close()``, and forgetting the run cancel the turn that runs.

    Attributes:
        responses: The responses of the turns that have ended, in order.
        tool_errors: What went wrong with tools so far; the model was told.
        outputs: What this run's tools gave that is no part of the conversation, because the run ended first, or the
            turn that sent it did not come to a response. The conversation's next ``run()`` gives it again by itself.
        unanswered: Calls of the last response that are the caller's to answer: of tools given as dicts, of a shell or a
            computer, or approvals that nobody was named to give. The run ends there.
    """

    def __init__(
        self,
        open_turn: Callable[[Any, list[Stream]], object],
        given: Any,
        *,
        toolbox: Toolbox,
        max_turns: int | None,
        tool_timeout: float | None,
        approve_mcp: Callable[[OutputItem], bool] | None,
        transcript: Callable[[], Iterable[Mapping[str, Any]]],
        begun: Callable[[], Begun],
        check_open: Callable[[], None],
    ) -> None:
        """
        Send the first turn, or see which calls wait.

        Args:
            open_turn: Sends a turn's input, and appends its stream to a list just when the conversation counts the turn
                as its own.
            given: The input of the first turn.
            toolbox: The tools.
            max_turns: As for ``Conversation.run``; so are the next two.
            tool_timeout: Seconds for one call.
            approve_mcp: Who is asked.
            transcript: Returns the conversation's items.
            begun: Returns what was begun with of the calls that wait now, after the last turn that has ended.
            check_open: Raises if no turn can be sent any more.
        """
        check_most("max_turns", max_turns)
        tool_timeout = seconds("tool_timeout", tool_timeout)
        check_approve(approve_mcp)
        self.responses: list[Response] = []
        self.tool_errors: list[ToolError] = []
        self.outputs: list[dict[str, Any]] = []
        self.unanswered: list[OutputItem] = []
        self._open_turn = open_turn
        self._toolbox = toolbox
        self._max_turns = max_turns
        self._tool_timeout = tool_timeout
        self._approve_mcp = approve_mcp
        self._begun = begun
        self._check_open = check_open
        self._at_limit = self._closed = False
        # What the run ended with, if it did by an error.
        self._failure: LLMWSError | None = None
        # Of the turn that runs, or that ended in an error.
        self._stream: Stream | None = None
        self._chunks: Iterator[Chunk] = iter(())
        # The same, as soon as there is one: Ctrl-C may strike while it is being opened.
        self._opened: list[Stream] = []
        # The calls before the next turn, and what goes with their outputs.
        self._answering: Answering | None = None
        self._given: list[Mapping[str, Any]] = []
        try:
            self._open(given)
        except CallsWaitError as exc:
            self._resume(exc, given, transcript())

    def _open(self, given: Any) -> None:
        # If Ctrl-C struck when it was sent, this goes on with what the server makes of it: were it sent again, what is
        # said beside the outputs would be said twice.
        if not self._opened:
            self._open_turn(given, self._opened)
        stream = self._opened[0]
        self._chunks = iter(stream)
        self._stream = stream

    def _resume(
        self, waiting: CallsWaitError, given: Any, transcript: Iterable[Mapping[str, Any]]
    ) -> None:
        """Begin with the calls that the input leaves without output; those of the input itself are the caller's."""
        calls = waiting_calls(transcript, waiting.calls)
        if len(calls) < len(waiting.calls):
            raise waiting
        left = left_to_caller(self._toolbox, calls, self._approve_mcp)
        if left:
            # A name that no tool has is not told to the model here: rather were the tools not given again.
            listed = ", ".join(f"{item.get('name') or item.id} ({item.type})" for item in left)
            raise ConfigurationError(
                f"Calls wait for their output that this run has nothing for: {listed}. Give it their tools (tools=[…]; "
                "approve_mcp=… for approvals), or put their outputs into the input; it runs the others."
            )
        # Tools have effects: none runs whose output could not be sent.
        self._check_open()
        self._given = [item.raw for item in input_items(given)]
        self._answering = self._answer(calls)

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        # No generator: one would hold this run, which nobody would then be seen to have forgotten.
        if self._failure is not None:
            raise fresh(self._failure)
        try:
            return self._next()
        except WouldDeadlockError:
            raise  # It says so of this thread; the run goes on.
        except LLMWSError as exc:
            self._failure = fresh(exc)
            raise

    def _next(self) -> Chunk:
        # Ctrl-C may strike between any two steps; what is done twice then is the same as done once.
        while True:
            if (stream := self._stream) is not None:
                for chunk in self._chunks:
                    return chunk
                self._take(stream.response())
            elif (answering := self._answering) is not None:
                self._send(answering)
            else:
                raise StopIteration

    def result(self) -> Response:
        """
        Run to the end, whatever of it was read, and return the last response.

        Raises:
            TurnError: A turn ended without a response.
            ConnectError: There was no connection to be had.
        """
        for _ in self:
            pass
        if not self.responses:
            raise ConfigurationError("The run was closed before its first response.")
        return self.responses[-1]

    @property
    def response(self) -> Response | None:
        """The latest response; None before the first turn has ended."""
        return self.responses[-1] if self.responses else None

    @property
    def turns(self) -> int:
        """How many turns have ended with a response."""
        return len(self.responses)

    @property
    def finish_reason(self) -> str | None:
        """Why the run ended: ``max_turns``, ``error``, or as the last response; None while it goes on."""
        if self._failure is not None:
            return "error"
        if self._stream is not None or self._answering is not None or not self.responses:
            return None
        return "max_turns" if self._at_limit else self.responses[-1].finish_reason

    def close(self) -> None:
        """Cancel the turn that runs and end the run; may be repeated."""
        self._stream, self._closed = None, True
        self._answering = None
        for stream in self._opened:
            stream.close()

    def __enter__(self) -> ToolRun:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ToolRun turns={self.turns} finish_reason={self.finish_reason!r}>"

    def _take(self, response: Response) -> None:
        """Take a turn's response, and see whether there are calls to answer."""
        if self.response is not response:
            self.responses.append(response)
        if response.status != "failed":
            self.outputs = []
        self._given = []
        # A call that was cut off is no call: neither the conversation nor the server waits for its output.
        calls = [item.raw for item in response.output if not is_cut_off(item.raw)]
        if response.status == "failed" or not any(waits_for(raw) for raw in calls):
            self._answering = None
        elif self._max_turns is not None and self.turns >= self._max_turns:
            self._answering, self._at_limit = None, True
        elif not self._closed:
            self._answering = self._answer(calls)
        self._opened = []
        self._stream = None

    def _answer(self, calls: Iterable[Mapping[str, Any]]) -> Answering:
        return Answering(
            self._toolbox,
            calls,
            timeout=self._tool_timeout,
            approve_mcp=self._approve_mcp,
            begun=self._begun(),
        )

    def _send(self, answering: Answering) -> None:
        """Run the tools, and start the turn with their outputs, unless the run ends here."""
        if not answering.unanswered:
            self._check_open()
        results = answering.results()
        self._note(results.outputs, results.errors)
        if results.unanswered:
            self.unanswered = results.unanswered
        elif not self._closed:  # By a tool, or while tools ran.
            try:
                self._open([*results.outputs, *self._given])
            except TooLongError as exc:
                if not answering.shorten(exc.excess_bytes):
                    raise
                results = answering.results()
                self._note(results.outputs, results.errors)
                self._open([*results.outputs, *self._given])
        self._answering = None

    def _note(self, outputs: list[dict[str, Any]], errors: list[ToolError]) -> None:
        self.outputs = outputs
        self.tool_errors += [error for error in errors if error not in self.tool_errors]
