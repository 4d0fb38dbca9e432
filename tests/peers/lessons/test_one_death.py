"""A connection that dies with sixteen turns on it: each ends or goes on by its own state, and nobody else notices."""

from __future__ import annotations

import collections
import itertools

import pytest

import llmws
from llmws.testing import FaultProxy, Server, rules
from llmws.testing.plans import Plan
from tests.peers.lessons.scene import LANES, PATIENCE, TEXT, notices, session_at
from tests.responses.acting import Steps, until


FULL = 16
# How many events of an answer come before the connection dies, by the turn's number.
STAGES = ((0, "sent"), (1, "accepted"), (6, "output"))


def test_sixteen_turns_end_each_by_its_own_state_and_those_of_another_connection_do_not_notice():
    steps = {str(number): Steps(rules.text(TEXT)) for number in range(2 * FULL + 3)}

    def rule(request):
        return steps[request.input_text](request)

    with (
        Server(rule=rule) as server,
        FaultProxy.before(server.base_url) as proxy,
        session_at(proxy.base_url(), capabilities=LANES, max_connections=2) as session,
    ):
        # The first sixteen fill a connection, the next sixteen another one, and three wait for either.
        streams = [session.stream(number) for number in steps]
        until(lambda: len(server.ledger.requests) == 2 * FULL)
        homes = {entry.body["input"]: entry.connection for entry in server.ledger.requests}
        hit = [number for number in steps if homes.get(number) == 1]
        assert collections.Counter(homes.values()) == {1: FULL, 2: FULL}
        expected = {}
        for number, (events, state) in zip(hit, itertools.cycle(STAGES), strict=False):
            if events:
                steps[number].let(events)
            expected[number] = state
        for number, state in expected.items():
            stream, text = streams[int(number)], "one two" if state == "output" else ""
            until(
                lambda s=stream, state=state, text=text: (s.state, s.snapshot.text) == (state, text)
            )

        proxy.strike(Plan("reset"), connection=1)
        for number, state in expected.items():
            with pytest.raises(llmws.StreamInterruptedError) as caught:
                streams[int(number)].response(PATIENCE)
            assert (caught.value.state, caught.value.may_have_been_billed) == (state, True)
            assert caught.value.partial.text == ("one two" if state == "output" else "")
        for turnstile in steps.values():
            turnstile.let_all()
        for number in steps.keys() - expected.keys():
            stream = streams[int(number)]
            assert stream.response(PATIENCE).text == "".join(stream.texts()) == TEXT
            if number in homes:
                assert notices(stream) == []
        # Those that waited were sent once, over whatever was there then.
        sent = collections.Counter(entry.body["input"] for entry in server.ledger.requests)
        assert set(sent.values()) == {1}
        assert len(sent) == len(steps)
        assert (session.stats.retries, session.stats.lost) == (0, 1)
