"""A conversation sends what the server lacks, keeps what was said, and never mixes the two up."""

import json
import threading

import pytest

import llmws
from llmws.errors import (
    ConfigurationError,
    SessionClosedError,
    StreamInterruptedError,
    WouldDeadlockError,
)
from llmws.responses.conversation.chain import Chain
from llmws.responses.conversation.conversation import Conversation
from llmws.responses.sending.continuation import Anchor
from llmws.responses.stream.legs import Leg
from llmws.responses.stream.snapshot import Response
from tests.responses.acting import in_threads, until
from tests.responses.chatting import Desk, ask, call, output, said, steer, user


@pytest.fixture
def desk():
    return Desk()


def sent(chat):
    turns = chat if isinstance(chat, list) else chat.turns
    return [(turn.sent.kind, turn.sent.reason) for turn in turns]


def inputs(desk):
    return [create.body["input"] for create in desk.creates]


# What is sent.


def test_the_first_turn_is_full_and_the_next_ones_are_deltas(desk):
    chat = desk.conversation(instructions="Be brief.")
    for text in "abc":
        ask(desk, chat, text)
    assert sent(chat) == [
        ("full", "first turn"),
        ("delta", "parent cached"),
        ("delta", "parent cached"),
    ]
    assert inputs(desk) == [[user("a")], [user("b")], [user("c")]]
    assert [create.body.get("previous_response_id") for create in desk.creates] == [
        None,
        "resp_1",
        "resp_2",
    ]
    assert all(create.body["instructions"] == "Be brief." for create in desk.creates)
    assert [turn.sent.saved_bytes > 0 for turn in chat.turns] == [False, True, True]


def test_the_servers_own_output_is_never_sent_back_behind_its_response(desk):
    chat = desk.conversation()
    ask(desk, chat, "a", output=[said("A", "msg_a"), call("c")])
    create = ask(desk, chat, [output("c")])
    assert create.body["input"] == [output("c")]
    assert create.context == [user("a"), said("A", "msg_a"), call("c"), output("c")]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"instructions": "Be long."}, "instructions"),
        ({"tools": [{"type": "web_search"}], "model": "other"}, "model, tools"),
        ({"store": False}, "include, store"),
        ({"metadata": {"a": "b"}}, "metadata"),
    ],
)
def test_a_changed_field_sends_everything_and_says_which(desk, changes, names):
    chat = desk.conversation(instructions="Be brief.")
    ask(desk, chat, "a")
    ask(desk, chat, "b", changes)
    ask(desk, chat, "c")
    assert sent(chat)[1:] == [("full", f"settings changed: {names}")] * 2
    assert len(desk.creates[-1].body["input"]) == 5


def test_turns_with_the_same_changes_follow_each_other_as_deltas(desk):
    chat = desk.conversation()
    for text in "abc":
        ask(desk, chat, text, {"temperature": 0.5})
    assert [kind for kind, _ in sent(chat)] == ["full", "delta", "delta"]


def test_a_value_that_is_changed_behind_our_back_changes_nothing(desk):
    tools = [{"type": "web_search"}]
    chat = desk.conversation(tools=tools)
    ask(desk, chat, "a")
    tools.append({"type": "file_search"})
    ask(desk, chat, "b")
    assert [kind for kind, _ in sent(chat)] == ["full", "delta"]
    assert desk.creates[-1].body["tools"] == [{"type": "web_search"}]


def test_store_is_only_sent_when_told(desk):
    ask(desk, desk.conversation(), "a")
    ask(desk, desk.conversation(store=True), "a")
    ask(desk, desk.conversation(store=False, include=["x"]), "a")
    assert [create.body.get("store") for create in desk.creates] == [None, True, False]
    assert desk.creates[-1].body["include"] == ["x", "reasoning.encrypted_content"]


@pytest.mark.parametrize("store", [None, True])
def test_a_stored_parent_outlives_the_connection(desk, store):
    chat = desk.conversation(**({} if store is None else {"store": store}))
    ask(desk, chat, "a")
    desk.drop_connection()
    create = ask(desk, chat, "b")
    assert sent(chat)[1] == ("delta", "parent stored")
    assert create.context == [user("a"), said("ok", "msg_1"), user("b")]


