"""
``llmws demo``: the main job on the embedded server, checked against the server's ledger.

The scenes are values. The server answers from them by a rule, the client plays them through a session, and in the end
what the client saw must be what the ledger says the server was asked and sent. Any server may be given to ``play``: one
that does something else is found out.
"""

from __future__ import annotations

import json
import reprlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from .responses.session import Session
from .responses.stream.snapshot import Response, ToolCall, Usage
from .terminal import complain, show
from .testing import Entry, Ledger, Rule, Server, rules


__all__ = ["SCENES", "SECONDS_BETWEEN_EVENTS", "Scene", "play", "rule"]

SECONDS_BETWEEN_EVENTS = 0.025
"""The pace at which an answer can be read along: 40 events a second."""

_MODEL = "gpt-6-astra"


@attrs.frozen
class Scene:
    """
    One turn of the play.

    Attributes:
        question: What the client asks; None hands back what the tools gave.
        answer: What the server says, unless it calls a tool.
        call: The tool that the server calls, and its arguments.
        tokens: What the turn costs: input, output.
        chained: Whether the client names the turn before as ``previous_response_id``.
    """

    question: str | None
    answer: str = ""
    call: tuple[str, Mapping[str, Any]] | None = None
    tokens: tuple[int, int] = (0, 0)
    chained: bool = False

    @property
    def usage(self) -> dict[str, Any]:
        """The usage as the wire has it."""
        given, made = self.tokens
        return {"input_tokens": given, "output_tokens": made, "total_tokens": given + made}


SCENES = (
    Scene(
        "How does your answer get here?",
        "Word by word, over one WebSocket that stays open. A background thread owns the socket: it dials, reads, "
        "answers pings, and puts every event of this answer into an inbox. Your for loop waits at that inbox and "
        "prints a chunk as soon as it is there. No asyncio, no polling, and the next question finds the connection "
        "warm: nothing is dialled twice.",
        tokens=(14, 92),
    ),
    Scene(
        "Are there enough eggs in the fridge for an omelette for three?",
        call=("look_in_fridge", {"item": "eggs"}),
        tokens=(71, 16),
    ),
    Scene(
        None,
        "Yes: there are seven eggs in the fridge, and an omelette for three takes six.",
        tokens=(104, 21),
        chained=True,
    ),
    Scene(
        "How many are left for tomorrow?",
        "One. Better buy some on the way home.",
        tokens=(138, 12),
        chained=True,
    ),
)
"""A long answer, and a tool conversation of three turns."""

_TOOL = {
    "type": "function",
    "name": "look_in_fridge",
    "description": "Count what is in the fridge.",
    "parameters": {
        "type": "object",
        "properties": {"item": {"type": "string"}},
        "required": ["item"],
    },
}


def rule() -> Rule:
    """Return the rule by which a server plays its part."""
    parts = []
    for scene in SCENES:
        if scene.call is None:
            parts.append(rules.text(scene.answer, usage=scene.usage))
        else:
            name, arguments = scene.call
            call = {"name": name, "arguments": arguments}
            parts.append(rules.tool_calls([call], usage=scene.usage))
    return rules.sequence(*parts)


@attrs.frozen
class _Seen:
    """What the client did and saw in one turn; times are seconds on ``time.perf_counter``."""

    scene: Scene
    given: str | list[dict[str, Any]]
    previous: str | None
    response: Response
    events: int
    chunks: list[str]
    asked_at: float
    chunks_at: list[float]


def play(server: Server) -> int:
    """
    Play all scenes against a server, and print what happens.

    Args:
        server: One that was asked nothing yet. It should answer by ``rule()``.

    Returns:
        The exit code: 0 if the server's ledger agrees with what the client saw, else 1.

    Raises:
        TurnError: A turn ended without a response, or failed.
        ConnectError: The server could not be reached.
    """
    show(f"An embedded server at {server.base_url}, one WebSocket, no key, no network.")
    seen: list[_Seen] = []
    # A key is given, so that none from the environment goes anywhere.
    with Session(_MODEL, base_url=server.base_url, api_key="demo", tools=[_TOOL]) as session:
        for scene in SCENES:
            seen.append(_play_scene(session, scene, seen[-1] if scene.chained else None))
        _show_figures(seen[0], session)
        problems = _disagreements(server.ledger, seen, session)
    for problem in problems:
        complain(f"The ledger disagrees on {problem}.")
    if problems:
        return 1
    agreed = f"{len(seen)} creates, 1 connection, same chain, texts, calls and tokens"
    show(f"ledger               agrees: {agreed}")
    return 0


