"""
Lesson 5: what is sent behind a parent is exactly what the server lacks; where that cannot be, all of it, and why.

The numbers in the docstrings are the issues in which users of other clients met the bug.
"""

from __future__ import annotations

import pytest

import llmws
from llmws.testing import Semantics, rules
from tests.peers.lessons.scene import PATIENCE, TEXT, creates, giving, opened


CALL_ID = "call_" + "x" * 80


def message(text):
    return {"type": "message", "role": "user", "content": text}


def call(kind, **fields):
    return {"type": kind, "id": f"{kind}_1", "status": "completed", **fields}


def function_call(call_id=CALL_ID):
    return call("function_call", call_id=call_id, name="look_up", arguments="{}")


def answer(call_id=CALL_ID, text="found"):
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def inputs(server):
    return [entry.body["input"] for entry in server.ledger.requests]


SHELL = {"stdout": "", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}
KINDS = {
    "function": (function_call(), answer()),
    "custom": (
        call("custom_tool_call", call_id="call_1", name="sql", input="select 1"),
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "1"},
    ),
    "shell": (
        call("shell_call", call_id="call_1", action={"commands": ["ls"]}),
        {"type": "shell_call_output", "call_id": "call_1", "output": [SHELL]},
    ),
    "local shell": (
        call("local_shell_call", call_id="call_1", action={"type": "exec", "command": ["ls"]}),
        {"type": "local_shell_call_output", "id": "call_1", "output": "{}"},
    ),
    "computer": (
        call("computer_call", call_id="call_1", action={"type": "screenshot"}),
        {
            "type": "computer_call_output",
            "call_id": "call_1",
            "output": {"type": "computer_screenshot", "image_url": "data:"},
        },
    ),
    "patch": (
        call("apply_patch_call", call_id="call_1", operation={"type": "delete_file", "path": "a"}),
        {"type": "apply_patch_call_output", "call_id": "call_1", "status": "completed"},
    ),
    "approval": (
        call("mcp_approval_request", name="look_up", arguments="{}", server_label="s"),
        {
            "type": "mcp_approval_response",
            "approval_request_id": "mcp_approval_request_1",
            "approve": True,
        },
    ),
}


@pytest.mark.parametrize(
    "field",
    [
        {"instructions": "Be long."},
        {"model": "another"},
        {"tools": [{"type": "web_search"}]},
        {"tool_choice": "none"},
        {"reasoning": {"effort": "high"}},
        {"text": {"verbosity": "low"}},
        {"temperature": 0.5},
        {"max_output_tokens": 100},
        {"metadata": {"a": "b"}},
        {"include": ["reasoning.encrypted_content"]},
        {"parallel_tool_calls": False},
        {"a_field_of_tomorrow": 1},
    ],
    ids=lambda field: next(iter(field)),
)
def test_every_field_besides_the_input_is_compared(field):
    """codex#11343: only some were, and the server went on with the old ones."""
    with opened() as (server, session):
        chat = session.conversation(instructions="Be brief.")
        chat.create("one")
        stream = chat.stream("two", **field)
        assert stream.response(PATIENCE).text == TEXT
        name = next(iter(field))
        assert (stream.sent.kind, stream.sent.reason) == ("full", f"settings changed: {name}")
        body = server.ledger.requests[-1].body
        assert "previous_response_id" not in body
        assert len(body["input"]) == 3


def test_equal_fields_of_other_objects_are_the_same():
    """codex#11343, the other way round: what is equal must not cost a full send."""
    with opened() as (_, session):
        chat = session.conversation()
        chat.create("one", metadata={"a": "1"}, tools=[{"type": "web_search"}])
        stream = chat.stream("two", tools=[{"type": "web_search"}], metadata={"a": "1"})
        stream.response(PATIENCE)
        assert stream.sent.kind == "delta"


def test_the_servers_own_output_is_not_sent_back_behind_its_response():
    """codex#11383: each turn sent the last answer again."""
    with opened() as (server, session):
        chat = session.conversation()
        for text in ("one", "two", "three"):
            chat.create(text)
        assert inputs(server) == [[message("one")], [message("two")], [message("three")]]


def test_outputs_go_alone_and_no_call_is_put_back_behind_its_response():
    """CLIProxyAPI#3569: old calls were filled in before the outputs, and the server had them twice."""
    with opened(rules.sequence(giving([function_call()]), rules.text(TEXT))) as (server, session):
        chat = session.conversation()
        chat.create("one")
        chat.create(answer())
        assert inputs(server)[1] == [answer()]
        assert chat.create("two").text == TEXT
        assert inputs(server)[2] == [message("two")]


@pytest.mark.parametrize("store", [None, False])
def test_a_call_id_longer_than_64_characters_is_the_same_on_both_sides(store):
    """oh-my-pi#7279: it was shortened on one of them, so that the histories never matched again."""
    rule = rules.sequence(giving([function_call()]), rules.text(TEXT))
    fields = {} if store is None else {"store": store}
    with opened(rule) as (server, session):
        chat = session.conversation(**fields)
        assert chat.create("one").tool_calls[0].id == CALL_ID
        stream = chat.stream(answer())
        assert stream.response(PATIENCE).text == TEXT
        assert stream.sent.kind == "delta"
        chat.truncate_to(3)
        chat.create("again")
        call_ids = [item["call_id"] for item in inputs(server)[-1] if "call_id" in item]
        assert call_ids == [CALL_ID, CALL_ID]