def test_a_lost_connection_without_storage_sends_everything_reasoning_too(desk):
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}
    chat = desk.conversation(store=False)
    ask(desk, chat, "a", output=[reasoning, said("A", "msg_1")])
    desk.drop_connection()
    create = ask(desk, chat, "b")
    assert chat.turns[1].sent.kind == "full"
    assert create.body["input"] == [user("a"), reasoning, said("A", "msg_1"), user("b")]


def test_a_parent_that_is_not_found_is_replayed_in_full_once_and_the_chain_goes_on(desk):
    chat = desk.conversation()
    ask(desk, chat, "a")
    desk.drop_connection()
    desk.stored.clear()
    ask(desk, chat, "b")
    ask(desk, chat, "c")
    assert desk.refused == 1
    assert sent(chat)[1:] == [
        ("full", "server did not find the parent"),
        ("delta", "parent cached"),
    ]
    assert len(chat.items) == 6


def test_a_server_that_keeps_nothing_is_not_asked_for_what_it_stored():
    desk = Desk(zero_retention=True)
    chat = desk.conversation()
    ask(desk, chat, "a")
    desk.drop_connection()
    ask(desk, chat, "b")
    assert chat.turns[1].sent.kind == "full"
    assert desk.refused == 0


@pytest.mark.parametrize("how", ["failed", "lost", "cancelled", "refused"])
def test_a_turn_that_ends_otherwise_leaves_the_conversation_at_its_parent(desk, how):
    chat = desk.conversation()
    ask(desk, chat, "a")
    before = chat.items
    ask(desk, chat, "b", how=how)
    assert chat.items == before
    assert chat.response_id == "resp_1"
    create = ask(desk, chat, "c")
    assert sent(chat)[2] == ("full", "parent lost by an error")
    assert create.body["input"] == [*before, user("c")]
    ask(desk, chat, "d")
    assert sent(chat)[3] == ("delta", "parent cached")


def test_a_turn_that_was_never_sent_costs_nothing(desk):
    chat = desk.conversation()
    ask(desk, chat, "a")
    stream = chat.stream("b")
    stream._turn.sent = None
    desk.finish(stream._turn, "lost")
    ask(desk, chat, "c")
    assert (chat.turns[1].sent, chat.turns[2].sent.kind) == (None, "delta")


def test_a_steered_turn_that_breaks_costs_a_full_one(desk):
    chat = desk.conversation()
    ask(desk, chat, "a")
    stream = chat.stream("b")
    desk.finish(stream._turn, output=[said("B", "msg_b")])
    (first,) = desk.legs(stream._turn)
    broken = Response.from_wire({"id": "resp_s", "status": "failed"})
    legs, desk.legs = desk.legs, lambda turn: [first, Leg([user("Shorter.")], broken)]
    assert [turn.sent is None for turn in chat.turns] == [False, False, True]
    desk.legs = legs
    ask(desk, chat, "c")
    assert sent(chat.turns[-1:])[0] == ("full", "parent lost by an error")


def test_an_incomplete_response_is_part_of_the_conversation(desk):
    chat = desk.conversation()
    cut = said("A", "msg_1", status="incomplete")
    ask(
        desk,
        chat,
        "a",
        how="incomplete",
        output=[cut],
        incomplete_details={"reason": "max_output_tokens"},
    )
    create = ask(desk, chat, "go on")
    assert chat.turns[0].status == "incomplete"
    assert chat.turns[1].sent.kind == "delta"
    assert create.context == [user("a"), cut, user("go on")]


def test_a_call_that_was_cut_off_is_dropped_and_all_else_is_sent_again(desk):
    chat = desk.conversation()
    cut = call("c", arguments='{"q', status="incomplete")
    ask(desk, chat, "a", how="incomplete", output=[said("A", "msg_1"), cut])
    create = ask(desk, chat, "go on")
    assert sent(chat)[1] == ("full", "the parent ends in the middle of a call")
    assert create.body["input"] == [user("a"), said("A", "msg_1"), user("go on")]


def test_a_response_without_an_id_cannot_be_followed(desk):
    chat = desk.conversation()
    ask(desk, chat, "a", id="")
    ask(desk, chat, "b")
    assert sent(chat)[1] == ("full", "the parent has no id")
    assert chat.turns[0].response_id is None


