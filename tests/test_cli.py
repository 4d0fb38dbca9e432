import os
import signal
import sys

import pytest

from llmws import Session, cli, demo
from llmws.testing import Server, rules
from tests.programs import SECONDS, begin, end, environment, starting


# As an installation without any extra sees it.
BARE = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("msgspec", "pytest", "python_socks", "trustme"):
            raise ImportError(name)
sys.meta_path.insert(0, Missing())
from llmws.cli import main
sys.exit(main())
"""


@pytest.fixture(scope="module", autouse=True)
def slow_programs():
    """What takes its time runs beside the other tests; each is looked at where it is tested."""
    busy = {"HTTP_PROXY": "http://127.0.0.1:1", "OPENAI_API_KEY": "no key\n", "LC_ALL": "C"}
    started = {
        "demo": begin("demo"),
        "bare": begin("demo", command=[sys.executable, "-W", "error", "-c", BARE]),
        "busy": begin("demo", env=environment(PYTHONIOENCODING="ascii", **busy)),
        "refused": begin("chat", "--base-url", "http://127.0.0.1:1/v1"),
    }
    started["refused"].stdin.write("Hello!\n")
    started["refused"].stdin.flush()
    yield started
    end(started.values())


@pytest.fixture
def start():
    """Start the command in a process, which ends with the test."""
    with starting() as run:
        yield run


# The command itself.


def test_without_arguments_it_prints_its_help(capsys):
    assert cli.main([]) == 0
    shown = capsys.readouterr()
    assert all(command in shown.out for command in ("demo", "serve", "chat"))
    assert shown.err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sing"], "invalid choice: 'sing'"),
        (["demo", "now"], "unrecognized arguments: now"),
        (["serve", "--port", "70000"], "'70000' is no port: give a number from 0 to 65535"),
        (["serve", "--port", "-1"], "'-1' is no port"),
        (["serve", "--port", "²"], "'²' is no port"),
        (["chat", "--base-url"], "expected one argument"),
    ],
)
def test_wrong_arguments_are_told_with_exit_code_2(capsys, arguments, words):
    with pytest.raises(SystemExit) as exit:
        cli.main(arguments)
    assert exit.value.code == 2
    assert words in capsys.readouterr().err


def test_it_tells_its_version(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out.startswith("llmws ")


def test_output_that_nobody_reads_ends_it_quietly(start):
    unread, output = os.pipe()
    os.close(unread)
    program = start("demo", stdout=output)
    os.close(output)
    errors = program.communicate(timeout=SECONDS)[1]
    assert (program.returncode, errors) == (141, "")


# serve.


@pytest.fixture
def serving(start):
    """Start to serve; gives the program, its base URL and what it has printed, which is all that it prints."""

    def serve(*arguments):
        program = start("serve", *arguments)
        lines = []
        for line in program.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        return program, lines[0].split()[-1], "".join(lines)

    return serve


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(serving, ending):
    program, base_url, shown = serving()
    assert f"llmws chat --base-url {base_url}\n" in shown
    with Session("any", base_url=base_url) as session:
        assert session.create("Hello!").text == "Hello!"
        program.send_signal(ending)
        assert program.communicate(timeout=SECONDS) == ("", "")
    assert program.returncode == 0


def test_it_serves_a_recording_on_a_port(serving, tmp_path):
    recording = tmp_path / "answer.jsonl"
    recording.write_text('{"type": "response.completed", "response": {"id": "resp_recorded"}}\n')
    with Server() as other:
        port = other.base_url.split(":")[2].removesuffix("/v1")
    program, base_url, shown = serving("--recording", str(recording), "--port", port)
    assert base_url == other.base_url
    assert f"It plays {recording}." in shown
    with Session("any", base_url=base_url) as session:
        assert session.create("Hello!").id == "resp_recorded"
    program.send_signal(signal.SIGINT)
    assert program.communicate(timeout=SECONDS) == ("", "")
    assert program.returncode == 0


def test_a_port_that_is_in_use_is_told_in_one_line(capsys):
    with Server() as other:
        port = other.base_url.split(":")[2].removesuffix("/v1")
        assert cli.main(["serve", "--port", port]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"llmws: Cannot serve on port {port}: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "There is no recording"), ("", "is empty"), ("{\n", "line 1"), ("[]\n", "line 1")],
)
def test_a_recording_that_cannot_be_played_is_told_in_one_line(tmp_path, capsys, content, words):
    recording = tmp_path / "recording.jsonl"
    if content is not None:
        recording.write_text(content)
    assert cli.main(["serve", "--recording", str(recording)]) == 2
    errors = capsys.readouterr().err
    assert words in errors
    assert errors.count("\n") == 1


def test_a_folder_is_no_recording(tmp_path, capsys):
    assert cli.main(["serve", "--recording", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"llmws: The recording {tmp_path} cannot be read: ")


# demo.


def program_ended(program):
    out, errors = program.communicate(timeout=SECONDS)
    return program.returncode, out, errors


@pytest.mark.parametrize("name", ["demo", "bare", "busy"])
def test_the_demo_runs_anywhere_and_agrees_with_the_ledger(slow_programs, name):
    code, out, errors = program_ended(slow_programs[name])
    assert (code, errors) == (0, "")
    for words in (
        demo.SCENES[0].answer,
        'calls look_in_fridge({"item": "eggs"})',
        '{"item": "eggs", "count": 7}',
        demo.SCENES[2].answer,
        demo.SCENES[3].answer,
        "usage                327 input + 141 output = 468 tokens",
        "dials                1\n",
        "ledger               agrees: 4 creates, 1 connection",
    ):
        assert words in out
    figures = dict(line.split("  ", 1) for line in out.splitlines()[-5:])
    assert float(figures["time to first chunk"].split()[0]) > 0
    assert float(figures["chunks a second"].split()[0].rstrip(",")) > 0


def test_the_command_ends_with_1_if_the_ledger_disagrees_or_a_turn_fails(monkeypatch, capsys):
    monkeypatch.setenv("no_proxy", "")  # The command changes it; afterwards it is as it was.
    monkeypatch.setattr(demo, "SECONDS_BETWEEN_EVENTS", 0.0)
    for rule, words in (
        (rules.echo(), "llmws: The ledger disagrees"),
        (rules.fail("server_error", "Sorry."), "llmws: Sorry. (server_error)\n"),
    ):
        monkeypatch.setattr(demo, "rule", lambda rule=rule: rule)
        assert cli.main(["demo"]) == 1
        assert words in capsys.readouterr().err


def test_a_refused_connection_is_told_and_ends_the_pipe(slow_programs):
    out, errors = slow_programs["refused"].communicate(timeout=SECONDS)
    assert (slow_programs["refused"].returncode, out) == (1, "")
    *notices, error = errors.splitlines()
    assert notices
    assert all(line.startswith("llmws: redial in ") for line in notices)
    assert error.startswith("llmws: Gave up after 5 failed dials")
    assert "refused" in error
