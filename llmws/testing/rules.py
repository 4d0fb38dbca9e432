"""
Rules: what the embedded server answers where no recording says it.

A rule is any callable that takes a ``Request`` and returns or yields events. It runs on a thread of its lane, so it
may wait, and it may use ``request.connection`` to break things; ``request.context`` holds what came before. The server
adds ``stream_id`` and ``sequence_number``, and answers warm-ups (``generate: false``) itself unless the rule has a true
attribute ``answers_warm_ups``. After a steer the rule is asked again, with the steer as input.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import ConfigurationError
from .answer import Answer, error_event, numbered
from .nonces import nonce_in, nonce_pieces, nonce_text
from .request import Event, Request, Rule


__all__ = [
    "answering",
    "custom_tool_call",
    "delayed",
    "echo",
    "fail",
    "incomplete",
    "nonce",
    "nonce_text",
    "reasoning",
    "refusal",
    "refuse",
    "refuse_times",
    "sequence",
    "text",
    "tool_calls",
    "warm_up",
]


def echo() -> Rule:
    """Answer with the input's text."""

    def rule(request: Request) -> Iterator[Event]:
        return _said(request, request.input_text)

    return rule


def text(
    answer: str,
    *,
    tokens: Sequence[str] | None = None,
    usage: Mapping[str, Any] | None = None,
) -> Rule:
    """
    Answer with a text.

    Args:
        answer: The text.
        tokens: Its deltas, which must join to it; None cuts it at words.
        usage: The usage as the wire has it; None estimates it.
    """

    def rule(request: Request) -> Iterator[Event]:
        return _said(request, answer, tokens, usage)

    return rule


def _said(
    request: Request,
    words: str,
    tokens: Sequence[str] | None = None,
    usage: Mapping[str, Any] | None = None,
) -> Iterator[Event]:
    answer = Answer(request)
    yield from answer.start()
    yield from answer.message(words, tokens)
    yield from answer.complete(usage)


def reasoning(*summaries: str, answer: str = "", usage: Mapping[str, Any] | None = None) -> Rule:
    """Think in these summaries, then answer with a text if there is one."""

    def rule(request: Request) -> Iterator[Event]:
        built = Answer(request)
        yield from built.start()
        yield from built.reasoning(*summaries)
        if answer:
            yield from built.message(answer)
        yield from built.complete(usage)

    return rule


def tool_calls(
    calls: Sequence[Mapping[str, Any]], *, usage: Mapping[str, Any] | None = None
) -> Rule:
    """
    Call functions, all in one response.

    Args:
        calls: For each call a mapping with ``name`` and ``arguments``; arguments that are no string become JSON.
        usage: The usage as the wire has it; None estimates it.
    """

    def rule(request: Request) -> Iterator[Event]:
        answer = Answer(request)
        yield from answer.start()
        for call in calls:
            yield from answer.function_call(call["name"], call["arguments"])
        yield from answer.complete(usage)

    return rule


def custom_tool_call(name: str, input: str) -> Rule:
    """Call a custom tool with a free text."""

    def rule(request: Request) -> Iterator[Event]:
        answer = Answer(request)
        yield from answer.start()
        yield from answer.custom_tool_call(name, input)
        yield from answer.complete()

    return rule


def refusal(words: str) -> Rule:
    """Complete with a message in which the model refuses."""

    def rule(request: Request) -> Iterator[Event]:
        answer = Answer(request)
        yield from answer.start()
        yield from answer.refusal(words)
        yield from answer.complete()

    return rule


def incomplete(words: str, *, reason: str = "max_output_tokens") -> Rule:
    """Say some words and end with ``response.incomplete``."""

    def rule(request: Request) -> Iterator[Event]:
        answer = Answer(request)
        yield from answer.start()
        yield from answer.message(words, cut=True)
        yield from answer.incomplete(reason)

    return rule


