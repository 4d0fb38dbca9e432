"""
Write recordings/responses/*.jsonl again, byte for byte.

Run it as ``python tests/make_recordings.py`` after a change of ``llmws.testing.rules`` or of the format.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from llmws.testing import Request, Rule, rules  # noqa: E402 - the script runs without llmws installed.
from llmws.testing.rules import answering  # noqa: E402
from llmws.wire.recording import Close, Entry, Frame, Open, Recording, save  # noqa: E402


MODEL = "gpt-6-astra"
URL = "wss://api.openai.com/v1/responses"
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
SQL = {
    "type": "custom",
    "name": "write_sql",
    "description": "Write one SELECT.",
    "format": {"type": "text"},
}

Exchange = tuple[dict[str, Any], Rule]


def create(input: Any, **settings: Any) -> dict[str, Any]:
    return {"type": "response.create", "model": MODEL, "store": False, "input": input, **settings}


def user(text: str) -> list[dict[str, Any]]:
    content = [{"type": "input_text", "text": text}]
    return [{"type": "message", "role": "user", "content": content}]


def long_text(words: int) -> str:
    return "".join(f" w{index:05d}" for index in range(words))[1:]


def scripts() -> Iterator[tuple[str, list[Exchange]]]:
    """Yield each recording's name, and its creates with the rules that answer them."""
    rivers = "The Danube, the Rhône and the Vistula. \N{WATER WAVE}\n\nShall I name more?"
    yield "text", [(create(user("Name three rivers.")), rules.text(rivers))]
    yield (
        "reasoning-summary",
        [
            (
                create(
                    user("What is 17 times 23?"),
                    reasoning={"effort": "medium", "summary": "detailed"},
                    include=["reasoning.encrypted_content"],
                ),
                rules.reasoning(
                    "**Multiplying**\n\nI split 17 into 10 and 7.",
                    "**Checking**\n\n230 and 161 make 391.",
                    answer="17 × 23 = 391.",
                ),
            )
        ],
    )
    yield "tool-call", [tool_call(["Paris"])]
    yield "parallel-tool-calls", [tool_call(["Paris", "Zürich"])]
    yield (
        "custom-tool",
        [
            (
                create(user("Who is older than 25?"), tools=[SQL]),
                rules.custom_tool_call("write_sql", "SELECT * FROM users\nWHERE age > 25"),
            )
        ],
    )
    yield (
        "refusal",
        [(create(user("Help me do harm.")), rules.refusal("I’m sorry, I can’t help with that."))],
    )
    yield (
        "incomplete",
        [
            (
                create(user("Tell me a long story."), max_output_tokens=16),
                rules.incomplete("Once upon a time there was a fox who lived"),
            )
        ],
    )
    quota = "You exceeded your current quota, please check your plan and billing details."
    yield "failed", [(create(user("Hello.")), rules.fail("insufficient_quota", quota))]
    gone = "Previous response with id 'resp_gone' not found."
    yield (
        "error-before-output",
        [
            (
                create(user("And then?"), previous_response_id="resp_gone"),
                rules.refuse(
                    400, "previous_response_not_found", gone, param="previous_response_id"
                ),
            )
        ],
    )
    unpadded = {"include_obfuscation": False}
    yield (
        "deltas-5000",
        [(create(user("Count to 5000."), stream_options=unpadded), rules.text(long_text(5000)))],
    )
    yield "warm-up", warm_up()


def tool_call(cities: list[str]) -> Exchange:
    calls = [{"name": "get_weather", "arguments": {"city": city}} for city in cities]
    question = f"How is the weather in {' and '.join(cities)}?"
    return create(user(question), tools=[WEATHER]), rules.tool_calls(calls)


def warm_up() -> list[Exchange]:
    settings = {"instructions": "Be short.", "tools": [WEATHER]}
    warm = create([], generate=False, **settings)
    chained = create(user("Hello."), previous_response_id=PREVIOUS, **settings)
    return [(warm, rules.echo()), (chained, rules.text("Hello! How can I help?"))]


# Stands for the id of the response before, which only its answer tells.
PREVIOUS = "<previous>"


def record(exchanges: list[Exchange], first_turn: int) -> Recording:
    """Play the exchanges one after the other, 20 ms an event."""
    entries: list[Entry] = [Open(0.0, URL)]
    previous: str | None = None
    for turn, (body, rule) in enumerate(exchanges, first_turn):
        if body.get("previous_response_id") == PREVIOUS:
            body = {**body, "previous_response_id": previous}
        entries.append(Frame(entries[-1].t + 0.001, "out", body))
        for event in answering(rule)(Request(body=body, turn=turn)):
            entries.append(Frame(entries[-1].t + 0.02, "in", event))
            previous = event.get("response", {}).get("id", previous)
    entries.append(Close(entries[-1].t + 0.001, 1000, ""))
    # The version is the format's, not this checkout's: a release changes no recording.
    return Recording(recorded_at="2026-11-22T00:00:00+00:00", llmws="0.1.0", entries=tuple(entries))


def make(folder: Path) -> list[Path]:
    """Write every recording into a folder; return the files."""
    paths = []
    for index, (name, exchanges) in enumerate(scripts()):
        paths.append(folder / f"{name}.jsonl")
        save(record(exchanges, first_turn=100 * index + 1), paths[-1])
        # What is made up is no secret, and is committed.
        paths[-1].chmod(0o644)
    return paths


if __name__ == "__main__":
    make(ROOT / "recordings" / "responses")
