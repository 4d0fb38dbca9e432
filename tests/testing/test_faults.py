"""Each fault does on the wire what it says, and says of itself what it may do."""

import contextlib
import json
import random
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from llmws.errors import ConfigurationError
from llmws.testing import Request, Server, faults, rules
from llmws.testing.faults import (
    CloseAfter,
    Duplicate,
    ErrorFrame,
    Fin,
    Garble,
    HalfOpen,
    Omit,
    RefuseUpgrade,
    Rst,
    SlowDrip,
    Stall,
)
from llmws.testing.rules import answering
from llmws.wire.framing import Framing, Violation
from tests.testing.client import (
    answer,
    ask,
    create,
    open_socket,
    raw_socket,
    receive,
    send,
    upgrade,
)


RULE = rules.text("one two three")
TYPES = [event["type"] for event in answering(RULE)(Request(body={"input": "x"}))]
DELTA = TYPES.index("response.output_text.delta") + 1
TERMINAL = {"response.completed", "response.failed"}


@contextlib.contextmanager
def asked(rule, **fields):
    """Send one create to a server that answers by a rule; yields the client, and the server."""
    with Server(rule=rule) as server, open_socket(server, close_timeout=0.2) as ws:
        send(ws, create(**fields))
        yield ws, server


def types_until_closed(ws):
    """Read to the end of the connection; return the types of the events and the end."""
    types = []
    while True:
        try:
            types.append(receive(ws)["type"])
        except ConnectionClosed as end:
            return types, end


def played(fault, rule=RULE):
    """Return the types of an answer that no connection carries, and how often the fault struck."""
    rule = fault(rule)
    return [event["type"] for event in rule(Request(body={"input": "x"}))], len(rule.struck)


# Where they strike.


@pytest.mark.parametrize(
    ("at", "before"),
    [(0, 0), (3, 3), ("created", 1), ("delta", DELTA), ("terminal", -1), ("end", None)],
)
def test_a_fault_strikes_at_its_place(at, before):
    with asked(Fin(at=at)(RULE)) as (ws, _):
        types, _ = types_until_closed(ws)
    assert types == TYPES[:before]


@given(at=st.integers(0, 20))
def test_an_answer_that_does_not_get_to_the_place_is_neither_harmed_nor_counted(at):
    types, struck = played(Omit(at=at))
    missed = at >= len(TYPES)
    assert struck == (not missed)
    assert types == TYPES[:at] + TYPES[at + 1 :]


@pytest.mark.parametrize("fault", [Omit(at="end"), Duplicate(at="end"), SlowDrip(at="end")])
def test_what_needs_a_further_event_does_not_strike_behind_the_last(fault):
    assert played(fault) == (TYPES, 0)


def test_what_harms_the_last_event_finds_it():
    assert played(Duplicate(at="terminal")) == ([*TYPES, TYPES[-1]], 1)
    assert played(Omit(at="terminal")) == (TYPES[:-1], 1)


def test_a_fault_is_chosen_for_each_request_and_remembered_with_it():
    fault = CloseAfter(code=1012)
    rule = faults.apply(RULE, lambda request: fault if request.number == 2 else None)
    with asked(rule) as (ws, server):
        assert answer(ws)[-1]["type"] == "response.completed"
        send(ws, create("again"))
        assert types_until_closed(ws)[1].rcvd.code == 1012
        assert [(struck.request.number, struck.fault) for struck in rule.struck] == [(2, fault)]
        assert server.ledger.wait(lambda ledger: ledger.requests[1].ended == "lost")


@pytest.mark.parametrize("warm_ups", [False, True])
def test_warm_ups_go_wrong_only_if_they_are_meant_to(warm_ups):
    rule = faults.apply(RULE, ErrorFrame(code="slow_down", status=503), warm_ups=warm_ups)
    with asked(rule, generate=False) as (ws, _):
        assert answer(ws)[-1]["type"] == ("error" if warm_ups else "response.completed")
        assert len(rule.struck) == warm_ups