def fail(code: str, message: str, *, after: str = "", error_first: bool = True) -> Rule:
    """
    Accept the request and then fail.

    Args:
        code: The error's code.
        message: The error's words.
        after: What is said before; empty for nothing.
        error_first: Whether an ``error`` event comes before ``response.failed``, as recorded of the API.
    """

    def rule(request: Request) -> Iterator[Event]:
        answer = Answer(request)
        yield from answer.start()
        if after:
            yield from answer.message(after, cut=True)
        if error_first:
            error = {"type": code, "code": code, "message": message, "param": None}
            yield {"type": "error", "error": error}
        yield from answer.fail(code, message)

    return rule


def refuse(
    status: int,
    code: str,
    message: str,
    *,
    type: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Rule:
    """
    Answer with an error before anything else; over HTTP it becomes the answer's status.

    Args:
        status: The HTTP-like status, also in the event.
        code: The error's code, such as ``rate_limit_exceeded``.
        message: The error's words.
        type: The error's type; None takes what goes with the status.
        param: The request field at fault.
        headers: Such as ``{"retry-after": "2"}``: inside the event, and in the head over HTTP.
    """

    def rule(request: Request) -> Iterator[Event]:
        yield error_event(code, message, status=status, type=type, param=param, headers=headers)

    return rule


def refuse_times(
    times: int,
    status: int,
    code: str,
    message: str,
    *,
    then: Rule,
    headers: Mapping[str, str] | None = None,
) -> Rule:
    """
    Refuse as ``refuse`` does, so many times, and then answer by another rule.

    Args:
        times: How many requests of the server are refused, the first ones.
        status: The HTTP-like status; so are the other arguments those of ``refuse``.
        code: The error's code.
        message: The error's words.
        then: What answers afterwards.
        headers: Such as ``{"retry-after": "2"}``.
    """
    refusing = refuse(status, code, message, headers=headers)
    # Counted in one step of the interpreter, so by any number of threads.
    asked = itertools.count()

    def rule(request: Request) -> Iterator[Event]:
        yield from (refusing if next(asked) < times else then)(request)

    return rule


def delayed(rule: Rule, seconds: float) -> Rule:
    """Give a rule's first event at once and hold back the rest for a time, or until the connection is over."""

    def slow_rule(request: Request) -> Iterator[Event]:
        closed = request.connection.closed if request.connection else threading.Event()
        events = iter(rule(request))
        yield from itertools.islice(events, 1)
        if not closed.wait(seconds):
            yield from events

    return slow_rule


def nonce(deltas: int = 20) -> Rule:
    """
    Answer a text that names a nonce, such as ``Go on: nonce 7f3a``, with pieces that are a function of it.

    What a client makes of it must equal ``nonce_text(nonce, deltas)``; ``Ledger.second_creates`` knows turns by their
    nonces. A text without a nonce is refused.

    Args:
        deltas: How many pieces.
    """

    def rule(request: Request) -> Iterator[Event]:
        name = nonce_in(request.input_text)
        if name is None:
            refused = refuse(400, "no_nonce", "The input names no nonce.", param="input")
            return iter(refused(request))
        return _said(request, nonce_text(name, deltas), nonce_pieces(name, deltas))

    return rule


def sequence(*rules: Rule) -> Rule:
    """Answer the server's nth request by the nth rule; the last rule answers all that follow."""
    if not rules:
        raise ConfigurationError("A sequence needs a rule.")

    def rule(request: Request) -> Iterator[Event]:
        yield from rules[min(request.number, len(rules)) - 1](request)

    return rule


def warm_up(request: Request) -> Iterator[Event]:
    """Answer a create with ``generate: false`` as the API does: created, and completed without output."""
    answer = Answer(request)
    yield next(answer.start())
    yield from answer.complete()


def answering(rule: Rule) -> Rule:
    """Let a rule answer as the server lets it: warm-ups are answered for it, and events get their numbers."""

    def complete_rule(request: Request) -> Iterator[Event]:
        warm = request.is_warm_up and not getattr(rule, "answers_warm_ups", False)
        return numbered(iter(warm_up(request) if warm else rule(request)))

    return complete_rule
