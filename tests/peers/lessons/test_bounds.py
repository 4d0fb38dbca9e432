"""However a server misbehaves, each turn ends in bounded time with a bounded number of dials and of requests."""

from __future__ import annotations

import attrs
import pytest

import llmws
from llmws.testing import faults, rules
from tests.endings.script import Script
from tests.peers.lessons.scene import PATIENCE, TEXT, only, opened, session_at


TIMES = 32
# A turn may be dialled for so often in a row.
DIALS = 5


def outcomes(session, count, **options):
    """Run turns one after the other; return how each ended."""
    ended = []
    for number in range(count):
        try:
            ended.append(session.stream(f"turn {number}", **options).response(PATIENCE).text)
        except llmws.LLMWSError as exc:
            ended.append(type(exc))
    return ended


def test_a_server_that_closes_with_1000_in_every_turn_gets_each_request_once():
    fault = faults.CloseAfter(at="delta", code=1000)
    with opened(only(*range(1, TIMES + 1), fault=fault)) as (server, session):
        ended = outcomes(session, TIMES + 1)
        assert ended == [llmws.StreamInterruptedError] * TIMES + [TEXT]
        assert len(server.ledger.requests) == TIMES + 1
        assert session.stats.dials == server.ledger.connections == TIMES + 1
        assert session.stats.retries == 0


def test_a_server_that_never_answers_the_upgrade_gets_one_dial_a_turn():
    with Script(lambda wire: wire.end("mute")) as server, session_at(server.base_url) as session:
        ended = outcomes(session, 3, timeouts={"connect": 0.1})
        assert ended == [llmws.ConnectTimeout] * 3
        assert (server.connections, server.creates) == (3, [])


def test_a_server_that_never_answers_a_request_gets_it_once(short_drain):
    with opened(faults.Stall()(rules.text(TEXT)), lanes=False) as (server, session):
        ended = outcomes(session, 3, timeouts={"first_event": 0.1})
        assert ended == [llmws.FirstEventTimeout] * 3
        assert len(server.ledger.requests) == 3


