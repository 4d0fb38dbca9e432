"""
What a turn's log holds, and the events that readers see of it.

Nearly all that a server sends are deltas: flat objects of a few short fields, thousands of them. Where the decoder can
tell that a message is just such a delta without building an object of it, the log keeps its bytes, a third of the
size; everything else lies in the log as it was decoded. Events are made by the reader that asks for them. Only those
that the turn's state hangs on are made where they arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from ...wire import jsoncodec
from .events import Event, from_raws


__all__ = ["Delta", "Entry", "Notice", "delta_of", "opened"]

Entry = Event | dict[str, Any] | bytes | bytearray
_SEALED = frozenset({bytes, bytearray})


class Delta(Protocol):
    """What is asked of a flat delta."""

    sequence_number: int | None
    stream_id: str | None


# All that these types carry, by the API's schema and by recordings. A message with another field, or with
# log probabilities, is simply decoded where it arrives.
# None without msgspec. Raises ``ValueError`` for any other message.
delta_of: Callable[[bytes | bytearray], Delta] | None = jsoncodec.shape(
    "Delta",
    {
        "type": Literal[
            "response.output_text.delta",
            "response.refusal.delta",
            "response.reasoning_text.delta",
            "response.reasoning_summary_text.delta",
            "response.function_call_arguments.delta",
            "response.mcp_call_arguments.delta",
            "response.custom_tool_call_input.delta",
            "response.code_interpreter_call_code.delta",
        ]
    },
    {
        "sequence_number": int,
        "item_id": str,
        "output_index": int,
        "content_index": int,
        "summary_index": int,
        "delta": str,
        "logprobs": tuple[()],
        "obfuscation": str,
        "stream_id": str,
    },
)


class Notice(Event):
    """
    What llmws itself did for a turn, between the server's events: a redial, a replay.

    Seen as a ``meta`` chunk; never among ``events()``, which are the server's alone. Its types begin with ``llmws.``.
    """

    __slots__ = ()


def opened(entries: Sequence[Any]) -> list[Event]:
    """Return the events of some entries of a log; never raises."""
    kinds = {*map(type, entries)}
    if kinds <= _SEALED:
        return from_raws(jsoncodec.decode_all(entries))
    if not kinds.isdisjoint(_SEALED):
        unsealed = iter(jsoncodec.decode_all([e for e in entries if type(e) in _SEALED]))
        entries = [next(unsealed) if type(e) in _SEALED else e for e in entries]
    made = iter(from_raws([e for e in entries if type(e) is dict]))
    return [next(made) if type(e) is dict else e for e in entries]
