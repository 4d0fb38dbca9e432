"""Making a recording of what a session does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ..responses.session import Session
from ..wire.recording import Recorder, save


__all__ = ["record"]


@contextlib.contextmanager
def record(session: Session, path: str | os.PathLike[str]) -> Iterator[Recorder]:
    """
    Record what a session sends and receives while the block runs.

    The file is written only if the block does not raise, so that a failed test leaves the last good recording alone.
    Keys are taken out of it, and it has no handshake headers. Enter the block before the session's first turn, or the
    recording begins in the middle of a connection. Turns that overlap are recorded as they overlap, whatever
    connections they run on: what shall be replayed is best recorded one turn at a time.

    ::

        with llmws.Session(model="gpt-6-astra") as session, record(session, "recordings/greeting.jsonl"):
            session.create("Hello!")

    Args:
        session: Whose traffic.
        path: The file, replaced if it exists.

    Raises:
        OSError: The file cannot be written.
    """
    pool = session._core.pool
    recorder = Recorder(secrets=session._core.secrets)
    previous, pool.tap = pool.tap, recorder
    try:
        yield recorder
    finally:
        pool.tap = previous
    save(recorder.recording(), path, secrets=tuple(session._core.secrets()))