def test_a_delta_turn_costs_the_same_after_ten_turns_and_after_ten_thousand_items(desk):
    sizes = []
    for count in (10, 10_000):
        chat = desk.conversation()
        chat.items = [user("x" * 10)] * count
        ask(desk, chat, "first")
        ask(desk, chat, "second")
        sizes.append(chat.turns[1].sent.bytes - len(chat.turns[0].response_id))
    assert sizes[0] == sizes[1]


# Pending calls.


def test_calls_without_outputs_are_refused_before_anything_is_sent(desk):
    chat = desk.conversation()
    ask(desk, chat, "a", output=[call("c1"), call("c2")])
    with pytest.raises(ConfigurationError, match="c2"):
        chat.stream([output("c1"), user("b")])
    assert len(desk.creates) == 1
    assert ask(desk, chat, [output("c2"), output("c1")]).body["input"] == [
        output("c2"),
        output("c1"),
    ]


def test_outputs_of_a_failed_turn_may_be_given_again(desk):
    chat = desk.conversation()
    ask(desk, chat, "a", output=[call("c")])
    ask(desk, chat, [output("c", "one")], how="lost")
    create = ask(desk, chat, [output("c", "two")])
    assert create.context[-2:] == [call("c"), output("c", "two")]


def test_an_output_given_again_in_a_later_turn_is_left_out_or_refused(desk):
    chat = desk.conversation()
    ask(desk, chat, "a", output=[call("c")])
    ask(desk, chat, [output("c")])
    assert ask(desk, chat, [output("c"), user("b")]).body["input"] == [user("b")]
    with pytest.raises(ConfigurationError, match="frozen"):
        chat.stream([output("c", "else")])


# Steers that wait for the outputs of calls.


STEERED = [user("a"), call("c"), user("Shorter."), output("c")]


def test_a_steer_that_waits_is_put_in_by_the_server_and_kept_here(desk):
    chat = desk.conversation()
    stream = chat.stream("a")
    steer(desk, stream, "Shorter.", "c")
    create = ask(desk, chat, [output("c")])
    assert create.body["input"] == [output("c")]
    assert create.context == chat.items[:-1] == STEERED
    assert ask(desk, chat, "b").body["input"] == [user("b")]


@pytest.mark.parametrize("way", ["lost", "forked", "restored", "warmed", "changed", "failed"])
def test_a_steer_that_waits_on_a_lane_that_is_not_used_is_sent_again(desk, way):
    chat = desk.conversation()
    stream = chat.stream("a")
    steer(desk, stream, "Shorter.", "c")
    changes = {}
    if way == "lost":
        desk.drop_connection()
    elif way == "forked":
        chat = chat.fork()
    elif way == "restored":
        chat = Conversation.from_dict(json.loads(json.dumps(chat.to_dict())), session=desk)
    elif way == "warmed":
        desk.warm_up(chat)
        desk.places = desk.places[-1:]
    elif way == "changed":
        changes = {"temperature": 0.5}
    else:
        ask(desk, chat, [output("c")], how="lost")
    create = ask(desk, chat, [output("c")], changes)
    assert create.context == create.body["input"] == chat.items[:-1] == STEERED
    assert ask(desk, chat, "b", changes).body["input"] == [user("b")]


def test_a_steer_is_gone_with_the_response_that_it_was_for(desk):
    chat = desk.conversation()
    stream = chat.stream("a")
    steer(desk, stream, "Shorter.", "c")
    chat.truncate_to(0)
    assert ask(desk, chat, "b").context == [user("b")]


# Forks and edits.


def test_a_fork_sends_nothing_and_goes_on_behind_the_same_parent(desk):
    chat = desk.conversation(store=False)
    ask(desk, chat, "a")
    fork = chat.fork()
    assert len(desk.creates) == 1
    assert (fork.turns, fork.usage.total_tokens, fork.response_id) == ([], 0, "resp_1")
    stream = fork.stream("b")
    continuation = stream._turn.continuation
    assert continuation.forked
    assert continuation.keeper is fork.keeper is not chat.keeper
    assert desk.creates[-1].place is not desk.creates[0].place
    desk.finish(stream._turn)
    ask(desk, fork, "c")
    assert not fork.stream("d")._turn.continuation.forked
    assert [kind for kind, _ in sent(fork)][:2] == ["delta", "delta"]


