"""
The callbacks of one stream.

Each registration has a cursor of its own, so one that comes late is told everything from the first event on. All of
one stream's callbacks run in order, one at a time, on one thread at a time.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from ...errors import ConfigurationError
from ...wire.callbacks import CallbackThreads, Strand
from ...wire.monitor import Monitor
from ..routing.turn import Notice, Turn
from ..vocabulary.entries import opened
from ..vocabulary.events import Event
from .chunks import Chunk
from .readers import chunks_of


__all__ = ["NAMES", "Handlers"]

logger = logging.getLogger(__name__)

# Events looked at in one go; see ``readers.py``.
_SLICE = 128


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _text(chunk: Chunk) -> str | None:
    return chunk.text if chunk.type == "content" and not chunk.metadata.get("refusal") else None


# What each callback that concerns chunks is given, or None to pass over a chunk.
_OF_CHUNK: dict[str, Callable[[Chunk], Any]] = {
    "chunk": lambda chunk: chunk,
    "text": _text,
    "thinking": lambda chunk: chunk.thinking if chunk.type == "thinking" else None,
    "tool_call": lambda chunk: chunk.tool_call,
    "meta": lambda chunk: chunk.metadata if chunk.type == "meta" else None,
}
NAMES = (*_OF_CHUNK, "event", "done", "error", "callback_error")


@attrs.define(eq=False)
class _Registration:
    """One ``on(name, fn)``; context variables are those of the registering thread."""

    name: str
    call: Callable[[Any], object]
    context: contextvars.Context
    cursor: int = 0
    errors_told: int = 0
    told_end: bool = False


class Handlers:
    """
    The registrations of one stream and the strand that serves them.

    Args:
        turn: Whose events.
        threads: Who runs the callbacks.
        outcome: Gives the turn's response, or its error; called after the end alone.
        keep: Told when there is somebody to serve.
        release: Told when the turn has ended and every callback was told.

    Attributes:
        threads: As given; those of another process after a fork.
    """

    def __init__(
        self,
        turn: Turn,
        threads: CallbackThreads,
        outcome: Callable[[], Any],
        keep: Callable[[Handlers], None],
        release: Callable[[Handlers], None],
    ) -> None:
        self._turn = turn
        self.threads = threads
        self._outcome = outcome
        self._keep = keep
        self._release = release
        self._strand = Strand(self._work)
        # Appended to by ``on``; ``run_here`` takes away what it added. Iterated over as a copy.
        self._registrations: list[_Registration] = []
        self._callback_errors: list[BaseException] = []
        # Innermost; guards only the question whether everything was told.
        self._settled = Monitor()
        self._listening = False

    @property
    def on_own_thread(self) -> bool:
        """Whether the caller is one of these callbacks."""
        return self._strand.owner == threading.get_ident()

    @property
    def registered(self) -> bool:
        """Whether there is any callback."""
        return bool(self._registrations)

    def on(self, name: str, fn: Callable[[Any], object]) -> None:
        """
        Register a callback, to be served by the callback threads.

        Raises:
            ConfigurationError: There is no such name, or the callback cannot be called.
        """
        self._register(name, fn)
        self._keep(self)
        if self._listening:
            self.threads.schedule(self._strand)
        else:
            self._listening = True
            self._turn.inbox.listen(lambda: self.threads.schedule(self._strand))

    def _register(self, name: str, fn: Callable[[Any], object]) -> _Registration:
        if name not in NAMES:
            raise ConfigurationError(
                f"There is no callback named {name!r}: choose from {', '.join(NAMES)}."
            )
        if not callable(fn):
            raise ConfigurationError(f"The {name!r} callback is {fn!r}, which cannot be called.")
        registration = _Registration(name, fn, contextvars.copy_context())
        self._registrations.append(registration)
        return registration

    def wait(self, deadline: float | None) -> bool:
        """
        Wait until the turn has ended and all callbacks were told; return whether that came in time.

        A callback thread that waits does the work meanwhile: the others may all be waiting too.

        Args:
            deadline: When to stop waiting (``time.monotonic``), or None.
        """
        if self.threads.on_own_thread:
            return self.run_here({}, deadline)
        return self._settled.wait_for(self._all_told, deadline)

    def run_here(
        self, callbacks: Mapping[str, Callable[[Any], object]], deadline: float | None
    ) -> bool:
        """
        Serve all callbacks on the calling thread until all were told.

        Args:
            callbacks: Further callbacks, served nowhere else.
            deadline: When to stop waiting (``time.monotonic``), or None.

        Returns:
            Whether that came in time.
        """
        if not self.threads.take_over(self._strand, deadline):
            return False
        own: list[_Registration] = []
        try:
            for name, fn in callbacks.items():
                own.append(self._register(name, fn))
            self._work()
            while not self._all_told():
                seen = self._told(self._registrations)
                if not self._turn.inbox.read(seen, deadline, most=1) and not self._turn.ended:
                    return False
                self._work()
            return True
        finally:
            for registration in own:
                # Nobody else serves it, so that nobody must wait for it.
                self._registrations.remove(registration)
            self.threads.give_back(self._strand)

    def _all_told(self) -> bool:
        return self._turn.ended and all(r.told_end for r in list(self._registrations))

    def _work(self) -> None:
        """Tell everyone what is new; runs on one thread at a time."""
        inbox = self._turn.inbox
        while True:
            registrations = list(self._registrations)
            self._tell_callback_errors(registrations)
            cursor = self._told(registrations)
            if cursor < len(inbox):
                for event in opened(inbox.read(cursor, most=_SLICE)):
                    self._tell(registrations, cursor, event)
                    cursor += 1
                    if len(self._registrations) != len(registrations):
                        break  # Who came meanwhile is told what the others know, before they hear more.
            elif inbox.ended and cursor == len(inbox):
                if not self._tell_end([r for r in registrations if not r.told_end]):
                    break
            else:
                break
        if self._all_told():
            with self._settled.lock:
                self._settled.notify()
            self._release(self)

    def _told(self, registrations: list[_Registration]) -> int:
        """Return how many events everyone has been told; nobody has nothing to be told."""
        return min((r.cursor for r in registrations), default=len(self._turn.inbox))

    def _tell(self, registrations: list[_Registration], cursor: int, event: Event) -> None:
        chunks = chunks_of([event])
        for registration in registrations:
            if registration.cursor != cursor:
                continue
            registration.cursor += 1
            pick = _OF_CHUNK.get(registration.name)
            if pick is not None:
                for value in map(pick, chunks):
                    if value is not None:
                        self._call(registration, value)
            elif registration.name == "event" and type(event) is not Notice:
                self._call(registration, event)

    def _tell_end(self, registrations: list[_Registration]) -> bool:
        """Tell the end to those who have not heard it; return whether there were any."""
        if not registrations:
            return False
        outcome = self._outcome()
        # From here on without the stream, which refers to this object: it goes when its last user does.
        self._outcome = lambda: outcome
        name = "error" if isinstance(outcome, BaseException) else "done"
        for registration in registrations:
            try:
                if registration.name == name:
                    self._call(registration, outcome)
            finally:
                registration.told_end = True  # Only now: ``wait`` waits for callbacks to return.
        return True

    def _call(self, registration: _Registration, value: Any) -> None:
        try:
            registration.context.run(registration.call, value)
        except BaseException as exc:
            if isinstance(exc, (KeyboardInterrupt, SystemExit)) and _on_main_thread():
                raise  # In ``run()`` these are for the program, wherever they happen to strike.
            # User code may raise anything; neither the turn nor its readers are to blame.
            logger.exception("a %r callback raised", registration.name)
            if registration.name != "callback_error":
                self._callback_errors.append(exc)
                self._tell_callback_errors(list(self._registrations))

    def _tell_callback_errors(self, registrations: list[_Registration]) -> None:
        for registration in registrations:
            while registration.name == "callback_error" and (
                told := registration.errors_told
            ) < len(self._callback_errors):
                registration.errors_told += 1
                self._call(registration, self._callback_errors[told])
