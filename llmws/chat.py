"""``llmws chat``: questions from a terminal or a pipe, answers as they come."""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from .errors import LLMWSError, PreviousResponseNotFoundError, StreamCancelledError
from .responses.session import Session
from .responses.stream.snapshot import Response
from .responses.stream.stream import Stream
from .terminal import complain, show


__all__ = ["MODEL", "Chat", "run"]

MODEL = "gpt-6-astra"


def run(model: str = MODEL, base_url: str | None = None) -> int:
    """
    Ask, answer, and so on until the input ends.

    On a terminal a failed answer is told and the next question asked for; questions from a pipe end at a failure.

    Args:
        model: The model to talk to.
        base_url: As for ``Session``.

    Returns:
        The exit code: 0, or 1 after a failure with questions from a pipe.

    Raises:
        ConfigurationError: There is no key, or the base URL cannot be used.
        KeyboardInterrupt: Ctrl-C while no answer was under way and questions come from a pipe.
    """
    interactive = _is_terminal(sys.stdin) and _is_terminal(sys.stdout)
    with Session(model, base_url=base_url) as session:
        if interactive:
            with contextlib.suppress(ImportError):
                importlib.import_module("readline")  # It lets input() edit lines; Windows has none.
            show(f"Talking to {model}. Ctrl-C stops an answer, Ctrl-D leaves.")
        chat = Chat(session)
        for question in _questions("> " if interactive else ""):
            try:
                chat.ask(question)
            except LLMWSError as exc:
                complain(exc)
                if not interactive:
                    return 1
    return 0


def _is_terminal(file: Any) -> bool:
    return file is not None and file.isatty()


def _questions(prompt: str) -> Iterator[str]:
    """Yield what is typed, line by line, up to the end of the input; blank lines are passed over."""
    while sys.stdin is not None:
        try:
            line = input(prompt)
        except EOFError:
            if prompt:
                show()  # What comes next, such as the shell's prompt, begins on a line of its own.
            return
        except KeyboardInterrupt:
            if not prompt:
                raise
            show()  # As in a shell, the line is given up and the next one asked for.
            continue
        if line.strip():
            yield line


class Chat:
    """
    One chain of questions and answers, shown on stdout as they come.

    For the main thread, where signals arrive.

    Args:
        session: Where to ask; its model answers.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._chain: dict[str, Any] = {}

    def ask(self, question: str) -> None:
        """
        Show the answer to one more question; one that was stopped by Ctrl-C, or failed, leaves the chain as it was.

        Raises:
            LLMWSError: There is no answer.
        """
        try:
            response = self._answer_or_begin_anew(question)
        except StreamCancelledError:
            show("(stopped)")
            return
        response.raise_for_status()
        if response.incomplete_reason:
            show(f"(cut short: {response.incomplete_reason})")
        self._chain = {"previous_response_id": response.id}

    def _answer_or_begin_anew(self, question: str) -> Response:
        try:
            return self._answer(question)
        except PreviousResponseNotFoundError:
            if not self._chain:
                raise
        complain("The server no longer has this conversation; a new one begins here.")
        self._chain = {}
        return self._answer(question)

    def _answer(self, question: str) -> Response:
        with self._session.stream(question, **self._chain) as stream, _stopped_by_ctrl_c(stream):
            shown = ""
            try:
                for chunk in stream:
                    if chunk.text:
                        show(chunk.text, end="")
                        shown = chunk.text
                    elif "notice" in chunk.metadata:
                        complain(_notice(chunk.metadata))
            finally:
                if shown and not shown.endswith("\n"):
                    show()
            return stream.response()


def _notice(metadata: Mapping[str, Any]) -> str:
    """Return what the library does for an answer, in short: the error that may follow tells why."""
    notice, delay = str(metadata["notice"]), metadata.get("delay")
    return notice if delay is None else f"{notice} in {delay:.1f} s"


@contextlib.contextmanager
def _stopped_by_ctrl_c(stream: Stream) -> Iterator[None]:
    """
    Let Ctrl-C cancel the stream, and raise nothing.

    The connection is replaced at once: whoever stops an answer does not want to wait for its rest.
    """
    previous = signal.signal(signal.SIGINT, lambda number, frame: stream.cancel(hard=True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