def _play_scene(session: Session, scene: Scene, before: _Seen | None) -> _Seen:
    given = _what_to_say(scene, before)
    previous = before.response.id if before else None
    chain: dict[str, Any] = {"previous_response_id": previous} if previous else {}
    chunks: list[str] = []
    chunks_at: list[float] = []
    asked_at = time.perf_counter()
    stream = session.stream(given, **chain)
    for chunk in stream:
        if chunk.text:
            chunks.append(chunk.text)
            chunks_at.append(time.perf_counter())
            show(chunk.text, end="")
        elif chunk.tool_call:
            show(f"  calls {chunk.tool_call.name}({chunk.tool_call.arguments_text})", end="")
    show()
    response = stream.response().raise_for_status()
    events = sum(1 for _ in stream.events())
    return _Seen(scene, given, previous, response, events, chunks, asked_at, chunks_at)


def _what_to_say(scene: Scene, before: _Seen | None) -> str | list[dict[str, Any]]:
    """Show a turn's input, and return it: the question, or what the tools gave that the turn before has called."""
    if scene.question is not None:
        show(f"\n> {scene.question}")
        return scene.question
    outputs = [_look_in_fridge(call) for call in before.response.tool_calls] if before else []
    for item in outputs:
        show(f"  which gives {item['output']}")
    return outputs


def _look_in_fridge(call: ToolCall) -> dict[str, Any]:
    """Run the tool, and return the item that tells the model what it gave."""
    asked = call.arguments.get("item") if isinstance(call.arguments, dict) else None
    output = json.dumps({"item": asked, "count": {"eggs": 7, "butter": 1}.get(str(asked), 0)})
    return {"type": "function_call_output", "call_id": call.id, "output": output}


def _show_figures(first: _Seen, session: Session) -> None:
    usage, times = session.usage, first.chunks_at
    show()
    if len(times) > 1:
        pace = (len(times) - 1) / (times[-1] - times[0])
        show(f"time to first chunk  {times[0] - first.asked_at:.3f} s, the dial included")
        show(f"chunks a second      {pace:.1f}, as the server paces them")
    sums = f"{usage.input_tokens} input + {usage.output_tokens} output"
    show(f"usage                {sums} = {usage.total_tokens} tokens")
    show(f"dials                {session.stats.dials}")


def _disagreements(ledger: Ledger, seen: Sequence[_Seen], session: Session) -> list[str]:
    """Compare both sides' view of everything; return what differs."""
    requests, dials = ledger.requests, session.stats.dials
    planned = sum((Usage(*turn.scene.tokens, sum(turn.scene.tokens)) for turn in seen), Usage())
    facts: list[tuple[str, Any, Any]] = [
        ("the connections", ledger.connections, dials),
        ("one connection being enough", 1, dials),
        ("the creates", len(requests), len(seen)),
        ("the tokens", planned, session.usage),
    ]
    for number, (entry, turn) in enumerate(zip(requests, seen, strict=False), 1):
        facts += [(f"turn {number}'s {what}", *views) for what, *views in _facts(entry, turn)]
    return [
        f"{what}: {reprlib.repr(theirs)} there, {reprlib.repr(ours)} here"
        for what, theirs, ours in facts
        if theirs != ours
    ]


def _facts(entry: Entry, turn: _Seen) -> Iterator[tuple[str, Any, Any]]:
    """Yield what there is to compare of a turn: its name, the server's view, the client's."""
    calls = [(call.name, call.arguments) for call in turn.response.tool_calls]
    yield "input", entry.body.get("input"), turn.given
    yield "previous_response_id", entry.body.get("previous_response_id"), turn.previous
    yield "response id", entry.response_id, turn.response.id
    yield "end", entry.ended, turn.response.status
    yield "completion", "completed", turn.response.status
    yield "number of events", entry.events_sent, turn.events
    yield "streamed text", turn.scene.answer, "".join(turn.chunks)
    yield "final text", turn.scene.answer, turn.response.text
    yield "calls", [turn.scene.call] if turn.scene.call else [], calls
