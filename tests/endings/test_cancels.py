"""Who ends a turn early, and that nobody else does."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import llmws
from llmws.testing import Server, rules
from tests.endings.script import PATIENCE, Script, answer, session_at
from tests.endings.watch import Watch, Witness, facts


ROOT = Path(__file__).resolve().parents[2]
# How many events the server sends before the cancel, and the state that the error tells.
STATES = [(None, "queued"), (0, "sent"), (1, "accepted"), (5, "output")]


def _pausing(events, *, ends):
    """Make a script that pauses in the answer of "one" until the gate opens, and then ends it, or does not."""

    def play(wire):
        wire.upgrade()
        while True:
            body = wire.create()
            if body["input"] != "one":
                wire.send(*answer("Good " + body["input"], wire.number + 10))
                continue
            wire.send(*answer()[:events])
            wire._server.reached.set()
            wire._server.gate.wait(PATIENCE)
            if ends:
                wire.send(*answer()[events:])

    return play


def _playing(events, *, ends):
    server = Script(_pausing(events, ends=ends))
    server.reached = threading.Event()
    return server


def _begin(session, server, events, patience):
    """Start a turn, and wait until it has come as far as the script goes."""
    stream = session.stream("one")
    watch = Watch(stream)
    assert server.reached.wait(patience)
    watch.saw_events(events, patience)
    return stream, watch


def _check_cancelled(watch, state, text, patience):
    for error in watch.errors(patience):
        told = facts(error)
        assert told["kind"] is llmws.StreamCancelledError
        assert told["state"] == state
        assert told["may_have_been_billed"] is (state != "queued")
        assert told["partial_text"] == text
        assert told["partial_finish_reason"] == "cancelled"
        assert (told["response_id"] is not None) is (state in ("accepted", "output"))


@pytest.mark.parametrize(("events", "state"), STATES)
def test_cancel_ends_everybody_in_every_state(events, state, patience):
    with _playing(events or 0, ends=True) as server, session_at(server.base_url) as session:
        first, watch = _begin(session, server, events or 0, patience)
        if state == "queued":
            queued = session.stream("never")
            watch = Watch(queued)
            queued.cancel()
        else:
            first.cancel()
        _check_cancelled(watch, state, "Hello" if events == 5 else "", patience)
        server.gate.set()
        # What still comes of the first answer is dropped; the next turn has the same connection to itself.
        other = Watch(session.stream("two"))
        other.check_result("Good two", patience)
        assert [e.raw for e in other.witnesses["events"].seen] == answer("Good two", 11)
        assert [create["input"] for create in server.creates] == ["one", "two"]
        assert server.connections == 1


def test_late_events_of_a_turn_that_timed_out_never_reach_the_next(patience):
    with _playing(5, ends=True) as server, session_at(server.base_url) as session:
        watch = Watch(session.stream("one", timeouts={"idle": 0.1}))
        errors = watch.errors(patience)
        assert {type(error) for error in errors} == {llmws.IdleTimeout}
        other = Watch(session.stream("two"))
        server.gate.set()
        other.check_result("Good two", patience)
        assert len(other.witnesses["events"].seen) == len(answer())


def test_a_connection_that_does_not_drain_is_replaced(patience):
    with _playing(5, ends=False) as server, session_at(server.base_url) as session:
        stream, watch = _begin(session, server, 5, patience)
        stream.cancel()
        _check_cancelled(watch, "output", "Hello", patience)
        Watch(session.stream("two")).check_result("Good two", patience)
        assert (server.connections, session.stats.dials) == (2, 2)
        assert session.stats.lost == 0  # It was given up here.


def test_a_hard_cancel_replaces_the_connection_at_once(monkeypatch, patience):
    monkeypatch.setattr("llmws.responses.routing.books.DRAIN_SECONDS", 3600.0)
    with _playing(5, ends=False) as server, session_at(server.base_url) as session:
        stream, watch = _begin(session, server, 5, patience)
        stream.cancel(hard=True)
        _check_cancelled(watch, "output", "Hello", patience)
        Watch(session.stream("two")).check_result("Good two", patience)
        assert server.connections == 2


def test_cancel_behind_the_end_changes_nothing(patience):
    with Server(rule=rules.text("Hello world")) as server, session_at(server.base_url) as session:
        stream = session.stream("one")
        Watch(stream).check_result("Hello world", patience)
        stream.cancel()
        stream.cancel(hard=True)
        stream.close()
        Watch(stream).check_result("Hello world", patience)
        Watch(session.stream("two")).check_result("Hello world", patience)
        assert server.ledger.connections == 1


def _close(stream):
    stream.close()
    stream.close()


def _leave(stream):
    with stream:
        pass


def _leave_by_error(stream):
    with pytest.raises(ZeroDivisionError), stream:
        raise ZeroDivisionError


@pytest.mark.parametrize("end", [_close, _leave, _leave_by_error])
def test_closing_or_leaving_a_stream_cancels_it(end, patience):
    with _playing(5, ends=False) as server, session_at(server.base_url) as session:
        stream, watch = _begin(session, server, 5, patience)
        end(stream)
        _check_cancelled(watch, "output", "Hello", patience)
        Watch(session.stream("two")).check_result("Good two", patience)


def test_a_turn_that_nothing_holds_is_cancelled(patience):
    with _playing(5, ends=False) as server, session_at(server.base_url) as session:
        inbox = session.stream("one")._turn.inbox  # All that is left of it.
        gc.collect()
        assert Witness("end", lambda note: inbox.wait_ended()).end(patience) is None
        assert type(inbox.error) is llmws.StreamCancelledError
        Watch(session.stream("two")).check_result("Good two", patience)


@pytest.mark.parametrize("holder", ["iterator", "waiter", "callback"])
def test_a_turn_that_anything_holds_goes_on(holder, patience):
    with _playing(5, ends=True) as server, session_at(server.base_url) as session:
        stream = session.stream("one")
        told, done = [], threading.Event()
        if holder == "iterator":
            texts = stream.texts()
            reader = Witness("reader", lambda note, it=texts: [note(text) for text in it])
            del texts
        elif holder == "waiter":
            reader = Witness("reader", lambda note, wait=stream.response: note(wait().text))
        else:
            stream.on("done", lambda response: (told.append(response.text), done.set()))
        assert server.reached.wait(patience)
        del stream
        gc.collect()
        server.gate.set()
        if holder == "callback":
            assert done.wait(patience), "the callback was not called"
            assert told == ["Hello world"]
        else:
            assert reader.end(patience) is None
            assert "".join(reader.seen) == "Hello world"


def test_break_drops_one_reader_and_not_the_turn(patience):
    with _playing(5, ends=True) as server, session_at(server.base_url) as session:
        stream = session.stream("one")
        watch = Watch(stream)

        def leave_early(note):
            for text in stream.texts():
                note(text)
                break

        leaver = Witness("leaver", leave_early)
        assert leaver.end(patience) is None
        gc.collect()
        server.gate.set()
        watch.check_result("Hello world", patience)
        assert leaver.seen == ["Hello"]


@pytest.mark.parametrize(("events", "state"), STATES)
def test_closing_the_session_ends_everybody(events, state, patience):
    with _playing(events or 0, ends=True) as server, session_at(server.base_url) as session:
        stream, watch = _begin(session, server, events or 0, patience)
        queued = Watch(session.stream("never"))
        Witness("close", lambda note: session.close(wait=False)).end(patience)
        if state != "queued":
            _check_cancelled(watch, state, "Hello" if events == 5 else "", patience)
        _check_cancelled(queued, "queued", "", patience)
        Watch(stream).errors(patience)  # Also those that come later.
        for begin in (session.stream, session.create):
            with pytest.raises(llmws.SessionClosedError):
                begin("more")


# Each way to wait is interrupted in its turn; the turn behind it has the lane at once.
_PROGRAM = """
import os, signal, sys, threading, llmws
from llmws.testing import Server
from llmws.testing.answer import Answer