def test_source_and_fork_are_independent(desk):
    chat = desk.conversation()
    ask(desk, chat, "a")
    fork = chat.fork()
    common = chat.items
    ask(desk, chat, "source")
    ask(desk, fork, "fork")
    assert [item["content"] for item in (chat.items[2], fork.items[2])] == ["source", "fork"]
    assert chat.items[:2] == fork.items[:2] == common
    assert len(chat.turns) == 2
    assert len(fork.turns) == 1


def test_only_the_latest_response_is_followed(desk):
    chat = desk.conversation()
    ask(desk, chat, "a")
    fork = chat.fork()
    ask(desk, fork, "b")  # On another lane; the first one caches the parent still.
    stream = fork.stream("c")
    assert [anchor.response_id for anchor in stream._turn.continuation.anchors] == ["resp_2"]


def test_the_bytes_of_a_fork_are_those_of_its_source(desk):
    chat = desk.conversation()
    ask(desk, chat, "a")
    fork = chat.fork()
    assert all(
        map(
            lambda a, b: a is b,
            chat._course.chain.transcript.items,
            fork._course.chain.transcript.items,
        )
    )


def test_a_fork_made_while_a_turn_runs_starts_before_it(desk):
    chat = desk.conversation()
    ask(desk, chat, "a")
    stream = chat.stream("b")
    fork = chat.fork()
    desk.finish(stream._turn)
    assert (len(chat.items), len(fork.items)) == (4, 2)


def test_edited_history_is_sent_in_full(desk):
    chat = desk.conversation()
    for text in "abc":
        ask(desk, chat, text)
    chat.truncate_to(2)
    assert chat.response_id is None
    create = ask(desk, chat, "d")
    assert sent(chat)[3] == ("full", "history edited")
    assert create.body["input"] == [user("a"), said("ok", "msg_1"), user("d")]
    chat.items = [user("x")]
    assert ask(desk, chat, "e").body["input"] == [user("x"), user("e")]
    assert sent(chat)[4] == ("full", "history edited")


def test_an_edit_that_changes_nothing_is_none(desk):
    chat = desk.conversation()
    ask(desk, chat, "a")
    chat.truncate_to(2)
    ask(desk, chat, "b")
    assert sent(chat)[1][0] == "delta"


def test_a_conversation_goes_back_to_a_turn(desk):
    chat = desk.conversation()
    for text in "abc":
        ask(desk, chat, text)
    first, second, _ = chat.turns
    chat.truncate_to(second)
    assert [item.get("content") for item in chat.items if item["role"] == "user"] == ["a", "b"]
    chat.fork().truncate_to(first)
    chat.truncate_to(first)
    assert len(chat.items) == 2
    with pytest.raises(ConfigurationError, match="no part of the transcript"):
        chat.truncate_to(second)
    assert len(chat.turns) == 3


@pytest.mark.parametrize("to", [-1, 3, True, "1", None])
def test_there_is_no_going_back_to_nowhere(desk, to):
    chat = desk.conversation()
    ask(desk, chat, "a")
    with pytest.raises(ConfigurationError, match="give a turn, or 0 to 2 items"):
        chat.truncate_to(to)


def test_going_back_before_an_output_asks_for_it_anew(desk):
    chat = desk.conversation()
    ask(desk, chat, "a", output=[call("c")])
    ask(desk, chat, [output("c", "one")])
    chat.truncate_to(chat.turns[0])
    with pytest.raises(ConfigurationError, match="wait for their output"):
        chat.stream("b")
    assert ask(desk, chat, [output("c", "two")]).context[-1] == output("c", "two")


def test_a_transcript_with_an_output_without_its_call_is_refused(desk):
    chat = desk.conversation()
    chat.items = [user("a"), call("c"), output("c")]
    with pytest.raises(ConfigurationError, match=r"items\[1\] is a function_call_output without"):
        chat.items = [user("a"), output("c")]
    assert len(chat.items) == 3


def test_changing_what_was_read_changes_nothing(desk):
    chat = desk.conversation()
    ask(desk, chat, "a")
    chat.items[0]["content"] = "b"
    chat.items.clear()
    assert chat.items[0] == user("a")


# Compaction.


def compaction(number):
    return {"type": "compaction", "id": f"cmp_{number}", "encrypted_content": "e"}


