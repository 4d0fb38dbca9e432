import threading

import pytest

from llmws.testing import Answer, Request, Semantics, Server, rules
from llmws.testing.steering import Performance, Series
from tests.testing.client import answer, ask, create, open_socket, receive, send, text_of


class Paused:
    """A rule that says pieces one by one, each when it is let go on, and answers a steered input at once."""

    def __init__(self, *, calls=False, before=False):
        self.steps = threading.Semaphore(0)
        self.contexts = []
        self._calls = calls
        self._before = before  # Whether it waits before the message begins.

    def __call__(self, request):
        self.contexts.append([item.get("content", item.get("output")) for item in request.context])
        if request.body.get("previous_response_id"):
            yield from rules.echo()(request)
            return
        built = Answer(request)
        yield from built.start()
        if self._before:
            assert self.steps.acquire(timeout=10)
        if self._calls:
            for event in built.function_call("look", {"at": "it"}):
                assert event["type"] != "response.output_item.done" or self.steps.acquire(
                    timeout=10
                )
                yield event
        else:
            for event in built.message("one two three", ["one", " two", " three"]):
                yield event
                assert event["type"] != "response.output_text.delta" or self.steps.acquire(
                    timeout=10
                )
        yield from built.complete()


def steer(ws, target, given="Shorter."):
    send(ws, {"type": "response.steer", "previous_response_id": target, "input": given})


def until(ws, kind):
    events = [receive(ws)]
    while events[-1]["type"] != kind:
        events.append(receive(ws))
    return events


def numbers(events):
    return [event["sequence_number"] for event in events]


@pytest.mark.parametrize("lane", [None, "a"])
def test_a_steered_answer_stops_and_its_successor_answers_the_steer(lane):
    rule = Paused()
    named = {} if lane is None else {"stream_id": lane}
    with Server(rule=rule) as server, open_socket(server) as ws:
        send(ws, create("Count.", **named, instructions="Be kind.", store=False))
        first = until(ws, "response.output_text.delta")
        target = first[0]["response"]["id"]
        steer(ws, target)
        [accepted] = until(ws, "response.steer.accepted")
        assert accepted["steer"]["previous_response_id"] == target
        assert accepted["steer"]["id"].startswith("steer_")
        rule.steps.release()
        rest = answer(ws)
        final = rest[-1]["response"]
        assert (final["status"], final["incomplete_details"]) == (
            "incomplete",
            {"reason": "steered"},
        )
        [message] = final["output"]
        assert (message["status"], message["content"][0]["text"]) == ("incomplete", "one")
        kinds = [event["type"].removeprefix("response.") for event in rest]
        assert kinds == ["output_text.done", "content_part.done", "output_item.done", "incomplete"]
        whole = [*first, accepted, *rest]
        assert numbers(whole) == list(range(len(whole)))

        successor = answer(ws)
        created = successor[0]["response"]
        assert created["previous_response_id"] == target
        assert created["instructions"] == "Be kind."
        assert created["id"] != target
        assert text_of(successor) == "Shorter."
        assert {event.get("stream_id") for event in [*whole, *successor]} == {lane}
        assert rule.contexts[1] == ["Count.", message["content"], "Shorter."]
        entries = server.ledger.requests
        assert [entry.automatic for entry in entries] == [False, True]
        assert [entry.ended for entry in entries] == ["incomplete", "completed"]
        assert len(server.ledger.creates) == 1
        # The chain goes on behind the successor.
        again = create("And?", previous_response_id=created["id"], store=False, **named)
        assert text_of(ask(ws, again)) == "And?"
        server.check()


def test_steers_that_come_together_are_one_successors_input():
    rule = Paused()
    with Server(rule=rule) as server, open_socket(server) as ws:
        send(ws, create("Count."))
        target = until(ws, "response.output_text.delta")[0]["response"]["id"]
        for word in ("a", "b"):
            steer(ws, target, word)
            until(ws, "response.steer.accepted")
        rule.steps.release()
        assert answer(ws)[-1]["type"] == "response.incomplete"
        answer(ws)
        assert rule.contexts[1][2:] == ["a", "b"]
        assert len(server.ledger.requests) == 2


