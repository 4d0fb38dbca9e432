"""The tool loop: a turn, the tools that it calls, a turn with their outputs, until a response calls none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from ..errors import ConfigurationError, LLMWSError
from .calls import run_calls
from .chunks import Chunk
from .items import OutputItem
from .outputs import ToolError
from .pending import is_cut_off, waits_for
from .snapshot import Response
from .stream import Stream
from .tools import Toolbox


__all__ = ["ToolRun"]


class ToolRun:
    """
    A run of turns and tools, as an iterator over the chunks of all turns.

    The first turn was sent when this was made; each further one, and the tools before it, when the chunk after the last
    one of a turn is asked for. Tools run on threads of their own, their time counts for nobody but themselves. One
    thread at a time may iterate; everything else may be read by any.

    Leaving ``with``, ``close()``, and forgetting the run cancel the turn that runs.

    Attributes:
        responses: The responses of the turns that have ended, in order.
        tool_errors: What went wrong with tools so far; the model was told.
        outputs: Outputs of calls that are not part of the conversation, because the run ended first, or the turn that
            sent them did not come to a response.
        unanswered: Calls of the last response that are the caller's to answer: of tools given as dicts, of a shell or a
            computer, or approvals that nobody was named to give. The run ends there.
    """

    def __init__(
        self,
        open_turn: Callable[[Any], Stream],
        given: Any,
        *,
        toolbox: Toolbox,
        max_turns: int | None,
        tool_timeout: float | None,
        approve_mcp: Callable[[OutputItem], bool] | None,
    ) -> None:
        _check("max_turns", max_turns, int)
        _check("tool_timeout", tool_timeout, (int, float))
        self.responses: list[Response] = []
        self.tool_errors: list[ToolError] = []
        self.outputs: list[dict[str, Any]] = []
        self.unanswered: list[OutputItem] = []
        self._open_turn = open_turn
        self._toolbox = toolbox
        self._max_turns = max_turns
        self._tool_timeout = tool_timeout
        self._approve_mcp = approve_mcp
        self._at_limit = self._closed = False
        # Of the turn that runs.
        self._stream: Stream | None = None
        self._chunks: Iterator[Chunk] = iter(())
        self._open(given)

    def _open(self, given: Any) -> None:
        self._stream = self._open_turn(given)
        self._chunks = iter(self._stream)

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        # No generator: one would hold this run, which nobody would then be seen to have forgotten.
        while (stream := self._stream) is not None:
            try:
                for chunk in self._chunks:
                    return chunk
                response = stream.response()
            except LLMWSError:
                self._stream = None
                raise
            self._stream = None
            self._go_on(response)
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
        """Why the run ended: ``max_turns``, or as the last response; None while it goes on."""
        if self._stream is not None or not self.responses:
            return None
        return "max_turns" if self._at_limit else self.responses[-1].finish_reason

    def close(self) -> None:
        """Cancel the turn that runs and end the run; may be repeated."""
        stream, self._stream, self._closed = self._stream, None, True
        if stream is not None:
            stream.close()

    def __enter__(self) -> ToolRun:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ToolRun turns={self.turns} finish_reason={self.finish_reason!r}>"

    def _go_on(self, response: Response) -> None:
        """Take a turn's response, and start the next turn if there is to be one."""
        self.responses.append(response)
        if response.status != "failed":
            self.outputs = []
        given = self._next_input(response)
        if given is not None:
            self.outputs = given
            if not self._closed:  # By a tool, or while tools ran.
                self._open(given)

    def _next_input(self, response: Response) -> list[dict[str, Any]] | None:
        """Answer a response's calls; None if the run ends here."""
        # A call that was cut off is no call: neither the conversation nor the server waits for its output.
        items = [item for item in response.output if not is_cut_off(item.raw)]
        if response.status == "failed" or not any(waits_for(item.raw) for item in items):
            return None
        if self._max_turns is not None and self.turns >= self._max_turns:
            self._at_limit = True
            return None
        results = run_calls(
            self._toolbox, items, timeout=self._tool_timeout, approve_mcp=self._approve_mcp
        )
        self.tool_errors += results.errors
        if results.unanswered:
            self.outputs, self.unanswered = results.outputs, results.unanswered
            return None
        return results.outputs


def _check(name: str, value: Any, kind: Any) -> None:
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, kind) or not value > 0
    ):
        raise ConfigurationError(
            f"{name} is {value!r}: give a number above 0, or None for no limit."
        )
