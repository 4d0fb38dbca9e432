import json
import threading

import pytest

from llmws.testing import Semantics, Server, rules
from tests.testing.client import ask, create, http_client, open_socket, post, receive, send, text_of


def contexts_of(server_rule=None):
    """Return a list, and a rule that puts the texts of each request's context into it and then answers."""
    seen = []

    def rule(request):
        seen.append([text_in(item) for item in request.context])
        return (server_rule or rules.echo())(request)

    return seen, rule


def text_in(item):
    content = item.get("content", item.get("output", item.get("arguments")))
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def turn(ws, text, previous=None, **fields):
    """Ask, and return the response's id, or the code of what refused it."""
    chain = {} if previous is None else {"previous_response_id": previous}
    last = ask(ws, create(text, **chain, **fields))[-1]
    return last["response"]["id"] if "response" in last else last["error"]["code"]


GONE = "previous_response_not_found"


def test_a_rule_sees_everything_that_the_chain_holds():
    seen, rule = contexts_of()
    with Server(rule=rule) as server, open_socket(server) as ws:
        previous = turn(ws, "one")
        previous = turn(ws, "two", previous)
        turn(ws, [{"role": "user", "content": "three"}], previous)
        turn(ws, "alone")
        server.check()
    assert seen == [
        ["one"],
        ["one", "one", "two"],
        ["one", "one", "two", "two", "three"],
        ["alone"],
    ]


@pytest.mark.parametrize("fields", [{}, {"store": True}, {"store": False}])
def test_an_unknown_parent_is_refused_and_the_connection_goes_on(fields):
    with Server() as server, open_socket(server) as ws:
        [error] = ask(ws, create(previous_response_id="resp_x", stream_id="a", **fields))
        assert (error["status"], error["stream_id"]) == (400, "a")
        assert error["error"]["code"] == GONE
        assert error["error"]["param"] == "previous_response_id"
        assert server.ledger.requests[0].refused == GONE
        assert turn(ws, "Hi").startswith("resp_")


def test_a_sequence_goes_on_where_it_was_after_a_refusal_by_the_server():
    rule = rules.sequence(rules.text("A"), rules.text("B"), rules.text("C"))
    with Server(rule=rule) as server, open_socket(server) as ws:
        first = ask(ws, create())
        server.forget()
        assert turn(ws, "?", first[-1]["response"]["id"]) == GONE
        assert turn(ws, "?", "resp_x", generate=False) == GONE
        assert [text_of(ask(ws, create())) for _ in range(2)] == ["B", "C"]


def test_null_is_no_parent():
    with Server() as server, open_socket(server) as ws:
        assert ask(ws, create(previous_response_id=None))[-1]["type"] == "response.completed"


def test_a_lane_keeps_only_its_latest_response_if_nothing_is_stored():
    with Server() as server, open_socket(server) as ws:
        first = turn(ws, "1", store=False)
        second = turn(ws, "2", first, store=False)
        third = turn(ws, "3", second, store=False)
        assert turn(ws, "x", first, store=False, stream_id="a") == GONE
        assert turn(ws, "x", second, store=False, stream_id="a") == GONE
        assert turn(ws, "4", third, store=False) != GONE


def test_a_new_chain_takes_the_place_of_the_lanes_old_one():
    with Server() as server, open_socket(server) as ws:
        first = turn(ws, "1", store=False)
        turn(ws, "another", store=False)
        assert turn(ws, "2", first, store=False) == GONE


def test_each_lane_keeps_a_response_of_its_own():
    seen, rule = contexts_of()
    with Server(rule=rule) as server, open_socket(server) as ws:
        ids = {lane: turn(ws, lane, store=False, stream_id=lane) for lane in "abc"}
        for lane, previous in ids.items():
            assert turn(ws, "go", previous, store=False, stream_id=lane) != GONE
    assert seen[3:] == [[lane, lane, "go"] for lane in "abc"]


@pytest.mark.parametrize("fields", [{}, {"store": True}])
def test_what_is_stored_can_be_continued_from_anywhere(fields):
    seen, rule = contexts_of()
    with Server(rule=rule) as server, http_client(server) as client:
        with open_socket(server) as ws:
            first = turn(ws, "1", **fields)
            turn(ws, "2", first, **fields)
        with open_socket(server) as ws:
            assert turn(ws, "3", first) != GONE
        post(client, create("4", previous_response_id=first, stream=True))
    assert seen[2:] == [["1", "1", "3"], ["1", "1", "4"]]