def test_an_output_is_frozen_once_it_was_given():
    """lingtai-kernel#474: an output that was made anew for each request broke the prefix every time."""
    rule = rules.sequence(giving([function_call()]), rules.text(TEXT))
    with opened(rule) as (server, session):
        chat = session.conversation()
        chat.create("one")
        chat.create(answer(text="at 12:00"))
        with pytest.raises(llmws.ConfigurationError, match="output"):
            chat.create([answer(text="at 12:01"), message("two")])
        assert chat.create([answer(text="at 12:00"), message("two")]).text == TEXT
        assert inputs(server)[1:] == [[answer(text="at 12:00")], [message("two")]]


@pytest.mark.parametrize(("asked", "given"), KINDS.values(), ids=KINDS)
def test_the_outputs_of_every_kind_of_tool_are_known_for_what_they_are(asked, given):
    """sub2api#2747: only those of functions were, and the others were sent as a fresh start."""
    with opened(rules.sequence(giving([asked]), rules.text(TEXT))) as (server, session):
        chat = session.conversation()
        chat.create("one")
        with pytest.raises(llmws.ConfigurationError):
            chat.create("two")  # It would be refused: the call has no output yet.
        stream = chat.stream(given)
        assert stream.response(PATIENCE).text == TEXT
        assert stream.sent.kind == "delta"
        assert inputs(server)[1] == [given]


def test_each_conversation_has_a_parent_of_its_own():
    """openclaw#44945, #78142: one parent was kept for all, and users read each other's answers."""
    with opened(rules.echo(), lanes=True) as (server, session):
        chats = [session.conversation(store=False, instructions=str(n)) for n in range(4)]
        ids = [set() for _ in chats]
        for turn in range(3):
            for number, chat in enumerate(chats):
                response = chat.create(f"{number}-{turn}")
                assert response.text == f"{number}-{turn}"
                ids[number].add(response.id)
        for entry in server.ledger.requests:
            own = ids[int(entry.body["instructions"])]
            assert entry.previous_response_id in (own | {None})
        assert session.stats.deltas == 8


@pytest.mark.parametrize("edit", ["truncated", "replaced", "settings", "not found"])
def test_no_item_is_sent_twice_when_the_history_is_replayed_on_a_socket_that_has_it(edit):
    """pi#5162: 400 ``Duplicate item found with id msg_*``."""
    with opened() as (server, session):
        chat = session.conversation(store=False)
        chat.create("one")
        chat.create("two")
        fields = {}
        if edit == "truncated":
            chat.truncate_to(2)
        elif edit == "replaced":
            chat.items = chat.items[:3]
        elif edit == "settings":
            fields = {"instructions": "Be brief."}
        else:
            server.forget()
        stream = chat.stream("three", **fields)
        assert stream.response(PATIENCE).text == TEXT
        assert stream.sent.kind == "full"
        last = server.ledger.requests[-1]
        assert (last.connection, last.previous_response_id) == (1, None)
        ids = [item["id"] for item in last.body["input"] if "id" in item]
        assert len(ids) == len(set(ids))
        assert chat.create("four").text == TEXT


def test_an_edited_history_is_sent_in_full_and_the_reason_told():
    """sub2api#2098: the server went on from what the user had taken back."""
    with opened() as (server, session):
        chat = session.conversation()
        chat.create("one")
        chat.create("two")
        chat.truncate_to(2)
        stream = chat.stream("three")
        stream.response(PATIENCE)
        assert (stream.sent.kind, stream.sent.reason) == ("full", "history edited")
        texts = [item["content"] for item in inputs(server)[-1] if item["role"] == "user"]
        assert texts == ["one", "three"]


def test_a_fork_does_not_disturb_its_source():
    """sub2api#2098: both went on from the same response, and one of them lost it."""
    with opened(rules.echo(), lanes=True) as (_, session):
        chat = session.conversation(store=False)
        chat.create("one")
        fork = chat.fork()
        assert fork.create("left").text == "left"
        assert chat.create("right").text == "right"
        assert fork.create("left").text == "left"
        assert [item["content"] for item in chat.items if item["role"] == "user"] == [
            "one",
            "right",
        ]
        assert session.stats.retries == 0


def test_of_each_turn_it_is_told_what_was_sent_why_and_what_that_saved():
    """lingtai-kernel#474: diagnostics had to be added to see why nothing was ever saved."""
    with opened(server={"semantics": Semantics()}) as (server, session):
        chat = session.conversation(instructions="Be brief.")
        for text in ("one", "two"):
            chat.create(text)
        chat.create("three", instructions="Be long.")
        sent = [record.sent for record in chat.turns]
        assert [(each.kind, each.reason) for each in sent] == [
            ("full", "first turn"),
            ("delta", "parent cached"),
            ("full", "settings changed: instructions"),
        ]
        assert [each.items for each in sent] == [1, 1, 5]
        assert [each.saved_bytes > 0 for each in sent] == [False, True, False]
        stats = session.stats
        assert (stats.fulls, stats.deltas, stats.saved_bytes) == (2, 1, sent[1].saved_bytes)
        assert [bool(parent) for _, parent, _ in creates(server)] == [False, True, False]