def test_a_warm_up_is_not_harmed_by_way_of_another_rule_either():
    rule = Omit()(RULE)
    events = rule(Request(body={"input": [], "generate": False}))
    assert [event["type"] for event in events] == ["response.created", "response.completed"]


# What they do.


@pytest.mark.parametrize("code", faults.CLOSE_CODES)
def test_a_close_has_its_code_and_reason(code):
    with asked(CloseAfter(at=3, code=code, reason="enough")(RULE)) as (ws, _):
        types, end = types_until_closed(ws)
    assert types == TYPES[:3]
    assert (end.rcvd.code, end.rcvd.reason) == ((code, "enough") if code else (1005, ""))


def read_raw(server):
    """Send a create by hand, and return all bytes that come and how they end."""
    with raw_socket(server) as raw:
        upgrade(raw)
        raw.sendall(masked(json.dumps(create()).encode()))
        data = b""
        try:
            while piece := raw.recv(65536):
                data += piece
        except ConnectionResetError:
            return data, "rst"
        return data, "fin"


def masked(payload):
    # A mask of zeros changes nothing.
    return b"\x81\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload


@pytest.mark.parametrize(("fault", "end"), [(Fin(at=3), "fin"), (Rst(at=0), "rst")])
def test_a_connection_ends_without_a_close_frame(fault, end):
    with Server(rule=fault(RULE)) as server:
        data, found = read_raw(server)
    messages = Framing("client").feed(data)
    assert found == end
    assert [json.loads(message)["type"] for message in messages] == TYPES[: fault.at]


@pytest.mark.parametrize("kind", faults.GARBLED)
def test_garbled_bytes_are_the_last_that_come_and_are_refused(kind):
    with Server(rule=Garble(at=3, kind=kind)(RULE)) as server, raw_socket(server) as raw:
        upgrade(raw)
        raw.sendall(masked(json.dumps(create()).encode()))
        data = b""
        while not data.endswith(faults.GARBLED[kind]):
            data += raw.recv(65536)
    *messages, last = Framing("client").feed(data)
    assert [json.loads(message)["type"] for message in messages] == TYPES[:3]
    if kind == "no JSON":
        with pytest.raises(ValueError, match="Expecting"):
            json.loads(last)
    elif kind == "no object":
        assert not isinstance(json.loads(last), dict)
    elif kind == "binary":
        assert last.data
    else:
        assert isinstance(last, Violation)
        assert last.code == {"bad UTF-8": 1007, "oversized": 1009}.get(kind, 1002)


def test_a_stall_leaves_pings_and_other_lanes_alone():
    rule = faults.apply(RULE, lambda request: Stall(at=3) if request.lane == "a" else None)
    with asked(rule, stream_id="a") as (ws, _):
        assert [receive(ws)["type"] for _ in range(3)] == TYPES[:3]
        assert ws.ping().wait(5)
        events = ask(ws, create(stream_id="b"))
        assert {event["stream_id"] for event in events} == {"b"}
        assert events[-1]["type"] == "response.completed"


def test_a_half_open_connection_is_silent_on_every_lane_and_does_not_end():
    rule = faults.apply(RULE, lambda request: HalfOpen(at=3) if request.lane == "a" else None)
    with asked(rule, stream_id="a") as (ws, server):
        assert [receive(ws)["type"] for _ in range(3)] == TYPES[:3]
        until(lambda: rule.struck)
        pong = ws.ping()
        send(ws, create(stream_id="b"))
        # The other lane's answer is written, and goes nowhere.
        assert server.ledger.wait(lambda ledger: len(ledger.requests) == 2)
        assert server.ledger.wait(lambda ledger: ledger.requests[1].ended == "completed")
        assert not pong.wait(0.05)
        with pytest.raises(TimeoutError):
            ws.recv(timeout=0)
        ws.close()
        assert ws.close_code == 1006  # Nobody answered the close.
        assert server.ledger.wait(lambda ledger: ledger.requests[0].ended == "lost")


