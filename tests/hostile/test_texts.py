"""What a model or a server writes is text: it is given on as it is, and nothing that llmws does with it obeys it."""

from __future__ import annotations

import ast
import json
import logging
from pathlib import Path

import pytest

import llmws
from llmws.responses.stream import chunks
from llmws.responses.vocabulary.events import from_raw
from llmws.testing import record
from llmws.wire.framing import TEXT, encode, encode_close
from tests.endings.script import PATIENCE, Script, answer, session_at


LIMITS = {"total": PATIENCE}
# Clears a screen, sets a title, forges a line of a log, runs backwards, rings, ends a line as some terminals see it.
EVIL = "\x1b[2J\x1b]0;title\x07 \r\nERROR forged\u202e \x08\x9b2J\x85\u2028 '; DROP TABLE x; --"
PATHS = ("../../evil", "/etc/evil", "C:\\evil", "evil\0.jsonl", "~/evil", "evil" * 1000)
PACKAGE = Path(llmws.__file__).parent


def playing(*turns):
    """Make a script that answers each request with the next turn's events."""

    def play(wire):
        wire.upgrade()
        for events in turns:
            wire.create()
            wire.send(*events)
        wire.until_closed()

    return play


def evil_answer():
    """Return an answer with escapes wherever a server may write."""
    events = json.loads(json.dumps(answer(f"Hello {EVIL}")))
    for event in events:
        event[EVIL] = EVIL
        for value in (event, event.get("item"), event.get("response")):
            if isinstance(value, dict):
                value.update({name: EVIL for name in ("id", "item_id", "model") if name in value})
    return events


def test_escapes_in_an_answer_stay_in_it_and_reach_no_repr_and_no_log(caplog):
    caplog.set_level(logging.DEBUG)
    events = evil_answer()
    with Script(playing(events)) as server, session_at(server.base_url) as session:
        stream = session.stream("one", timeouts=LIMITS)
        assert "".join(stream.texts()) == f"Hello {EVIL}"
        assert [event.raw for event in stream.events()] == events
        response = stream.response()
        assert (response.text, response.id, response.model) == (f"Hello {EVIL}", EVIL, EVIL)
        shown = [
            session,
            stream,
            stream._turn,
            response,
            *response.output,
            *stream,
            *stream.events(),
        ]
        for thing in shown:
            assert repr(thing).isprintable(), type(thing)
        blocks = list(stream.sse())
    assert all(block.count(b"\n") == 3 for block in blocks), "a text broke out of its SSE line"
    assert [json.loads(block.split(b"\ndata: ")[1]) for block in blocks] == events
    assert printable(caplog.messages)


def printable(lines):
    """Tell whether no line of a log is more than one, or moves the cursor."""
    return [line for line in lines if not line.isprintable()] == []


def test_no_id_and_no_reason_of_a_close_forges_a_line_of_the_log(caplog):
    caplog.set_level(logging.DEBUG)
    events = evil_answer()
    del events[4]  # The log names a response that has numbers missing.

    def play(wire):
        closing = bytes(encode_close(1011, EVIL))
        if wire.number > 1:
            wire.upgrade(closing)  # Before anything can be asked.
        else:
            wire.upgrade()
            wire.create()
            # In one piece, so that nothing is asked in between.
            wire.raw(b"".join(encode(TEXT, json.dumps(each).encode()) for each in events) + closing)
        wire.until_closed()

    with Script(play) as server, session_at(server.base_url) as session:
        assert session.create("one", timeouts=LIMITS).id == EVIL
        with pytest.raises(llmws.ConnectError):
            session.create("two", timeouts=LIMITS)
        for thing in (
            session._core.lanes,
            session._core.connection,
            session._core.connection._link,
        ):
            assert repr(thing).isprintable()
    assert "numbers missing" in caplog.text
    assert "dialling again" in caplog.text
    assert printable(caplog.messages)


