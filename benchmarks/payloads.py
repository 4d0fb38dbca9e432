"""
What the server says: answers as the API words them, in JSON bytes made beforehand, the same at every start.

An answer is a list of messages; one message is one event. The field names, their order and the sizes are those of
recorded traffic: a delta has 267 bytes on average.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs


__all__ = ["STAMP", "Answer", "Sizes", "answers", "frame", "sse_block"]

# Stands in a delta for the time at which the server writes it: nanoseconds of the monotonic clock, which all
# processes of a machine share. As wide as any such time, so that nothing moves when it is patched in.
STAMP = b"0" * 20

_WORDS = (  # noqa: SIM905 (a list of them would be as long as this file)
    "the a of and to in is that it was for on are with as his they be at one have this from or had by hot but some "
    "what there we can out other were all your when up use word how said an each she which do their time if will way "
    "about many then them would write like so these her long make thing see him two has look more day could go come "
    "did my sound no most number who over know water than call first people may down side been now find any new work "
    "café naïve — “quoted” 1,024 connection stream latency"
).split()
_HEX = "0123456789abcdef"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
# With these, a delta event is 204 to 333 bytes long, and 267 on average.
_OBFUSCATION = (2, 114)


@attrs.frozen
class Sizes:
    """
    How much is measured; the smaller ones are for a quick look that proves nothing.

    Attributes:
        burst: Deltas of the burst, written as fast as they are read.
        paced: Deltas of the paced answer, 2,000 a second.
        slow: Deltas of the slow answer, 100 a second.
        turns: Turns on one warm connection.
        large_mib: Text of the large event, in MiB.
        upload_mib: Input of the large request, in MiB.
        idle: Idle connections held at once.
        fresh: Fresh TLS connections of each client, all its runs together.
    """

    burst: int = 20_000
    paced: int = 1_500
    slow: int = 200
    turns: int = 200
    large_mib: int = 64
    upload_mib: int = 10
    idle: int = 100
    fresh: int = 1_000

    @classmethod
    def quick(cls) -> Sizes:
        """Return what suffices to see that everything works."""
        return cls(
            burst=300, paced=100, slow=20, turns=5, large_mib=1, upload_mib=1, idle=5, fresh=5
        )


@attrs.frozen
class Answer:
    """
    What the server says to one request.

    Attributes:
        messages: The events, as JSON.
        interval: Seconds between two messages; 0 writes all at once.
    """

    messages: Sequence[bytes]
    interval: float = 0.0


def answers(sizes: Sizes) -> dict[str, Callable[[], Answer]]:
    """Return, by the ``input`` that asks for it, what makes each answer."""
    return {
        "short": lambda: Answer(_turn(_words(10))),
        "burst": lambda: Answer(_turn(_words(sizes.burst))),
        "paced": lambda: Answer(_turn(_stamps(sizes.paced)), interval=1 / 2_000),
        "slow": lambda: Answer(_turn(_stamps(sizes.slow)), interval=1 / 100),
        "large": lambda: Answer(_large(sizes.large_mib * 2**20)),
    }


def frame(message: bytes) -> bytes:
    """Return a message as one unmasked WebSocket text frame."""
    size = len(message)
    if size < 126:
        head = bytes([0x81, size])
    elif size < 65_536:
        head = b"\x81\x7e" + size.to_bytes(2, "big")
    else:
        head = b"\x81\x7f" + size.to_bytes(8, "big")
    return head + message


def sse_block(message: bytes) -> bytes:
    """Return a message as one block of an SSE body."""
    kind = message[len(b'{"type":"') : message.index(b'"', len(b'{"type":"'))]
    return b"event: %s\ndata: %s\n\n" % (kind, message)


def _words(count: int) -> list[str]:
    chance = random.Random(count)
    return [f" {chance.choice(_WORDS)}" for _ in range(count)]


def _stamps(count: int) -> list[str]:
    return [STAMP.decode()] * count


def _turn(deltas: list[str]) -> list[bytes]:
    """Return a whole answer of one message: eight events around its deltas."""
    chance = random.Random(len(deltas))
    response = _response(chance)
    text = "".join(deltas)
    place = {"item_id": _name("msg", chance), "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
    item = {"id": place["item_id"], "type": "message", "status": "in_progress", "content": []}
    item["role"] = "assistant"
    whole_part = {**part, "text": text}
    whole_item = {**item, "status": "completed", "content": [whole_part]}

    def events() -> Iterator[tuple[str, dict[str, Any]]]:
        yield "created", {"response": response}
        yield "in_progress", {"response": response}
        yield "output_item.added", {"output_index": 0, "item": item}
        yield "content_part.added", {**place, "part": part}
        for delta in deltas:
            padding = "".join(chance.choices(_LETTERS, k=chance.randint(*_OBFUSCATION)))
            yield (
                "output_text.delta",
                {**place, "delta": delta, "logprobs": [], "obfuscation": padding},
            )
        yield "output_text.done", {**place, "text": text, "logprobs": []}
        yield "content_part.done", {**place, "part": whole_part}
        yield "output_item.done", {"output_index": 0, "item": whole_item}
        yield "completed", {"response": _completed(response, [whole_item], len(deltas))}

    return _numbered(events())


def _large(size: int) -> list[bytes]:
    """Return an answer that comes in one event, whose text has ``size`` bytes."""
    chance = random.Random(size)
    response = _response(chance)
    words = " ".join(chance.choices([word for word in _WORDS if word.isascii()], k=10_000))
    text = (words * (size // len(words) + 1))[:size]
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    item = {"id": _name("msg", chance), "type": "message", "status": "completed"}
    whole = {**item, "content": [part], "role": "assistant"}
    completed = _completed(response, [whole], size // 5)
    return _numbered(
        iter([("created", {"response": response}), ("completed", {"response": completed})])
    )


def _numbered(events: Iterator[tuple[str, dict[str, Any]]]) -> list[bytes]:
    return [
        json.dumps(
            {"type": f"response.{kind}", "sequence_number": number, **fields},
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
        for number, (kind, fields) in enumerate(events)
    ]


def _response(chance: random.Random) -> dict[str, Any]:
    """Return a response that has begun, with all the fields that the API repeats."""
    return {
        "id": _name("resp", chance),
        "object": "response",
        "created_at": 1_771_375_110,
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": "benchmark",
        "output": [],
        "parallel_tool_calls": True,
        "presence_penalty": 0.0,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "prompt_cache_retention": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "auto",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
    }


def _completed(response: dict[str, Any], output: list[Any], tokens: int) -> dict[str, Any]:
    usage = {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens + 12,
    }
    ended = {"status": "completed", "completed_at": response["created_at"] + 1}
    return {**response, **ended, "output": output, "usage": usage}


def _name(kind: str, chance: random.Random) -> str:
    return f"{kind}_{''.join(chance.choices(_HEX, k=50))}"