def rule(request):
    built = Answer(request)
    yield from built.start()
    if request.body["input"] == "hang":
        waiting.set()
        request.connection.closed.wait(30)
        return
    yield from built.message("Good again")
    yield from built.complete()

def say(word):
    print(word, flush=True)

def in_wait():
    frame = sys._current_frames()[threading.main_thread().ident]
    names = []
    while frame:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names[0] == "wait" and "_waiting" in names

def interrupt():
    # Of a thread that begins to wait nobody is told, so it is looked at. CPython loses a signal that comes in the
    # instant before the wait proper, so one that had no effect is sent again.
    nobody = threading.Event()
    while not (waiting.is_set() and in_wait()):
        nobody.wait(0.002)
    while True:
        os.kill(os.getpid(), signal.SIGINT)
        if caught.wait(2):
            return

ways = {
    "chunks": lambda stream: list(stream),
    "response": lambda stream: stream.response(),
    "wait": lambda stream: stream.wait(),
    "callbacks": lambda stream: stream.on("done", print).wait(),
    "run": lambda stream: stream.run(text=print),
    "create": None,
}
with Server(rule=rule) as server:
    for name, way in ways.items():
        waiting, caught = threading.Event(), threading.Event()
        with llmws.Session("m", base_url=server.base_url, timeouts={"lane_wait": PATIENCE}) as session:
            threading.Thread(target=interrupt, daemon=True).start()
            try:
                if way is None:
                    session.create("hang")
                else:
                    stream = session.stream("hang")
                    way(stream)
            except KeyboardInterrupt:
                caught.set()
            else:
                say(f"{name} was not interrupted")
            if way is not None:
                try:
                    stream.response(PATIENCE)
                except llmws.StreamCancelledError as error:
                    assert "Ctrl-C" in str(error), error
            say(name + " " + session.create("go on").text)
"""


def test_ctrl_c_in_a_reader_cancels_its_turn_and_frees_the_lane(patience):
    interrupt(patience)


def interrupt(patience, broken=""):
    """Run the program, and interrupt it whenever it waits; some code may break its library first."""
    drain = "import llmws.responses.routing.books as books; books.DRAIN_SECONDS = 0.05\n"
    program = drain + broken + _PROGRAM.replace("PATIENCE", str(patience))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=40
    )
    names = ["chunks", "response", "wait", "callbacks", "run", "create"]
    assert done.stdout.splitlines() == [f"{name} Good again" for name in names], done.stderr
    assert (done.returncode, done.stderr) == (0, "")