def test_what_is_not_stored_is_bound_to_its_connection():
    with Server() as server, http_client(server) as client, open_socket(server) as ws:
        first = turn(ws, "1", store=False)
        with open_socket(server) as other:
            assert turn(other, "2", first, store=False) == GONE
        status, _, data = post(client, create(previous_response_id=first))
        assert (status, json.loads(data)["error"]["code"]) == (400, GONE)
        assert turn(ws, "2", first, store=False) != GONE


@pytest.mark.parametrize(("store", "status"), [(True, 200), (False, 400)])
def test_a_post_is_stored_or_lost_and_never_cached(store, status):
    with Server() as server, http_client(server) as client:
        first = json.loads(post(client, create("1", store=store))[2])["id"]
        assert post(client, create("2", previous_response_id=first))[0] == status


FAILING = {
    "refused": rules.refuse(400, "invalid_value", "No."),
    "overloaded": rules.refuse(503, "server_is_overloaded", "No."),
    "failed": rules.fail("server_error", "No."),
    "broken": lambda request: 1 / 0,
}


def failing(how):
    return rules.sequence(rules.echo(), FAILING[how], rules.echo())


@pytest.mark.parametrize("how", ["refused", "overloaded", "broken"])
def test_an_error_on_the_same_lane_evicts_the_parent(how):
    with Server(rule=failing(how)) as server, open_socket(server) as ws:
        first = turn(ws, "1", store=False)
        assert "resp_" not in turn(ws, "2", first, store=False)
        assert turn(ws, "2", first, store=False) == GONE


@pytest.mark.parametrize("how", ["refused", "overloaded", "broken"])
def test_an_error_of_a_fork_keeps_the_parent(how):
    with Server(rule=failing(how)) as server, open_socket(server) as ws:
        first = turn(ws, "1", store=False)
        assert "resp_" not in turn(ws, "2", first, store=False, stream_id="a")
        assert turn(ws, "2", first, store=False).startswith("resp_")


def test_an_error_of_what_is_no_continuation_keeps_the_lanes_response():
    with Server(rule=failing("refused")) as server, open_socket(server) as ws:
        first = turn(ws, "1", store=False)
        assert turn(ws, "something else", store=False) == "invalid_value"
        assert turn(ws, "2", first, store=False).startswith("resp_")


def test_a_lane_has_moved_on_as_soon_as_its_next_response_is_created():
    released = threading.Event()

    def rule(request):
        events = rules.echo()(request)
        yield next(events)
        assert request.input_text != "2" or released.wait(10)
        yield from events

    with Server(rule=rule) as server, open_socket(server) as ws:
        first = turn(ws, "1", store=False)
        send(ws, create("2", previous_response_id=first, store=False))
        assert receive(ws)["type"] == "response.created"
        assert turn(ws, "f", first, store=False, stream_id="a") == GONE
        released.set()


def test_a_failure_after_the_start_leaves_the_lane_without_a_parent():
    with Server(rule=failing("failed")) as server, open_socket(server) as ws:
        first = turn(ws, "1", store=False)
        ask(ws, create("2", previous_response_id=first, store=False))
        assert receive(ws)["type"] == "response.failed"
        assert turn(ws, "2", first, store=False) == GONE


def test_an_error_does_not_reach_into_the_store():
    with Server(rule=failing("refused")) as server, open_socket(server) as ws:
        first = turn(ws, "1")
        assert turn(ws, "2", first) == "invalid_value"
        assert turn(ws, "2", first) not in {GONE, "invalid_value"}


def test_an_incomplete_response_can_be_continued():
    seen, rule = contexts_of(rules.sequence(rules.incomplete("half"), rules.echo()))
    with Server(rule=rule) as server, open_socket(server) as ws:
        first = turn(ws, "1", store=False)
        turn(ws, "2", first, store=False)
    assert seen[1] == ["1", "half", "2"]