CALLS = {
    "function_call": {"arguments": "__import__('os').system('touch evil')"},
    "shell_call": {"action": {"commands": ["touch evil"]}},
    "local_shell_call": {"action": {"type": "exec", "command": ["touch", "evil"]}},
    "apply_patch_call": {"operation": {"type": "create_file", "path": "evil", "diff": "+evil"}},
    "code_interpreter_call": {"code": "open('evil', 'w')"},
}


@pytest.mark.parametrize("kind", CALLS)
def test_a_call_that_nobody_answers_is_data_and_nothing_is_done(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    item = {"type": kind, "id": "i", "call_id": "c", "name": "os.system", **CALLS[kind]}
    done = from_raw({"type": "response.output_item.done", "output_index": 0, "item": item})
    call = chunks.from_event(done).tool_call
    assert call.name
    repr(call)
    assert list(tmp_path.iterdir()) == []


# Nothing that comes over the wire is ever run, unpickled, imported by name or looked up as an attribute.
DANGEROUS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "import_module",
    "system",
    "popen",
    "Popen",
    "run_path",
}
MODULES = {
    "pickle",
    "marshal",
    "shelve",
    "subprocess",
    "ctypes",
    "yaml",
    "webbrowser",
    "runpy",
}


def test_the_library_has_nothing_to_run_a_text_with():
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names} & MODULES
            elif isinstance(node, ast.ImportFrom):
                names = {(node.module or "").split(".")[0]} & MODULES
            elif isinstance(node, ast.Call):
                called = node.func
                # A regular expression is compiled too, and that is harmless.
                names = {getattr(called, "id", getattr(called, "attr", ""))} & DANGEROUS
                of = getattr(getattr(called, "value", None), "id", "")
                names -= {"compile"} if of == "re" else set()
                if all(isinstance(argument, ast.Constant) for argument in node.args):
                    names -= {"import_module"}
            else:
                continue
            found += [f"{path.relative_to(PACKAGE)}:{node.lineno} {name}" for name in names]
    assert found == []


@pytest.mark.parametrize("name", PATHS)
def test_no_id_is_ever_a_file_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    events = answer()
    for event in events:
        for value in (event, event.get("item"), event.get("response")):
            if isinstance(value, dict):
                value.update({key: name for key in ("id", "item_id", "model") if key in value})
    target = tmp_path / "inner" / "recording.jsonl"
    with (
        Script(playing(events)) as server,
        session_at(server.base_url) as session,
        record(session, target),
    ):
        assert session.create("one", timeouts=LIMITS).id == name
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == [target]


def test_no_address_in_an_answer_is_ever_dialled():
    with Script(playing()) as other:
        events = answer()
        address = other.base_url
        for event in events:
            event.update(
                dict.fromkeys(("url", "location", "base_url", "redirect", "image_url"), address)
            )
        events.insert(
            3, {"type": "error", "error": {"headers": {"Location": address}, "message": address}}
        )
        play = playing(events, answer("Good again"))
        with Script(play) as server, session_at(server.base_url) as session:
            assert session.create("one", timeouts=LIMITS).text == "Hello world"
            assert session.create("two", timeouts=LIMITS).text == "Good again"
            assert session.stats.dials == 1
        assert other.connections == 0


def test_an_event_too_deep_to_be_searched_for_keys_is_not_recorded(tmp_path, monkeypatch):
    # What is not searched might hold a key; how deep a search goes depends on the version of Python.
    monkeypatch.setattr("llmws.wire.recording.scrub", lambda *_: too_deep(1))
    target = tmp_path / "recording.jsonl"
    with (
        Script(playing(answer())) as server,
        session_at(server.base_url) as session,
        pytest.raises(llmws.RecordingError, match="too deep"),
        record(session, target),
    ):
        session.create("one", timeouts=LIMITS)
    assert not target.exists()


def too_deep(level):
    return too_deep(level + 1)