def test_an_answer_at_its_end_completes_and_the_successor_follows():
    released = threading.Event()

    def rule(request):
        if request.body.get("previous_response_id"):
            yield from rules.echo()(request)
            return
        *events, last = rules.text("All of it.")(request)
        yield from events
        assert released.wait(10)
        yield last

    with Server(rule=rule) as server, open_socket(server) as ws:
        send(ws, create("Count."))
        target = until(ws, "response.output_item.done")[0]["response"]["id"]
        steer(ws, target)
        until(ws, "response.steer.accepted")
        released.set()
        [completed] = answer(ws)
        assert completed["type"] == "response.completed"
        assert text_of(answer(ws)) == "Shorter."


def test_a_steer_waits_for_tool_results_and_goes_before_them():
    rule = Paused(calls=True)
    with Server(rule=rule) as server, open_socket(server) as ws:
        send(ws, create("Count.", stream_id="a", store=False))
        first = until(ws, "response.function_call_arguments.done")
        target = first[0]["response"]["id"]
        steer(ws, target)
        accepted = until(ws, "response.steer.accepted")[-1]
        rule.steps.release()
        rest = until(ws, "response.steer.pending")
        completed, pending = rest[-2:]
        [call] = completed["response"]["output"]
        assert completed["type"] == "response.completed"
        assert pending["steer"] == accepted["steer"]
        assert pending["reason"] == "waiting_for_required_input"
        owed = {"type": "function_call_output", "call_id": call["call_id"], "name": "look"}
        assert pending["required_input"] == [owed]
        assert pending["stream_id"] == "a"
        whole = [*first, accepted, *rest]
        assert numbers(whole) == list(range(len(whole)))

        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "seen"}
        chain = {"stream_id": "a", "store": False, "previous_response_id": target}
        assert text_of(ask(ws, create([result], **chain))) == "seen"
        assert rule.contexts[1] == ["Count.", None, "Shorter.", "seen"]
        assert server.ledger.creates[1]["input"] == [result]


def test_a_refused_create_leaves_the_steer_waiting_and_another_chain_gives_it_back():
    rule = Paused(calls=True)
    with Server(rule=rule) as server, open_socket(server) as ws:
        send(ws, create("Count.", store=True))
        target = until(ws, "response.function_call_arguments.done")[0]["response"]["id"]
        steer(ws, target)
        until(ws, "response.steer.accepted")
        rule.steps.release()
        call = until(ws, "response.steer.pending")[-2]["response"]["output"][0]
        [error] = ask(ws, create([call], previous_response_id=target))
        assert error["error"]["message"].startswith("Duplicate item")
        send(ws, create("Something else.", previous_response_id=None))
        failed = receive(ws)
        assert failed["type"] == "response.steer.failed"
        assert failed["error"]["code"] == "response_not_active"
        assert failed["steer"]["input"] == "Shorter."
        assert failed["steer"]["id"].startswith("steer_")
        rule.steps.release()
        assert answer(ws)[-1]["type"] == "response.completed"


def test_a_response_that_fails_gives_its_steers_back():
    released = threading.Event()

    def rule(request):
        built = Answer(request)
        yield from built.start()
        assert released.wait(10)
        yield from built.fail("server_error", "No.")

    with Server(rule=rule) as server, open_socket(server) as ws:
        send(ws, create())
        target = until(ws, "response.in_progress")[0]["response"]["id"]
        steer(ws, target)
        until(ws, "response.steer.accepted")
        released.set()
        failed = until(ws, "response.steer.failed")[-1]
        assert failed["error"]["code"] == "response_not_active"
        assert failed["steer"]["input"] == "Shorter."


