"""The benchmark of conversations: what all clients talk about, and a short run of some of them."""

from __future__ import annotations

import json

import pytest

from benchmarks.chain.__main__ import main
from benchmarks.chain.clients import CLIENTS, missing
from benchmarks.chain.measure import Setting, measure
from benchmarks.chain.report import table
from benchmarks.chain.talk import INSTRUCTIONS, TOOL, Desk, answer, beginning
from llmws.testing import Server


def test_settings_take_about_4_kib_and_an_output_1_kib():
    assert 3_900 <= len(json.dumps([INSTRUCTIONS, TOOL])) <= 4_200
    assert len(Desk().look_up(7, 39)) == 1_024


# What takes a process without some package talks as its like does.
HERE = [name for name, client in CLIENTS.items() if not missing(name) and not client.without]


@pytest.mark.parametrize("name", HERE)
def test_every_client_reads_all_entries_and_is_heard(name):
    desk = Desk()
    with Server(rule=answer) as server:
        CLIENTS[name].talk(server.base_url, desk, 5)
        requests = server.ledger.requests
    desk.check(5)
    assert len(desk.calls) == 4
    assert len(requests) == 5
    assert {request.connection for request in requests} == {1}
    parents = [request.previous_response_id is not None for request in requests]
    assert parents == [False] + [name != "sse-full"] * 4
    sizes = [request.request_bytes for request in requests]
    # Settings travel every time; what was said before only where there is no parent.
    assert (sizes[-1] > sizes[1] + 3 * 1_024) == (name == "sse-full")


def test_a_lost_output_or_a_missing_answer_is_found():
    desk = Desk()
    with pytest.raises(AssertionError, match="0 calls of 4"):
        desk.check(5)
    with Server(rule=answer) as server:
        CLIENTS["llmws"].talk(server.base_url, desk, 3)
    desk.check(3)
    desk.hear("2 entries, or so")
    with pytest.raises(AssertionError, match="or so"):
        desk.check(3)


def test_the_server_sees_what_was_left_out():
    class Forgetful(Desk):
        def look_up(self, entry, entries):
            return super().look_up(entry, entries) if entry > 1 else f"{entry} of {entries}"

    desk = Forgetful()
    with Server(rule=answer) as server:
        CLIENTS["llmws"].talk(server.base_url, desk, 4)
    with pytest.raises(AssertionError):
        desk.check(4)


def test_a_process_for_each_conversation_says_what_it_took_and_sent():
    setting = Setting(turns=5, latency=0.02)
    said = []
    found = measure(setting, 1, said.append, ["llmws"])
    [figures] = found["llmws"]
    assert said == ["llmws, conversation, run 1 of 1"]
    # A round trip for the upgrade, and one for each turn.
    assert figures["seconds"] >= 6 * setting.latency
    assert figures["first_ms"] >= 2 * 20
    assert figures["turn_ms"] >= 20
    assert 5 * 4_000 < figures["payload_bytes"] < figures["sent_bytes"] < 5 * 6_000


def test_the_table_has_medians_and_spreads():
    setting = Setting(turns=40, latency=0.03)
    figures = {"turn_ms": 34.0, "cpu_ms": 2.0, "sent_bytes": 2048.0, "payload_bytes": 1024.0}
    runs = [{**figures, "seconds": seconds} for seconds in (1.5, 1.25, 2)]
    assert table(setting, {"llmws": runs}).splitlines()[-1] == (
        "| llmws, conversation | 1.50 (1.25–2.00) | 4.0 | 2.0 | 2 | 1 |"
    )


def test_what_goes_through_a_narrow_link_is_slowed_on_the_way_up():
    plans = Setting(latency=0.03, uplink_mbit=8).plans()
    assert [(plan.what, plan.way) for plan in plans] == [("delay", "both"), ("throttle", "client")]
    assert plans[1].bytes_per_second == 1e6
    assert Setting(latency=0).plans() == []


def test_the_first_input_says_how_far_the_conversation_is():
    assert beginning(40) == "Begin. 0 of 39 entries are read."


@pytest.mark.parametrize(
    "arguments",
    [
        ["--turns", "2"],
        ["--latency", "-1"],
        ["--runs", "0"],
        ["--uplink", "0"],
        ["--only", "nobody"],
    ],
)
def test_what_cannot_be_measured_is_said_at_once(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err
