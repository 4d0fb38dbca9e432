"""A bounded part of each item; ``python -m tests.scale`` measures them in full."""

from __future__ import annotations

import pytest

from llmws.responses.conversation import chain
from tests.scale.crowd import crowd
from tests.scale.growth import SHORTENINGS, delta_turns, memory
from tests.scale.rotation import Rotated, rotate


THREADS = 64


def test_64_threads_share_four_connections_of_a_server_with_lanes():
    found = crowd(THREADS, 0.4, apart=False)
    assert (found.wrong, found.refused, found.requests) == (0, [], THREADS)
    assert found.connections == found.at_once == 4
    # One after the other they would take 6.4 s even on four connections.
    assert found.seconds < 4.0


@pytest.mark.parametrize("session_lanes", [None, True])
@pytest.mark.parametrize("server_lanes", [False, "ignored"])
def test_64_threads_get_the_right_answers_of_a_server_without_lanes(server_lanes, session_lanes):
    found = crowd(THREADS, 0.0, server_lanes=server_lanes, session_lanes=session_lanes, apart=False)
    assert (found.wrong, found.refused, found.requests) == (0, [], THREADS)
    assert found.connections <= 8


def test_a_server_that_refuses_names_of_lanes_is_asked_once_more_without():
    found = crowd(16, 0.0, server_lanes="refused", session_lanes=None, apart=False)
    assert (found.wrong, found.refused) == (0, ["unknown_parameter"])
    assert found.requests == 17


@pytest.mark.parametrize("shortening", SHORTENINGS)
def test_memory_is_flat_in_a_conversation_that_is_kept_short(shortening, monkeypatch):
    # The records of the latest turns fill up first, and take a thousand turns for it.
    monkeypatch.setattr(chain, "_RECORDS", 20)
    early, late = memory(shortening, (40, 120))
    assert late.items < 60
    assert late.traced_bytes - early.traced_bytes < 8 * 1024


def test_a_delta_turn_costs_the_same_over_any_history():
    found = delta_turns((10, 10_000), rounds=3, turns=10)
    short, long = found.values()
    assert (short.fulls, long.fulls) == (0, 0)
    assert short.most_bytes == long.most_bytes < 250
    # A look at each of 10,000 items would take several times as long.
    assert long.opening_us < 3 * short.opening_us + 200
    assert long.median_us < 2 * short.median_us + 1_000


def test_no_turn_pays_a_dial_or_a_full_replay_over_three_connections():
    found = rotate(2, max_age=1.5, seconds=0.05, conversations=2, apart=False, enforced=False)
    assert found.rotations >= 2
    # The time that a turn was late is a busy machine's; the command measures it.
    assert found.faults(conversations=2, late=float("inf")) == []


# A count that cannot fail shows nothing.


def test_what_a_rotation_costs_is_said():
    fine = {"lives": 5, "rotations": 4, "turns": 40, "late": 0.01, "warm_ups": 4}
    quiet = {"without_parent": 1, "cold": 1, "wrong": 0, "refused": [], "retries": 0, "lost": 0}
    assert Rotated(**fine, **quiet).faults(1, late=0.05) == []
    costly = {**fine, "late": 0.06, "warm_ups": 3, "lives": 1}
    loud = {**quiet, "without_parent": 2, "cold": 2, "retries": 1}
    assert Rotated(**costly, **loud).faults(1, late=0.05) == [
        "turns late: True",
        "connections that had no turn: True",
        "warm-ups missing: True",
        "full replays: 1",
        "connections that a turn had to dial: 1",
        "sent again: 1",
    ]
    wasteful = Rotated(**{**fine, "warm_ups": 5}, **quiet)
    assert wasteful.faults(1, late=0.05) == ["warm-ups of what was elsewhere: True"]