def test_what_the_server_compacted_is_dropped(desk):
    chat = desk.conversation(store=False)
    ask(desk, chat, "a")
    ask(desk, chat, "b", output=[compaction(1), said("B", "msg_b")])
    ask(desk, chat, "c")
    assert sent(chat)[2] == ("delta", "parent cached")
    assert chat.items[:2] == [compaction(1), said("B", "msg_b")]
    desk.drop_connection()
    create = ask(desk, chat, "d")
    assert create.body["input"][0] == compaction(1)
    assert create.context == chat.items[:-1]


def test_a_compaction_does_not_part_an_output_from_its_call(desk):
    chat = desk.conversation()
    ask(desk, chat, "a", output=[call("c"), compaction(1)])
    ask(desk, chat, [output("c")])
    assert chat.items[0] == compaction(1)
    assert chat.items[1] == output("c")
    ask(desk, chat, "b")
    assert chat.turns[2].sent.kind == "delta"


def test_a_conversation_kept_short_by_compaction_keeps_little(desk):
    chat = desk.conversation()
    for number in range(1100):
        ask(desk, chat, "x", output=[compaction(number), said("y", f"msg_{number}")])
        desk.creates.clear()
    assert len(chat.items) == 2
    pending = chat._course.chain.pending
    assert (
        max(map(len, (pending._seen, pending._calls, pending._outputs, chat._course.chain.marks)))
        < 5
    )
    assert len(chat.turns) == 1000
    assert chat.usage.total_tokens == 7 * 1100


def test_compact_puts_what_the_server_made_in_place_of_the_transcript(desk):
    chat = desk.conversation(instructions="Be brief.", store=False)
    ask(desk, chat, "a")
    before = chat.items
    chat.compact()
    ((path, body),) = desk.posts
    assert path == "/responses/compact"
    assert body == {"model": "m", "instructions": "Be brief.", "input": before}
    assert chat.usage.total_tokens == 17
    create = ask(desk, chat, "b")
    assert sent(chat)[1] == ("full", "compacted")
    assert create.body["input"] == [
        {"type": "compaction", "id": "cmp_0", "encrypted_content": "all"}, user("b")
    ]  # fmt: skip


def test_a_compaction_that_fails_leaves_the_conversation_as_it_was(desk):
    chat = desk.conversation()
    ask(desk, chat, "a", output=[call("c")])
    with pytest.raises(ConfigurationError, match="wait for their output"):
        chat.compact()
    ask(desk, chat, [output("c")])
    desk.compacted = lambda body: {"output": []}
    with pytest.raises(llmws.RemoteProtocolError, match="stays as it was"):
        chat.compact()
    ask(desk, chat, "b")
    assert chat.turns[2].sent.kind == "delta"


# Rotation.


def test_a_warmed_connection_takes_the_next_turn_when_the_old_one_is_gone(desk):
    chat = desk.conversation(store=False)
    ask(desk, chat, "a")
    assert desk.warm_up(chat)
    warm = desk.creates[-1].body
    assert warm["generate"] is False
    assert warm["input"] == chat.items
    desk.places = [place for place in desk.places if place.connection == desk.connection]
    create = ask(desk, chat, "b")
    assert create.body["input"] == [user("b")]
    assert create.place.connection == 2


def test_a_warm_up_that_a_turn_overtook_still_saves_what_it_covers(desk):
    chat = desk.conversation(store=False)
    ask(desk, chat, "a")
    stream = chat.stream("b")
    assert desk.warm_up(chat)
    desk.finish(stream._turn)
    assert chat.response_id == "resp_3"
    desk.places = [place for place in desk.places if place.connection == desk.connection]
    create = ask(desk, chat, "c")
    assert create.body["input"] == [user("b"), said("ok", "msg_3"), user("c")]
    assert create.context == chat.items[:-1]


def test_a_warm_up_of_calls_that_wait_leaves_their_response_out(desk):
    chat = desk.conversation(store=False)
    ask(
        desk,
        chat,
        "a",
        output=[{"type": "reasoning", "id": "rs", "encrypted_content": "e"}, call("c")],
    )
    assert desk.warm_up(chat)
    assert desk.creates[-1].body["input"] == [user("a")]
    desk.places = [place for place in desk.places if place.connection == desk.connection]
    create = ask(desk, chat, [output("c")])
    assert chat.turns[-1].sent.kind == "delta"
    assert [item["type"] for item in create.context[1:]] == [
        "reasoning",
        "function_call",
        "function_call_output",
    ]


