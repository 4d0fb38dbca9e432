"""What llmws makes of what a fault proxy does to it."""

import contextlib

import pytest

import llmws
from llmws.testing import Server, rules
from llmws.testing.plans import Plan
from llmws.testing.proxy import FaultProxy


@contextlib.contextmanager
def session_through(plan=None, scheme="http", context=None, server_context=None, **options):
    with (
        Server(rule=rules.text("one two three"), ssl_context=server_context) as server,
        FaultProxy.before(server.base_url, plan) as proxy,
        llmws.Session(
            "m", base_url=proxy.base_url(scheme), ssl_context=context, **options
        ) as session,
    ):
        yield session, proxy, server


def first(plan):
    return lambda number: plan if number == 1 else None


@pytest.mark.parametrize("plan", [None, Plan("split", size_bytes=1), Plan("split", size_bytes=7)])
def test_tls_passes_untouched(plan, tls):
    server_context, context = tls
    with session_through(plan, "https", context, server_context) as (session, proxy, _):
        assert session.create("x").text == "one two three"
        assert proxy.counters.from_server_bytes > 4000


@pytest.mark.parametrize("what", ["reset", "fin"])
@pytest.mark.parametrize("count", range(400, 4600, 600))
def test_a_turn_that_is_cut_anywhere_shows_a_prefix_and_says_so(what, count):
    with session_through(first(Plan(what, after_server_bytes=count))) as (session, proxy, server):
        stream = session.stream("x")
        with pytest.raises(llmws.StreamInterruptedError) as caught:
            stream.response(10)
        error = caught.value
        assert error.close_code == 1006
        assert error.may_have_been_billed
        assert "one two three".startswith(error.partial.text)
        assert [fired.server_bytes for fired in proxy.fired] == [count]
        assert session.create("again").text == "one two three"
        assert len(server.ledger.requests) == 2


@pytest.mark.parametrize("plan", [Plan("refuse"), Plan("reset", after_server_bytes=20)])
def test_a_connection_that_ends_before_the_upgrade_is_dialled_again(plan):
    with session_through(first(plan)) as (session, proxy, server):
        assert session.create("x").text == "one two three"
        assert proxy.counters.connections == 2
        assert len(server.ledger.requests) == 1


def test_a_mute_server_is_a_connect_timeout():
    timeouts = llmws.Timeouts(connect=0.1)
    with session_through(Plan("mute"), timeouts=timeouts) as (session, _, server):
        with pytest.raises(llmws.ConnectTimeout):
            session.create("x")
        assert server.ledger.requests == []


def test_a_black_hole_in_a_turn_is_an_idle_timeout():
    timeouts = llmws.Timeouts(idle=0.1, close=0.1)
    plan = Plan("black_hole", after_server_bytes=1500)
    with session_through(first(plan), timeouts=timeouts) as (session, _, _):
        with pytest.raises(llmws.IdleTimeout) as caught:
            session.create("x")
        assert caught.value.state == "accepted"


@pytest.mark.parametrize(
    "plan",
    [
        Plan("split", size_bytes=1),
        Plan("delay", seconds=0.01),
        Plan("throttle", bytes_per_second=200_000),
    ],
)
def test_a_slow_link_loses_nothing(plan):
    with session_through(plan) as (session, proxy, _):
        assert session.create("x").text == "one two three"
        assert proxy.counters.fired == 1
