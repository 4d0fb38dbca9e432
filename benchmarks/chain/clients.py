"""
The measured clients, each as its documentation shows; ``python -m benchmarks.chain.clients`` runs one conversation.

All of them read every event, build an object or a dict of it, answer the call that they find at the end, and send what
the API asks for: with ``previous_response_id`` only the new items, settings always. Connecting is part of a
conversation; importing is not, because a first one of two turns goes before it.
"""

from __future__ import annotations

import faulthandler
import importlib.metadata
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from .talk import INSTRUCTIONS, MODEL, TOOL, Desk, beginning


__all__ = ["CLIENTS", "Client", "missing"]

_SETTINGS: dict[str, Any] = {"model": MODEL, "instructions": INSTRUCTIONS, "tools": [TOOL]}
_SECONDS = 90.0

Talk = Callable[[str, Desk, int], None]


@attrs.frozen
class Client:
    """
    One client.

    Attributes:
        title: What tables call it.
        talk: Has a conversation of so many turns at a base URL.
        needs: Distributions that have to be installed.
        without: Packages that are made impossible to import first.
    """

    title: str
    talk: Talk
    needs: tuple[str, ...]
    without: tuple[str, ...] = ()


def missing(client: str) -> list[str]:
    """Return the distributions that a client needs and that are not installed."""
    installed = {found.name.lower() for found in importlib.metadata.distributions() if found.name}
    return [name for name in CLIENTS[client].needs if name not in installed]


def _llmws(**settings: Any) -> Talk:
    def talk(base_url: str, desk: Desk, turns: int) -> None:
        import llmws

        tool = llmws.Tool(TOOL["name"], TOOL["parameters"], desk.look_up, TOOL["description"])
        with llmws.Session(MODEL, base_url=base_url) as session:
            chat = session.conversation(instructions=INSTRUCTIONS, tools=[tool], **settings)
            desk.hear(chat.run(beginning(turns), max_turns=None).result().text)

    return talk


def _openai_connection(base_url: str, desk: Desk, turns: int) -> None:
    import openai

    client = openai.OpenAI(api_key="none", base_url=base_url, max_retries=0)
    with client.responses.connect() as connection:

        def ask(**request: Any) -> Any:
            connection.send({"type": "response.create", **request})  # type: ignore[misc,typeddict-item]
            return connection

        _chained(ask, desk, turns)


def _openai_lanes(base_url: str, desk: Desk, turns: int) -> None:
    import openai
    from openai.lib.responses_websocket import ResponsesWebSocketLimits, ResponsesWebSocketSession

    limits = ResponsesWebSocketLimits(
        max_lanes=8,
        max_events_per_lane=1024,
        max_events=1024,
        max_bytes_per_lane=1 << 26,
        max_bytes=1 << 26,
    )
    client = openai.OpenAI(api_key="none", base_url=base_url, max_retries=0)
    with (
        client.responses.connect() as connection,
        ResponsesWebSocketSession(connection, limits=limits) as session,
    ):
        lane = session.default

        def ask(**request: Any) -> Any:
            lane.send({"type": "response.create", **request})  # type: ignore[misc,typeddict-item]
            return iter(lane.recv, None)

        _chained(ask, desk, turns)


def _chained(ask: Callable[..., Any], desk: Desk, turns: int) -> None:
    """Have a conversation by ``previous_response_id``, with the SDK's events."""
    given: Any = beginning(turns)
    parent: dict[str, str] = {}
    while True:
        for event in ask(**_SETTINGS, **parent, input=given):
            if event.type in ("response.completed", "response.failed", "error"):
                break
        response = event.response
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            desk.hear(response.output_text)
            return
        given = desk.answers((call.call_id, call.arguments) for call in calls)
        parent = {"previous_response_id": response.id}


def _requests_sse(*, chained: bool) -> Talk:
    def talk(base_url: str, desk: Desk, turns: int) -> None:
        import requests

        history: list[Any] = [{"role": "user", "content": beginning(turns)}]
        parent: dict[str, str] = {}
        with requests.Session() as http:
            while True:
                body = {**_SETTINGS, **parent, "input": history, "stream": True}
                response = _last_response(http, f"{base_url}/responses", body)
                output = response["output"]
                calls = [item for item in output if item["type"] == "function_call"]
                if not calls:
                    desk.hear(output[0]["content"][0]["text"])
                    return
                answers = desk.answers((call["call_id"], call["arguments"]) for call in calls)
                history = answers if chained else [*history, *output, *answers]
                if chained:
                    parent = {"previous_response_id": response["id"]}

    return talk


def _last_response(http: Any, url: str, body: dict[str, Any]) -> dict[str, Any]:
    """Post a request, read the answer event by event, and return the response in the last one."""
    import sseclient

    answer = http.post(url, json=body, stream=True)
    event: dict[str, Any] = {}
    for block in sseclient.SSEClient(answer).events():
        event = json.loads(block.data)
    response: dict[str, Any] = event["response"]
    return response


_PLAIN_LLMWS = ("llmws",)
_FAST_LLMWS = ("llmws", "msgspec")
_SDK = ("openai", "websockets")
_SSE = ("requests", "sseclient-py")
CLIENTS: dict[str, Client] = {
    "llmws-fast": Client("llmws[fast], conversation", _llmws(), _FAST_LLMWS),
    "llmws": Client("llmws, conversation", _llmws(), _PLAIN_LLMWS, without=("msgspec",)),
    "llmws-fast-unstored": Client(
        "llmws[fast], conversation, `store=False`", _llmws(store=False), _FAST_LLMWS
    ),
    "openai": Client("openai, `responses.connect()`", _openai_connection, _SDK),
    "openai-lanes": Client("openai, lanes session", _openai_lanes, _SDK),
    "sse-chained": Client(
        "requests + SSE, `previous_response_id`", _requests_sse(chained=True), _SSE
    ),
    "sse-full": Client("requests + SSE, full history", _requests_sse(chained=False), _SSE),
}


def main(description: str) -> None:
    """
    Have one conversation, and print its figures as a line of JSON.

    Args:
        description: JSON with the ``client``, the ``turns``, the ``base_url``, and in ``first_url`` where the
            conversation goes that is not measured.
    """
    told = json.loads(description)
    faulthandler.dump_traceback_later(_SECONDS, exit=True)
    client = CLIENTS[told["client"]]
    for package in client.without:
        sys.modules[package] = None  # type: ignore[assignment] # Whoever imports it gets an ImportError.
    client.talk(told["first_url"], Desk(), 2)
    desk, turns = Desk(), told["turns"]
    cpu, began = time.process_time(), time.perf_counter()
    client.talk(told["base_url"], desk, turns)
    seconds, cpu = desk.end - began, time.process_time() - cpu
    desk.check(turns)
    figures = {
        "seconds": seconds,
        "first_ms": (desk.calls[0] - began) * 1e3,
        "turn_ms": statistics.median(_gaps(desk.calls)) * 1e3,
        "cpu_ms": cpu / turns * 1e3,
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def _gaps(times: list[float]) -> Iterator[float]:
    """Return the seconds between one call and the next: an output sent, an answer read."""
    return (after - before for before, after in itertools.pairwise(times))


if __name__ == "__main__":
    main(sys.argv[1])