def test_a_successor_that_cannot_be_gives_the_steer_back():
    rule = Paused()

    def refusing(request):
        if request.body.get("previous_response_id"):
            return rules.refuse(400, "invalid_value", "No such thing.")(request)
        return rule(request)

    with Server(rule=refusing) as server, open_socket(server) as ws:
        send(ws, create(stream_id="a"))
        target = until(ws, "response.output_text.delta")[0]["response"]["id"]
        steer(ws, target)
        until(ws, "response.steer.accepted")
        rule.steps.release()
        until(ws, "response.incomplete")
        failed = receive(ws)
        assert failed["type"] == "response.steer.failed"
        assert failed["error"]["code"] == "successor_creation_failed"
        assert failed["steer"]["input"] == "Shorter."
        assert failed["stream_id"] == "a"
        rule.steps.release(3)
        assert text_of(ask(ws, create("x", stream_id="a"))) == "one two three"


def refused(ws, target, given="Shorter."):
    steer(ws, target, given)
    failed = until(ws, "response.steer.failed")[-1]
    assert failed["steer"] == {"previous_response_id": target, "input": given}
    assert failed["error"]["type"] == "invalid_request_error"
    return failed["error"]["code"], failed.get("stream_id")


def test_the_33rd_steer_that_waits_is_too_many():
    rule = Paused()
    with Server(rule=rule) as server, open_socket(server) as ws:
        send(ws, create(stream_id="a"))
        target = until(ws, "response.output_text.delta")[0]["response"]["id"]
        for _ in range(32):
            steer(ws, target)
            until(ws, "response.steer.accepted")
        assert refused(ws, target) == ("too_many_pending_steers", "a")
        rule.steps.release()
        answer(ws)
        assert len(answer(ws)) > 1
        assert len(rule.contexts[1]) == 2 + 32


def test_a_response_that_is_over_cannot_be_steered():
    rule = rules.sequence(rules.echo(), rules.incomplete("x"), rules.fail("x", "y"))
    with Server(rule=rule) as server, open_socket(server) as ws:
        ids = [ask(ws, create(stream_id=lane))[0]["response"]["id"] for lane in "ab"]
        assert refused(ws, ids[0]) == ("response_already_completed", "a")
        assert refused(ws, ids[1]) == ("response_not_active", "b")
        assert refused(ws, "resp_x") == ("response_not_found", None)
        with open_socket(server) as other:
            assert refused(other, ids[0]) == ("response_not_found", None)


@pytest.mark.parametrize(
    ("fields", "semantics"),
    [
        ({}, Semantics(steering=False)),
        ({"conversation": "conv_1"}, None),
        ({"context_management": [{"type": "compaction", "compact_threshold": 9999}]}, None),
    ],
)
def test_not_every_response_can_be_steered(fields, semantics):
    rule = Paused()
    with Server(rule=rule, semantics=semantics) as server, open_socket(server) as ws:
        send(ws, create(**fields))
        target = until(ws, "response.output_text.delta")[0]["response"]["id"]
        assert refused(ws, target)[0] == "steering_not_supported"
        rule.steps.release(3)
        assert answer(ws)[-1]["type"] == "response.completed"


def test_a_steer_that_says_nothing_is_invalid_and_harms_nobody():
    rule = Paused()
    with Server(rule=rule) as server, open_socket(server) as ws:
        send(ws, create())
        target = until(ws, "response.output_text.delta")[0]["response"]["id"]
        assert refused(ws, target, "")[0] == "invalid_input"
        rule.steps.release(3)
        events = answer(ws)
        assert text_of(events) == " two three"