def test_a_fork_that_has_begun_does_not_mind_that_its_source_goes_on():
    seen, rule = contexts_of()
    with Server(rule=rule) as server, open_socket(server) as ws:
        first = turn(ws, "1", store=False)
        fork = turn(ws, "f", first, store=False, stream_id="a")
        second = turn(ws, "2", first, store=False)
        assert GONE not in {turn(ws, "g", fork, store=False, stream_id="a"), second}
    assert seen[2:] == [["1", "1", "2"], ["1", "1", "f", "f", "g"]]


def test_a_warm_up_is_cached_and_can_be_continued():
    seen, rule = contexts_of()
    with Server(rule=rule) as server, open_socket(server) as ws:
        warm = turn(ws, "preface", store=False, generate=False)
        first = turn(ws, "1", warm, store=False)
        warm = turn(ws, "more", first, store=False, generate=False)
        turn(ws, "2", warm, store=False)
    assert seen == [["preface", "1"], ["preface", "1", "1", "more", "2"]]


@pytest.mark.parametrize("repeat", ["output", "input", "within"])
def test_an_item_that_is_there_already_is_refused(repeat):
    mine = {"type": "message", "role": "user", "id": "msg_mine", "content": "1"}
    with Server() as server, open_socket(server) as ws:
        final = ask(ws, create([mine], store=False))[-1]["response"]
        fresh = {**mine, "id": "msg_new"}
        given = {"output": [final["output"][0], fresh], "input": [mine], "within": [fresh] * 2}
        create2 = create(given[repeat], previous_response_id=final["id"], store=False)
        [error] = ask(ws, create2)
        name = given[repeat][0]["id"]
        assert error["error"]["message"].startswith(f"Duplicate item found with id {name}.")
        assert (error["status"], error["error"]["param"]) == (400, "input")
        assert turn(ws, "2", final["id"], store=False) == GONE
        assert turn(ws, [*final["output"], fresh]).startswith("resp_")


def test_a_history_from_another_server_never_meets_its_own_ids():
    with Server() as old, open_socket(old) as ws:
        history = ask(ws, create())[-1]["response"]["output"]
    with Server() as new, open_socket(new) as ws:
        output = ask(ws, create([*history, {"role": "user", "content": "x"}]))[-1]["response"]
        assert output["output"][0]["id"] != history[0]["id"]


def test_forgetting_one_response_or_all():
    with Server() as server, open_socket(server) as ws:
        first = turn(ws, "1", stream_id="a")
        second = turn(ws, "1", stream_id="b")
        server.forget(first)
        assert turn(ws, "2", first) == GONE
        assert turn(ws, "2", second) != GONE
        server.forget()
        assert turn(ws, "2", second) == GONE


def test_evicting_a_lane_leaves_the_store_and_other_lanes_alone():
    with Server() as server, open_socket(server) as ws:
        ids = {
            (lane, store): turn(ws, "1", stream_id=f"{lane}{store}", store=store)
            for lane in "ab"
            for store in (True, False)
        }
        for store in (True, False):
            server.evict(1, f"a{store}")
        gone = {which for which, each in ids.items() if turn(ws, "2", each, stream_id="x") == GONE}
    assert gone == {("a", False)}


def test_a_closed_connection_leaves_nothing_behind():
    with Server() as server:
        with open_socket(server) as ws:
            turn(ws, "1", store=False)
        server.close()
        assert repr(server._stage.memory) == "Memory(0 stored, 0 connections)"


def test_a_server_may_take_any_id():
    with Server(semantics=Semantics(chains=False)) as server, open_socket(server) as ws:
        assert text_of(ask(ws, create(previous_response_id="resp_x"))) == "Hello there"


def test_cached_tokens_are_those_of_the_parent():
    with Server() as server, open_socket(server) as ws:
        first = ask(ws, create("1"))[-1]["response"]
        second = ask(ws, create("2", previous_response_id=first["id"]))[-1]["response"]
    assert first["usage"]["input_tokens_details"]["cached_tokens"] == 0
    usage = second["usage"]
    assert 0 < usage["input_tokens_details"]["cached_tokens"] < usage["input_tokens"]


def test_a_rule_that_changes_its_request_does_not_change_what_is_remembered():
    seen = []

    def rule(request):
        seen.append([text_in(item) for item in request.context])
        request.body["input"] = "forged"
        return rules.text("yes")(request)

    with Server(rule=rule) as server, open_socket(server) as ws:
        turn(ws, "two", turn(ws, "one"))
    assert seen == [["one"], ["one", "yes", "two"]]
