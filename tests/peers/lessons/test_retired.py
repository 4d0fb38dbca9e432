"""Connections that are over, of which a session may have had thousands: nothing of them is left to hurt."""

from __future__ import annotations

import contextlib
import gc
import threading

from tests.peers.lessons.scene import PATIENCE, TEXT, opened
from tests.responses.acting import in_threads


def retire(session):
    """End the session's connection, as after five minutes without a turn."""
    pool = session._core.pool
    slot = pool.slots[0]
    pool._idle(slot)
    assert slot.connection.join(PATIENCE)


def test_a_thread_that_is_begun_after_it_is_not_taken_for_its_io_thread():
    # The system gives the ids of threads that have ended to new ones.
    with opened() as (_, session):
        for _ in range(5):
            assert session.create("x").text == TEXT
            retire(session)
            answers = in_threads(*[lambda: session.create("y").text] * 3)
            assert answers == [TEXT] * 3


def test_a_connection_that_is_over_is_not_kept():
    with opened() as (_, session):
        turns = 10
        for _ in range(turns):
            session.create("x")
            retire(session)
        session.create("x")
        gc.collect()
        assert len(session._core.pool.all_slots) < turns
        # What they did still counts.
        assert (session.stats.turns, session.stats.dials) == (turns + 1, turns + 1)
        assert session.usage.output_tokens == 3 * (turns + 1)


def test_a_finalizer_may_close_a_session_wherever_the_collector_strikes():
    class Owner:
        def __init__(self, session):
            self.session, self.me = session, self

        def __del__(self):
            self.session.close()

    with opened() as (_, session):
        session.create("x")
        lock, came_back = session._core.pool._lock, threading.Event()

        def collect():
            Owner(session)
            lock.acquire()
            # Any allocation under the lock may run the collector, on an I/O thread too.
            gc.collect()
            came_back.set()
            with contextlib.suppress(RuntimeError):
                lock.release()

        thread = threading.Thread(target=collect, daemon=True)
        thread.start()
        back = came_back.wait(1.0)
        if not back:
            lock.release()  # Let it go on, so that nothing is left behind.
        thread.join(PATIENCE)
        assert back