@pytest.mark.parametrize("lane", [None, "a"])
@pytest.mark.parametrize("given", ["", [], [{"type": "function_call_output", "call_id": "c"}]])
@pytest.mark.parametrize("semantics", [None, Semantics(steering=False)])
def test_every_answer_to_a_steer_has_the_next_number_of_its_response(lane, given, semantics):
    """Also behind the end: what comes for a response that is over counts on from its last event."""
    rule = Paused()
    named = {} if lane is None else {"stream_id": lane}
    with Server(rule=rule, semantics=semantics) as server, open_socket(server) as ws:
        send(ws, create("Count.", **named))
        events = until(ws, "response.output_text.delta")
        target = events[0]["response"]["id"]
        for asked in (given, "Shorter.", given):
            steer(ws, target, asked)
            events.append(receive(ws))
        rule.steps.release(3)
        events += answer(ws)
        if semantics is None:
            assert numbers(answer(ws))[0] == 0  # The successor's are its own.
        for asked in (given, "Shorter."):
            steer(ws, target, asked)
            events.append(receive(ws))
        assert numbers(events) == list(range(len(events)))
        assert {event.get("stream_id") for event in events} == {lane}
        kinds = [event["type"].rpartition(".")[2] for event in events]
        assert kinds.count("failed") == (4 if semantics is None else 5)
        assert kinds.count("accepted") == (1 if semantics is None else 0)


def test_a_steer_that_no_response_is_the_target_of_takes_no_number_of_another():
    rule = Paused()
    with Server(rule=rule) as server, open_socket(server) as ws:
        send(ws, create("Count."))
        events = until(ws, "response.output_text.delta")
        assert refused(ws, "resp_x")[0] == "response_not_found"
        rule.steps.release(3)
        events += answer(ws)
        assert numbers(events) == list(range(len(events)))


def test_steers_from_another_thread_leave_no_gap_and_no_double_in_a_series():
    sent = []
    series = Series(sent.append)

    def reply():
        for _ in range(200):
            with series.lock:
                series.reply({"type": "response.steer.failed"})

    threads = [threading.Thread(target=reply) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(200):
        with series.lock:
            series.add({"type": "response.output_text.delta", "sequence_number": number})
    for thread in threads:
        thread.join()
    assert numbers(sent) == list(range(800))


def test_a_successor_can_be_steered_again():
    released = [threading.Event() for _ in range(3)]

    def rule(request):
        index = len(request.context) // 2
        built = Answer(request)
        yield from built.start()
        for event in built.message(f"answer {index}"):
            yield event
            if event["type"] == "response.output_text.delta":
                assert released[index].wait(10)
        yield from built.complete()

    with Server(rule=rule) as server, open_socket(server) as ws:
        send(ws, create("0"))
        ids = []
        for index in range(2):
            ids.append(until(ws, "response.output_text.delta")[0]["response"]["id"])
            steer(ws, ids[-1], f"steer {index}")
            until(ws, "response.steer.accepted")
            released[index].set()
            until(ws, "response.incomplete")
        released[2].set()
        last = answer(ws)
        assert last[0]["response"]["previous_response_id"] == ids[1]
        assert text_of(last) == "answer 2"
        assert [entry.automatic for entry in server.ledger.requests] == [False, True, True]


def test_a_client_that_leaves_while_its_steer_waits_hurts_nobody():
    rule = Paused()
    with Server(rule=rule) as server:
        with open_socket(server) as ws:
            send(ws, create())
            target = until(ws, "response.output_text.delta")[0]["response"]["id"]
            steer(ws, target)
            until(ws, "response.steer.accepted")
        rule.steps.release(3)
        assert server.ledger.wait(lambda ledger: ledger.requests[0].ended == "lost")
        server.check()
        assert len(server.ledger.requests) == 1


def test_a_steer_that_comes_with_the_end_is_told_that_it_is_over():
    sent = []
    performance = Performance(Request(body={}), Semantics(), sent.append, lambda *begun: None)
    for kind in ("created", "completed"):
        performance.send({"type": f"response.{kind}", "response": {"id": "r"}})
    performance.steer("r", "Shorter.")
    assert sent[-1]["error"]["code"] == performance.refusal_code() == "response_already_completed"
    assert performance.after() == ([], False)
