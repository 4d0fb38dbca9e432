"""The fuzz targets on hypothesis's bytes: the same functions, fewer inputs. ``python -m tests.fuzz`` runs more."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.fuzz import __main__ as command
from tests.fuzz import framings, jsons
from tests.fuzz.__main__ import main
from tests.fuzz.choices import Choices
from tests.fuzz.machines import MACHINES, live
from tests.fuzz.targets import TARGETS


# Inputs that nest to the limit.
pytestmark = pytest.mark.usefixtures("no_finalizers")


EXAMPLES = 40


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes], most: int) -> bytes:
    """Draw a seed, and do to it what a fuzzer does."""
    data = draw(st.sampled_from(seeds))[:most]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=6)) + data[at + draw(st.integers(0, 6)) :]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks_a_promise(name: str) -> None:
    target = TARGETS[name]
    seeds = [*target.seeds()]
    inputs = st.one_of(st.binary(max_size=150), damaged(seeds, target.most_bytes))

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(inputs)
    def check(data: bytes) -> None:
        target.check(data)

    check()


@pytest.mark.parametrize("name", TARGETS)
def test_what_the_fuzzers_start_with_is_in_order(name: str) -> None:
    target = TARGETS[name]
    for data in target.seeds():
        target.check(data)


def test_choices_are_read_from_the_front_and_end_with_the_first_option() -> None:
    choices = Choices(b"\x05\x01\x00\x02abc")
    assert choices.number(4) == 1
    assert choices.flag() is True
    assert choices.number(1000) == 2
    assert choices.one_of("xyz") == "y"
    assert choices.bytes(2) == b"bc"
    assert not choices.more
    assert (choices.number(9), choices.flag(), choices.one_of("xyz")) == (0, False, "x")
    assert [*Choices(b"\x01\x00").cuts(b"abcdef", (4, 1))] == [b"a", b"bcde", b"f"]


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (b"\x81\x02hi\x89\x00", [b"hi", framings.Ping(b"")]),
        (b"\x01\x01h\x80\x01i", [b"hi"]),
        (b"\x82\x7e\x00\x01x\x88\x02\x03\xe8\x81\x00", [framings.Binary(b"x"), framings.Close(1000, "")]),
        (b"\x81\x01\xff", [("violation", 1007)]),
        (b"\x01\x01\xe2\x80\x01\x82", [("violation", 1007)]),
        (b"\x81\x80", [("violation", 1002)]),
        (b"\x80\x00", [("violation", 1002)]),
        (b"\x88\x01\x03", [("violation", 1002)]),
        (b"\x81\x7f\x80", []),
        (b"\x81\x7f" + b"\x80" + bytes(7), [("violation", 1002)]),
        (b"\x81\x7e\x00\xc9", [("violation", 1009)]),
        (b"\x01\x00" + b"\x00\x00" * 2 + b"\x80", []),
        (b"\x01\x00" + b"\x00\x00" * 2 + b"\x80\x00", [("violation", 1009)]),
    ],
)  # fmt: skip
def test_the_reference_decodes_as_the_rfc_has_it(wire: bytes, expected: list[object]) -> None:
    assert framings.reference("client", wire, max_message_bytes=200, max_fragments=3) == expected


def test_a_difference_between_the_two_ways_of_reading_json_is_found() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsons.jsoncodec, "_fast", lambda data: float(data))
        with pytest.raises(AssertionError):
            jsons.any_json(b"12")


@pytest.mark.parametrize("name", MACHINES)
def test_machines_live_by_their_seed_until_the_time_is_up(name: str) -> None:
    assert live(MACHINES[name], 0.0, 1, lives=3) >= 3


def test_what_a_machine_finds_is_told_before_it_is_made_short(capsys) -> None:
    lives = []

    class Broken(RuleBasedStateMachine):
        @rule(number=st.integers(0, 99))
        def step(self, number: int) -> None:
            lives.append("traceback" if capsys.readouterr().err else "nothing")
            assert number < 50, "so it goes"

    with pytest.raises(AssertionError, match="so it goes") as caught:
        live(Broken, 0.0, 1)
    told = lives.index("traceback")
    assert 0 < told < len(lives) - 1, "not told before it was made short"
    assert "step(number=50)" in "".join(caught.value.__notes__)


def test_what_a_worker_said_is_shown_when_it_takes_too_long(monkeypatch) -> None:
    def run(command: list[str], **kwargs: object) -> None:
        raise subprocess.TimeoutExpired(command, 1.0, output=b"so it goes\n")

    monkeypatch.setattr(command.subprocess, "run", run)
    code, output, _ = command.worked("tests.fuzz.machines", (), 1)
    assert code == -1
    assert output == "so it goes\n\nthe worker took too long"


def test_a_replay_runs_one_input(tmp_path, capsys) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"{}")
    assert main(["json", "--replay", str(path)]) == 0
    assert "nothing was found" in capsys.readouterr().out


def test_the_command_keeps_and_shows_what_it_finds(tmp_path, monkeypatch, capsys) -> None:
    def find(module: str, given: tuple[str, ...], seconds: int) -> tuple[int, str, float]:
        folder = tmp_path / "json"
        folder.mkdir()
        (folder / "find-crash-1").write_bytes(b"[1")
        return 77, "AssertionError: so it goes\nstat::number_of_executed_units: 12\n", 1.0

    monkeypatch.setattr(command, "worked", find)
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: name)
    assert main(["json", "--folder", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    for words in (
        "12 runs",
        "FOUND",
        "so it goes",
        "input: b'[1'",
        f"--replay {tmp_path}/json/find",
    ):
        assert words in said


def test_without_atheris_the_command_says_so_and_fails_if_it_must(monkeypatch, capsys) -> None:
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    assert main(["json"]) == 0
    assert main(["json", "--require"]) == 1
    assert capsys.readouterr().out.count("atheris is not installed") == 2