def until(predicate):
    deadline = time.monotonic() + 5
    while not predicate():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def test_a_slow_drip_brings_everything_in_its_time():
    start = time.monotonic()
    with asked(SlowDrip(at="delta", delay=0.01)(RULE)) as (ws, _):
        assert [event["type"] for event in answer(ws)] == TYPES
    assert time.monotonic() - start >= 0.01 * (len(TYPES) - DELTA)


def test_a_slow_drip_ends_with_its_connection():
    with asked(SlowDrip(delay=3600)(RULE)) as (ws, server):
        ws.close()
        assert server.ledger.wait(lambda ledger: ledger.requests[0].ended == "lost")


@pytest.mark.parametrize(
    ("fault", "numbers"),
    [(Duplicate(at=4), [0, 1, 2, 3, 4, 4]), (Omit(at=4), [0, 1, 2, 3, 5, 6])],
)
def test_events_are_repeated_or_left_out_and_keep_their_numbers(fault, numbers):
    with asked(fault(RULE)) as (ws, _):
        events = answer(ws)
    assert [event["sequence_number"] for event in events][:6] == numbers
    assert events[-1]["type"] == "response.completed"
    kept = {event["sequence_number"]: event["type"] for event in events}
    assert all(TYPES[number] == kind for number, kind in kept.items())


# Errors in words.


def test_a_nested_error_has_its_details_inside_and_its_lane():
    fault = ErrorFrame(
        code="rate_limit_exceeded", status=429, param="input", headers={"retry-after": "1"}
    )
    with asked(fault(RULE), stream_id="a") as (ws, server):
        event = receive(ws)
        assert (event["type"], event["status"], event["stream_id"]) == ("error", 429, "a")
        error = event["error"]
        assert (error["code"], error["param"]) == ("rate_limit_exceeded", "input")
        assert (error["headers"], error["message"]) == ({"retry-after": "1"}, fault.message)
        assert server.ledger.requests[0].ended == "error"


def test_a_flat_error_has_its_details_in_the_event():
    with asked(ErrorFrame(code="slow_down", status=503, form="flat")(RULE)) as (ws, _):
        event = receive(ws)
    assert (event["type"], event["status"], event["code"]) == ("error", 503, "slow_down")
    assert "error" not in event
    assert event["message"]


def test_an_error_may_lack_its_code_its_status_and_its_lane():
    fault = ErrorFrame(code=None, status=None, lane=False)
    with asked(fault(RULE), stream_id="a") as (ws, _):
        event = receive(ws)
    assert "status" not in event
    assert "stream_id" not in event
    assert "code" not in event["error"]


def test_an_error_on_the_default_lane_lacks_nothing_without_its_lane():
    with asked(ErrorFrame(lane=False)(RULE)) as (ws, server):
        assert receive(ws)["type"] == "error"
        assert server.ledger.requests[0].ended == "error"


@pytest.mark.parametrize(
    ("fault", "types"),
    [
        (ErrorFrame(), ["error"]),
        (ErrorFrame(at="created"), ["response.created", "error", "response.failed"]),
        (ErrorFrame(at="created", failed=False), ["response.created", "error"]),
        (ErrorFrame(at="delta"), [*TYPES[:DELTA], "error", "response.failed"]),
        (ErrorFrame(at="end"), [*TYPES, "error"]),
        (ErrorFrame(at=1, goes_on=True), [TYPES[0], "error", *TYPES[1:]]),
        (ErrorFrame(form="failed"), ["response.created", "response.failed"]),
        (ErrorFrame(form="failed", at="delta"), [*TYPES[:DELTA], "response.failed"]),
    ],
)
def test_an_error_comes_before_or_after_output_with_or_without_a_failure(fault, types):
    rule = fault(RULE)
    events = list(rule(Request(body={"input": "x"})))
    assert [event["type"] for event in events] == types
    ids = {event["response"]["id"] for event in events if "response" in event}
    assert len(ids) <= 1
    for event in events:
        if event["type"] == "response.failed":
            assert event["response"]["status"] == "failed"
            assert event["response"]["error"]["code"] == "server_error"
            assert event["response"]["output"] == []


