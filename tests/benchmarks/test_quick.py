"""Clients in processes of their own against the server in its own: a small part of ``--quick``."""

import pytest

import llmws
from benchmarks import measure
from benchmarks.__main__ import main
from benchmarks.clients import Address, make
from benchmarks.payloads import Sizes
from benchmarks.scenarios import Scenario


SIZES = Sizes.quick()
SCENARIOS = {
    "burst": Scenario("A burst", "burst", ("llmws-stdlib-chunks", "raw-json")),
    "fresh": Scenario("Fresh connections", "fresh", ("llmws-stdlib",), "https"),
    "paced": Scenario("Paced", "paced", ("requests-sse",), settings={"answer": "slow"}),
    "cold": Scenario("A cold process", "cold", ("llmws-stdlib",)),
}


@pytest.fixture(scope="module")
def found():
    said = []
    with measure.serving(SIZES, SCENARIOS) as server:
        outcomes = {
            name: measure.measure(scenario, server, SIZES, 1, said.append)
            for name, scenario in SCENARIOS.items()
        }
    assert len(said) == sum(len(outcome) for outcome in outcomes.values())
    return outcomes


def only(outcome):
    assert outcome.failures == []
    [figures] = outcome.figures
    return figures


def test_a_burst_is_read_by_llmws_and_by_the_raw_socket(found):
    for client in found["burst"]:
        figures = only(found["burst"][client])
        assert figures["events_per_second"] > 0
        assert figures["cpu_us"] > 0
        assert figures["msgspec"] is False
    assert set(found["burst"]) == {"llmws-stdlib-chunks", "raw-json"}


def test_fresh_connections_over_tls_do_not_fail(found):
    figures = only(found["fresh"]["llmws-stdlib"])
    assert (figures["failed"], figures["connected"], figures["kinds"]) == (0, SIZES.fresh, [])


def test_what_is_late_is_measured_by_the_servers_stamp(found):
    if "requests-sse" not in found["paced"]:
        pytest.skip("sseclient-py is not installed.")
    figures = only(found["paced"]["requests-sse"])
    assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["max_us"] < 60e6


def test_a_whole_process_says_how_long_it_took_and_what_it_held(found):
    figures = only(found["cold"]["llmws-stdlib"])
    assert figures["ms"] > 0
    assert 5 < figures["peak_mib"] < 500


def test_a_client_that_fails_is_tried_again_and_said(monkeypatch, capfd):
    monkeypatch.setattr(measure, "_ATTEMPTS", 2)
    nowhere = measure.Server("http://127.0.0.1:1/v1", "", None, "")
    scenario = Scenario("Nowhere", "burst", ("raw-json",))
    outcome = measure.measure(scenario, nowhere, SIZES, 1, lambda line: None)["raw-json"]
    assert outcome.figures == []
    assert len(outcome.failures) == 2
    assert all("ConnectionRefusedError" in failure for failure in outcome.failures)
    assert "Traceback" in capfd.readouterr().err


def test_a_dial_that_llmws_repeats_by_itself_counts_as_a_failure():
    client = make("llmws-stdlib", Address("http://127.0.0.1:1/v1", ""))
    assert client.hidden_failures() == 0
    request = {"model": "benchmark", "input": "short", "timeouts": {"lane_wait": 0.5}}
    with pytest.raises(llmws.LaneTimeout):
        list(client.events(request))
    assert client.hidden_failures() >= 1
    client.close()


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--runs", "0"]])
def test_what_cannot_be_run_is_said_at_once(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err