def test_a_warm_up_of_what_was_edited_since_is_worthless(desk):
    chat = desk.conversation(store=False)
    ask(desk, chat, "a")
    request = chat.warm_request()
    chat.truncate_to(0)
    chat.items = [user("x"), user("y")]
    assert not chat.add_anchor(Anchor("resp_w", request.history.count, stored=False), request)
    assert chat.stream("z")._turn.continuation.anchors == ()


def test_there_is_nothing_to_warm_up_before_the_first_turn(desk):
    assert desk.conversation().warm_request() is None


def test_a_warm_up_uses_the_settings_of_the_turn_before(desk):
    chat = desk.conversation()
    ask(desk, chat, "a", {"temperature": 0.5})
    assert json.loads(chat.warm_request().message(None, "")[0])["temperature"] == 0.5


# What is kept.


def test_usage_sums_failed_and_incomplete_turns_too(desk):
    chat = desk.conversation()
    for how in ("completed", "incomplete", "failed", "lost"):
        ask(desk, chat, "a", how=how)
    assert [turn.usage and turn.usage.total_tokens for turn in chat.turns] == [7, 7, 7, None]
    assert chat.usage.total_tokens == 21
    assert not chat.usage.raw
    assert not chat.turns[0].usage.raw


def test_records_say_what_became_of_each_turn(desk):
    chat = desk.conversation()
    ask(desk, chat, "a")
    ask(desk, chat, "b", how="failed", error={"message": "no luck " * 100})
    ask(desk, chat, "c", how="lost")
    first, second, third = chat.turns
    assert (first.response_id, first.status, first.error) == ("resp_1", "completed", None)
    assert second.status == "failed"
    assert second.error.startswith("no luck")
    assert len(second.error) <= 200
    assert (third.status, third.error) == (None, "StreamInterruptedError: lost")


def test_a_long_id_and_unknown_fields_come_back_byte_for_byte(desk):
    chat = desk.conversation(store=False)
    long = call("c" * 65, arguments='{"é":  1}', novel={"deep": [1.50, None]})
    ask(desk, chat, "a", output=[long])
    desk.drop_connection()
    assert ask(desk, chat, [output("c" * 65)]).body["input"][1] == long


def test_outcomes_are_taken_in_once_by_whoever_comes_first(desk):
    chat = desk.conversation()
    stream = chat.stream("a")
    desk.finish(stream._turn)
    counts = in_threads(*[lambda: len(chat.items)] * 8)
    assert counts == [2] * 8
    assert len(chat.turns) == 1


def test_who_comes_late_with_an_outcome_does_not_lose_the_next_turn(desk):
    chat = desk.conversation()
    ask(desk, chat, "a")
    real, streams = desk.legs, []

    def legs(turn):
        if not streams:
            desk.legs = real
            streams.append(chat.stream("b"))  # As another thread might, in the meantime.
        return real(turn)

    desk.legs = legs
    assert len(chat.items) == 2
    desk.finish(streams[0]._turn)
    assert len(chat.items) == 4


def test_a_turn_is_let_go_once_it_was_taken_in(desk):
    chat = desk.conversation()
    ask(desk, chat, "a")
    assert chat._course.running is not None
    assert chat.response_id == "resp_1"
    assert chat._course.running is None


# Waiting.


def test_a_turn_waits_for_the_one_before(desk):
    chat = desk.conversation()
    first = chat.stream("a")
    waiting = threading.Thread(target=ask, args=(desk, chat, "b"), daemon=True)
    waiting.start()
    until(lambda: chat._course._claimed_by is None and first._turn.inbox._monitor._waiting)
    assert len(desk.creates) == 1
    desk.finish(first._turn)
    waiting.join(10)
    assert inputs(desk) == [[user("a")], [user("b")]]
    assert desk.creates[1].body["previous_response_id"] == "resp_1"


def test_edits_wait_for_the_turn_that_runs(desk):
    chat = desk.conversation()
    first = chat.stream("a")
    waiting = threading.Thread(target=chat.truncate_to, args=(0,), daemon=True)
    waiting.start()
    until(lambda: first._turn.inbox._monitor._waiting)
    desk.finish(first._turn)
    waiting.join(10)
    assert chat.items == []


def test_turns_of_many_threads_follow_each_other(desk):
    desk.script = [{} for _ in range(40)]
    chat = desk.conversation()

    def talk():
        for _ in range(5):
            chat.create("x")

    in_threads(*[talk] * 8)
    assert len(chat.turns) == 40
    assert [kind for kind, _ in sent(chat)] == ["full"] + ["delta"] * 39
    assert len(chat.items) == 80
    assert desk.creates[-1].context == chat.items[:-1]