def test_a_close_may_follow_an_error():
    fault = ErrorFrame(code="websocket_connection_limit_reached", lane=False, close=1001)
    with asked(fault(RULE)) as (ws, _):
        types, end = types_until_closed(ws)
    assert (types, end.rcvd.code) == (["error"], 1001)


# What they say of themselves.


@pytest.mark.parametrize("fault", faults.ALL.values(), ids=faults.ALL)
def test_the_repr_of_a_fault_makes_it_again(fault):
    assert eval(repr(fault), vars(faults)) == fault
    assert hash(fault) == hash(eval(repr(fault), vars(faults)))


def test_the_registry_has_every_fault_under_its_name():
    assert all(fault.name == name for name, fault in faults.ALL.items())
    assert {type(fault) for fault in faults.ALL.values()} == set(faults.Fault.__subclasses__())
    assert {f.code for f in faults.ALL.values() if isinstance(f, CloseAfter)} >= {1000, None}
    assert len(faults.ERRORS) == 12


@pytest.mark.parametrize(
    ("fault", "refused", "loses", "repeats"),
    [
        (Fin(at="delta"), False, True, False),
        (Fin(at="end"), False, False, False),
        (Rst(at="end"), False, True, False),
        (SlowDrip(), False, False, False),
        (Duplicate(at=2), False, False, True),
        (Omit(at=2), False, True, False),
        (ErrorFrame(), True, True, False),
        (ErrorFrame(at="created"), True, True, False),
        (ErrorFrame(at="delta"), False, True, False),
        (ErrorFrame(at="created", goes_on=True), False, False, False),
        (ErrorFrame(at="created", goes_on=True, close=1001), False, True, False),
    ],
)
def test_a_fault_tells_what_it_may_do(fault, refused, loses, repeats):
    assert fault.refused_in_words is refused
    assert fault.may_lose_output is loses
    assert fault.may_repeat_output is repeats


def test_faults_are_picked_by_a_seed_and_in_time_all_of_them():
    def run(seed):
        rng = random.Random(seed)
        return [faults.pick(rng) for _ in range(1000)]

    assert run(7) == run(7) != run(8)
    assert {fault.name for fault in run(7)} == set(faults.ALL)
    assert {fault.at for fault in run(7)} == {*faults.PLACES, *range(12)}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fin(at="soon"),
        lambda: Fin(at=-1),
        lambda: Fin(at=True),
        lambda: CloseAfter(code=99),
        lambda: CloseAfter(code=5000),
        lambda: SlowDrip(delay=-1),
        lambda: Garble(kind="noise"),
        lambda: ErrorFrame(form="round"),
        lambda: RefuseUpgrade(status=101),
    ],
)
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises(ConfigurationError):
        make()


# Refused upgrades.


def test_upgrades_are_refused_by_their_number():
    refusal = RefuseUpgrade(times=2, after=1)
    assert [refusal.refuses(number) for number in range(1, 6)] == [False, True, True, False, False]
    assert RefuseUpgrade(times=None).refuses(1000)


def test_a_refused_upgrade_has_its_head_and_body():
    refusal = RefuseUpgrade(status=429, headers={"Retry-After": "2"}, body={"error": "slower"})
    head, body = refusal.answer().split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nRetry-After: 2" in head
    assert b"\r\nContent-Length: %d" % len(body) in head
    assert json.loads(body) == {"error": "slower"}
