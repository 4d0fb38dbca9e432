"""
The conversation that all clients have: a model that looks up one entry after another, and then says what it has read.

The server is told nothing beforehand. It finds in the input how far the conversation is, and answers at the end with a
digest of everything that a model would have seen, so that a client which loses an output is found out.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llmws.testing import Event, Request, rules


__all__ = ["INSTRUCTIONS", "MODEL", "TOOL", "Desk", "answer", "beginning"]

MODEL = "benchmark"
_OUTPUT_BYTES = 1024
_PROGRESS = re.compile(r"(\d+) of (\d+)")
_RULE_OF_CONDUCT = (
    "Look up every entry in its turn, one at a time, and do not guess what an entry may hold. "
)

# With the tool about 4 KiB: what is sent anew with every request, because the API carries no settings over.
INSTRUCTIONS = (_RULE_OF_CONDUCT * 40)[:3584]
TOOL: dict[str, Any] = {
    "type": "function",
    "name": "look_up",
    "description": "Return the text of one entry of the catalogue.",
    "parameters": {
        "type": "object",
        "properties": {
            "entry": {"type": "integer", "description": "The number of the entry, from 1."},
            "entries": {"type": "integer", "description": "How many there are in all."},
        },
        "required": ["entry", "entries"],
        "additionalProperties": False,
    },
    "strict": True,
}


def beginning(turns: int) -> str:
    """Return the first input of a conversation of so many turns, the last of which says what was read."""
    return f"Begin. 0 of {turns - 1} entries are read."


def _entry(entry: int, entries: int) -> str:
    """Return the output of a call: about 1 KiB that differs from entry to entry."""
    return (f"{entry} of {entries}: " + f"what entry {entry} says, " * _OUTPUT_BYTES)[
        :_OUTPUT_BYTES
    ]


class Desk:
    """
    The client's side: answers calls, and notes when they came; for one conversation.

    Attributes:
        calls: When each call came, on ``time.perf_counter``.
        end: When the last answer was there; closing connections is not what anybody waits for.
    """

    def __init__(self) -> None:
        self.calls: list[float] = []
        self.end = 0.0
        self._said = ""
        self._outputs: list[str] = []

    def look_up(self, entry: int, entries: int) -> str:
        """Answer one call."""
        self.calls.append(time.perf_counter())
        self._outputs.append(_entry(entry, entries))
        return self._outputs[-1]

    def answers(self, calls: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
        """Answer calls, given as id and arguments, by the items of the next input."""
        return [
            {
                "type": "function_call_output",
                "call_id": call_id,
                "output": self.look_up(**json.loads(arguments)),
            }
            for call_id, arguments in calls
        ]

    def hear(self, said: str) -> None:
        """Take the last answer."""
        self.end = time.perf_counter()
        self._said = said

    def check(self, turns: int) -> None:
        """
        Compare the last answer with what was looked up.

        Raises:
            AssertionError: A turn, an output or the right answer is missing.
        """
        expected = _summary(_entry(number, turns - 1) for number in range(1, turns))
        if len(self._outputs) != turns - 1 or self._said != expected:
            raise AssertionError(
                f"{len(self._outputs)} calls of {turns - 1}, and then {self._said!r}"
            )


def answer(request: Request) -> Iterator[Event]:
    """Call for the next entry, or say what all entries came to: the embedded server's rule."""
    found = _PROGRESS.search(request.input_text)
    if found is None:
        yield from rules.refuse(400, "no_progress", "The last item does not say how far we are.")(
            request
        )
        return
    read, entries = int(found[1]), int(found[2])
    if read < entries:
        call = {"name": TOOL["name"], "arguments": {"entry": read + 1, "entries": entries}}
        yield from rules.tool_calls([call])(request)
    else:
        yield from rules.text(_summary(_outputs(request.context)))(request)


def _outputs(items: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    return (item["output"] for item in items if item.get("type") == "function_call_output")


def _summary(outputs: Iterable[str]) -> str:
    digest, count = hashlib.sha256(), 0
    for count, output in enumerate(outputs, 1):  # noqa: B007
        digest.update(output.encode())
    return f"{count} entries, {digest.hexdigest()}"