def test_no_lock_is_held_while_a_turn_is_opened(desk):
    chat = desk.conversation()
    opened = desk.open_turn
    seen = []

    def open_turn(*given, **options):
        seen.extend(in_threads(lambda: chat.items, lambda: repr(chat), chat.fork, chat.to_dict))
        return opened(*given, **options)

    desk.open_turn = open_turn
    ask(desk, chat, "a")
    assert seen[0] == []


def test_a_turn_that_cannot_be_opened_changes_nothing(desk):
    chat = desk.conversation()
    ask(desk, chat, "a")
    opened, desk.open_turn = desk.open_turn, lambda *given, **options: 1 / 0
    with pytest.raises(ZeroDivisionError):
        chat.stream("b")
    desk.open_turn = opened
    ask(desk, chat, "c")
    assert (len(chat.turns), chat.turns[1].sent.kind) == (2, "delta")


def test_a_call_in_the_middle_of_a_call_is_told_so_instead_of_waiting_for_itself(desk):
    chat = desk.conversation()

    def open_turn(*given, **options):
        chat.stream("inner")

    desk.open_turn = open_turn
    with pytest.raises(WouldDeadlockError, match="in the middle of a call"):
        chat.stream("outer")


def test_the_io_thread_never_waits_for_a_turn(desk):
    chat = desk.conversation()
    first = chat.stream("a")

    def refuse():
        raise WouldDeadlockError("no")

    desk.check_may_wait = refuse
    with pytest.raises(WouldDeadlockError):
        chat.stream("b")
    desk.finish(first._turn)
    ask(desk, chat, "c")


def test_ctrl_c_while_an_answer_is_taken_in_loses_and_doubles_nothing(desk, monkeypatch):
    chat = desk.conversation()
    ask(desk, chat, "a")
    ask(desk, chat, "b", output=[said("B", "msg_b"), call("c")])
    chain, strikes = chat._course.chain, []
    for name in ("_extend", "_follow"):
        real = getattr(chain, name)

        def struck(*given, real=real, name=name, **options):
            real(*given, **options)
            if name not in strikes:
                strikes.append(name)
                raise KeyboardInterrupt

        monkeypatch.setattr(chain, name, struck)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            _ = chat.items
    assert chat.items == [user("a"), said("ok", "msg_1"), user("b"), said("B", "msg_b"), call("c")]
    assert len(chat.turns) == 2
    create = ask(desk, chat, [output("c")])
    assert create.body["input"] == [output("c")]


def test_ctrl_c_between_the_responses_of_a_steered_turn_takes_each_in_once(desk, monkeypatch):
    chat = desk.conversation()
    stream = chat.stream("a")
    desk.finish(stream._turn, output=[said("A", "msg_a")])
    (first,) = desk.legs(stream._turn)
    second = Response.from_wire(
        {"id": "resp_s", "status": "completed", "output": [said("B", "msg_b")]}
    )
    desk.legs = lambda turn: [first, Leg([user("Shorter.")], second)]
    real = Chain.take_in

    def struck(chain, answer, record):
        if record.response_id == "resp_s":
            monkeypatch.undo()
            raise KeyboardInterrupt
        real(chain, answer, record)

    monkeypatch.setattr(Chain, "take_in", struck)
    with pytest.raises(KeyboardInterrupt):
        _ = chat.items
    assert chat.items == [user("a"), said("A", "msg_a"), user("Shorter."), said("B", "msg_b")]
    assert len(chat.turns) == 2
    assert chat.response_id == "resp_s"


def test_a_turn_waits_while_another_thread_opens_one(desk):
    chat = desk.conversation()
    opened, may_open = desk.open_turn, threading.Event()
    desk.script = [{}, {}]

    def open_turn(*given, **options):
        may_open.wait(10)
        return opened(*given, **options)

    desk.open_turn = open_turn
    first = threading.Thread(target=chat.create, args=("a",), daemon=True)
    first.start()
    until(lambda: chat._course._claimed_by == first.ident)
    second = threading.Thread(target=chat.create, args=("b",), daemon=True)
    second.start()
    until(lambda: chat._course._monitor._waiting)
    may_open.set()
    first.join(10)
    second.join(10)
    assert inputs(desk) == [[user("a")], [user("b")]]
    assert chat.turns[1].sent.kind == "delta"