def test_a_server_that_refuses_32_upgrades_gets_five_dials_a_turn_and_then_its_turns():
    refusal = faults.RefuseUpgrade(status=503, times=TIMES)
    with opened(server={"refuse_upgrade": refusal}) as (server, session):
        ended = outcomes(session, 8)
        # Six turns use up 30 refusals, the seventh two more.
        assert ended == [llmws.ReconnectError] * (TIMES // DIALS) + [TEXT] * 2
        assert session.stats.dials == TIMES + 1
        assert session.stats.failed_dials == TIMES
        assert len(server.ledger.requests) == 2


@pytest.mark.parametrize("code", ["rate_limit_exceeded", "server_error"])
def test_a_server_that_refuses_32_requests_gets_each_at_most_twice(code):
    status = faults.ERRORS[code]
    rule = rules.refuse_times(TIMES, status, code, "No.", then=rules.text(TEXT))
    with opened(rule) as (server, session):
        ended = outcomes(session, TIMES // 2 + 1)
        kind = llmws.RateLimitError if status == 429 else llmws.APIError
        assert ended == [kind] * (TIMES // 2) + [TEXT]
        assert len(server.ledger.requests) == TIMES + 1
        assert (session.stats.retries, session.stats.dials) == (TIMES // 2, 1)


def test_a_server_that_refuses_32_times_without_hope_gets_each_request_once():
    rule = rules.refuse_times(TIMES, 400, "invalid_prompt", "No.", then=rules.text(TEXT))
    with opened(rule) as (server, session):
        assert outcomes(session, TIMES + 1) == [llmws.APIError] * TIMES + [TEXT]
        assert len(server.ledger.requests) == TIMES + 1
        assert (session.stats.retries, session.stats.dials) == (0, 1)


def test_a_server_that_refuses_32_times_for_the_age_of_the_connection_gets_each_request_twice():
    fault = faults.ErrorFrame(
        code="websocket_connection_limit_reached", status=400, lane=False, close=1001
    )
    with opened(only(*range(1, TIMES + 1), fault=fault)) as (server, session):
        ended = outcomes(session, TIMES)
        # Sockets that were of no use count as failed dials; after five of them a turn is not sent at all.
        assert set(ended) == {llmws.ConnectionLimitError, llmws.ReconnectError, TEXT}
        requests, good = len(server.ledger.requests), ended.count(TEXT)
        assert requests == TIMES + good
        assert requests <= 2 * ended.count(llmws.ConnectionLimitError) + TIMES // DIALS + good
        assert session.stats.dials == TIMES + 1
        assert ended[-1] == TEXT


def test_a_server_that_hangs_up_on_every_request_gets_each_once():
    fault = faults.CloseAfter(code=1011)
    with opened(only(*range(1, TIMES + 1), fault=fault)) as (server, session):
        ended = outcomes(session, TIMES + TIMES // DIALS + 1)
        # After five sockets that were of no use one turn is not sent, and the next one is worth a dial again.
        five = [llmws.StreamInterruptedError] * DIALS
        assert ended[: 2 * (DIALS + 1)] == 2 * [*five, llmws.ReconnectError]
        assert ended.count(llmws.StreamInterruptedError) == TIMES
        assert ended[-1] == TEXT
        assert (len(server.ledger.requests), session.stats.dials) == (TIMES + 1, TIMES + 1)


def test_a_server_that_accepts_and_hangs_up_gets_five_dials_a_turn():
    def play(wire):
        wire.upgrade()
        wire.end("1000")

    with Script(play) as server, session_at(server.base_url) as session:
        ended = outcomes(session, 2)
        assert set(ended) <= {llmws.ReconnectError, llmws.StreamInterruptedError}
        assert server.connections <= 2 * DIALS
        assert session.stats.dials <= 2 * DIALS
        assert len(server.creates) <= 2


def test_a_conversation_whose_server_finds_no_parent_32_times_sends_each_turn_at_most_twice():
    fault = faults.ErrorFrame(code="previous_response_not_found", status=400)
    rule = faults.apply(
        rules.text(TEXT),
        lambda request: fault if "previous_response_id" in request.body else None,
    )
    with opened(rule) as (server, session):
        chat = session.conversation()
        for number in range(TIMES + 1):
            assert chat.create(f"turn {number}").text == TEXT
        assert len(server.ledger.requests) == 2 * TIMES + 1
        assert (session.stats.retries, session.stats.dials) == (TIMES, 1)


def test_a_server_with_another_reason_each_time_gets_a_request_once_for_each():
    reasons = [
        faults.ErrorFrame(code="previous_response_not_found", status=400),
        faults.ErrorFrame(code="rate_limit_exceeded", status=429),
        faults.ErrorFrame(code="websocket_stream_limit_reached", status=400),
        faults.ErrorFrame(code="server_is_overloaded", status=503),
        faults.ErrorFrame(code="websocket_connection_limit_reached", status=400, close=1001),
    ]
    rule = faults.apply(
        rules.text(TEXT),
        lambda request: reasons[request.number % 5] if request.number > 1 else None,
    )
    with opened(rule, lanes=True) as (server, session):
        chat = session.conversation()
        chat.create("one")
        with pytest.raises(llmws.APIError):
            chat.create("two")
        # Its whole transcript, later, and on another connection: each of them once.
        assert len(server.ledger.requests) - 1 <= 4
        assert session.stats.retries <= 3
        assert session.stats.dials <= 2


def test_a_mute_server_holds_up_no_turn_beyond_the_sum_of_its_limits():
    fault = attrs.evolve(faults.ALL["half-open"], at=0)
    with opened(fault(rules.text(TEXT)), ping=0.05, lanes=False) as (server, session):
        ended = outcomes(session, 3, timeouts={"total": 1.0})
        assert ended == [llmws.StreamInterruptedError] * 3
        assert len(server.ledger.requests) == 3
