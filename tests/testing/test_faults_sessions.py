"""What llmws makes of each fault, as documented."""

import attrs
import pytest

import llmws
from llmws.testing import Server, faults, rules
from llmws.testing.faults import ErrorFrame


RULE = rules.text("one two three")

LOST = {"FIN": 1006, "RST": 1006, **{f"close {code}": code for code in faults.CLOSE_CODES}}
LOST["close None"] = 1005
KINDS = {
    "rate_limit_exceeded": llmws.RateLimitError,
    "previous_response_not_found": llmws.PreviousResponseNotFoundError,
    "server_is_overloaded": llmws.OverloadedError,
    "slow_down": llmws.OverloadedError,
}


@pytest.mark.parametrize("name", [name for name in faults.ALL if not name.startswith("error")])
def test_llmws_tells_of_a_fault_in_the_middle_of_a_turn(name):
    fault = faults.ALL[name]
    rule = faults.apply(RULE, lambda request: fault if request.number == 1 else None)
    mute = name in ("stall", "half-open")
    timeouts = llmws.Timeouts(idle=0.1 if mute else 10.0, close=0.1)
    with (
        Server(rule=rule) as server,
        llmws.Session("m", base_url=server.base_url, timeouts=timeouts) as session,
    ):
        stream = session.stream("x")
        if not fault.may_lose_output or name == "omit":
            assert stream.response(10).text == "one two three"
        else:
            with pytest.raises(llmws.TurnError) as caught:
                stream.response(10)
            error = caught.value
            if name in LOST:
                assert type(error) is llmws.StreamInterruptedError
                assert error.close_code == LOST[name]
            elif mute:
                assert type(error) is llmws.IdleTimeout
            else:
                assert type(error) is llmws.RemoteProtocolError
            assert (error.state, error.may_have_been_billed) == ("output", True)
            assert error.partial.text == "one"
        assert [struck.fault for struck in rule.struck] == [fault]
        assert server.errors == []
        if not mute:  # Those turns are drained first, for seconds.
            assert session.create("again").text == "one two three"


@pytest.mark.parametrize("name", [name for name in faults.ALL if name.startswith("error")])
def test_llmws_tells_of_an_error_after_output(name):
    fault = attrs.evolve(faults.ALL[name], at="delta")
    with (
        Server(rule=fault(RULE)) as server,
        llmws.Session("m", base_url=server.base_url) as session,
    ):
        stream = session.stream("x")
        if fault.close is not None:
            with pytest.raises(llmws.StreamInterruptedError) as caught:
                stream.response(10)
            assert caught.value.close_code == fault.close
            return
        response = stream.response(10)
        assert response.status == "failed"
        with pytest.raises(KINDS.get(fault.code, llmws.APIError)) as caught:
            response.raise_for_status()
        assert caught.value.code == fault.code


def test_llmws_tells_of_an_error_before_output():
    fault = ErrorFrame(code="invalid_prompt", status=400)
    with (
        Server(rule=fault(RULE)) as server,
        llmws.Session("m", base_url=server.base_url) as session,
    ):
        with pytest.raises(llmws.APIError) as caught:
            session.create("x")
        assert (caught.value.code, caught.value.status) == ("invalid_prompt", 400)
        assert caught.value.may_have_been_billed is False
        assert len(server.ledger.requests) == 1


@pytest.mark.parametrize("name", faults.UPGRADES)
def test_llmws_tells_of_a_refused_upgrade(name):
    refusal = attrs.evolve(faults.UPGRADES[name], times=None)
    kind = {401: llmws.AuthenticationError, 403: llmws.AuthenticationError}.get(refusal.status)
    kind = llmws.UpgradeRefusedError if refusal.status == 426 else kind or llmws.HandshakeError
    final = refusal.status not in (408, 409, 429, 500, 503)
    timeouts = llmws.Timeouts(lane_wait=0.1)
    with (
        Server(refuse_upgrade=refusal) as server,
        llmws.Session("m", base_url=server.base_url, timeouts=timeouts) as session,
    ):
        with pytest.raises(kind if final else llmws.LaneTimeout) as caught:
            session.create("x")
        if final:
            assert caught.value.status == refusal.status
        assert server.ledger.connections == 0


def test_llmws_dials_again_if_a_refusal_is_not_for_good():
    with (
        Server(rule=RULE, refuse_upgrade=faults.UPGRADES["429"]) as server,
        llmws.Session("m", base_url=server.base_url) as session,
    ):
        assert session.create("x").text == "one two three"
        assert server.ledger.connections == 1