def test_create_waits_for_the_response_and_raises_what_ended_the_turn(desk):
    chat = desk.conversation()
    desk.script = [{"text": "A"}, {"how": "lost"}]
    assert chat.create("a").text == "A"
    with pytest.raises(StreamInterruptedError):
        chat.create("b")


# Arguments.


@pytest.mark.parametrize(
    "name", ["previous_response_id", "conversation", "stream", "api_key", "generate"]
)
def test_what_a_conversation_does_itself_cannot_be_set(desk, name):
    with pytest.raises(ConfigurationError, match=f"cannot take '{name}'"):
        desk.conversation(**{name: "x"})
    with pytest.raises(ConfigurationError, match=f"cannot take '{name}'"):
        desk.conversation().stream("a", **{name: "x"})


def test_a_turn_without_a_model_is_refused(desk):
    with pytest.raises(ConfigurationError, match="No model"):
        Conversation(desk).stream("a")
    assert desk.creates == []


def test_a_model_that_is_no_name_is_called_what_it_is(desk):
    with pytest.raises(ConfigurationError, match="model is 5: give the name of a model"):
        desk.conversation().stream("a", model=5)
    assert desk.creates == []


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("timeouts", r"stream\(\), create\(\) or run\(\), or to Session"),
        ("tool_timeout", r"run\(\)"),
        ("max_turns", r"run\(\)"),
        ("approve_mcp", r"run\(\)"),
    ],
)
def test_arguments_of_turns_and_runs_are_no_fields_of_requests(desk, name, place):
    with pytest.raises(ConfigurationError, match=f"cannot take '{name}': give it to .*{place}"):
        desk.conversation(**{name: 5})
    if name != "timeouts":
        with pytest.raises(ConfigurationError, match=f"cannot take '{name}': give it to .*{place}"):
            desk.conversation().stream("a", **{name: 5})


def test_a_turn_that_no_message_can_carry_is_refused_and_a_long_history_is_not(desk):
    desk.max_frame_bytes = 1000
    chat = desk.conversation()
    with pytest.raises(ConfigurationError, match="accepts messages of up to 1,000"):
        chat.stream("x" * 1000)
    for _ in range(4):
        ask(desk, chat, "x" * 300)
    assert [kind for kind, _ in sent(chat)] == ["full", "delta", "delta", "delta"]
    chat.truncate_to(6)
    with pytest.raises(ConfigurationError, match="compact"):
        chat.stream("y")


def test_the_sessions_fields_come_after_the_conversations_and_a_turns_before(desk):
    chat = Conversation(desk, {"model": "m", "temperature": 0.1, "top_p": 0.2}, temperature=0.3)
    ask(desk, chat, "a", {"top_p": 0.4})
    body = desk.creates[-1].body
    assert (body["model"], body["temperature"], body["top_p"]) == ("m", 0.3, 0.4)


@pytest.mark.parametrize("again", [[output("c")], output("c"), [output("c"), output("c")]])
def test_a_turn_whose_whole_input_was_given_before_is_refused(desk, again):
    chat = desk.conversation()
    ask(desk, chat, "a", output=[call("c")])
    ask(desk, chat, [output("c")])
    before = chat.to_dict()
    with pytest.raises(ConfigurationError, match="All of the input was given before"):
        chat.stream(again)
    assert (len(desk.creates), chat.to_dict()) == (2, before)
    ask(desk, chat, [output("c"), user("b")])
    ask(desk, chat, None)
    assert [create.body["input"] for create in desk.creates[2:]] == [[user("b")], []]


def test_a_closed_session_ends_a_conversation_with_its_own_error(desk):
    def closed(*given, **options):
        raise SessionClosedError("closed")

    desk.open_turn = closed
    with pytest.raises(SessionClosedError):
        desk.conversation().stream("a")


def test_a_repr_shows_state_and_no_content(desk):
    chat = desk.conversation(instructions="secret")
    stream = chat.stream("secret")
    assert repr(chat) == "<Conversation items=0 response_id=None running>"
    desk.finish(stream._turn)
    chat.items  # noqa: B018
    assert repr(chat) == "<Conversation items=2 response_id='resp_1'>"
