"""``llmws chat``: questions from a pipe and at a terminal's prompt."""

import contextlib
import io
import os
import selectors
import signal
import subprocess
import sys
import threading
import time

import pytest

from llmws import cli
from llmws.testing import Answer, Server, rules
from tests.programs import SECONDS, environment, starting


# Makes the pseudo-terminal on standard input the one whose Ctrl-C this process gets.
ON_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from llmws.cli import main
sys.exit(main())
"""


@pytest.fixture
def start():
    """Start the command in a process, which ends with the test."""
    with starting() as run:
        yield run


@pytest.fixture
def chat(monkeypatch, capsys):
    """Pipe questions into a chat in this process; gives the exit code, stdout and stderr."""

    def ask(base_url, questions, *arguments):
        monkeypatch.setattr(sys, "stdin", io.StringIO(questions))
        code = cli.main(["chat", "--base-url", base_url, *arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return ask


def previous_ids(server):
    return [create.get("previous_response_id") for create in server.ledger.creates]


# Questions from a pipe.


def test_a_chat_chains_its_turns_on_one_connection(chat):
    with Server() as server:
        assert chat(server.base_url, "One?\n\n  \nTwo?\n") == (0, "One?\nTwo?\n", "")
        first, second = server.ledger.requests
        assert previous_ids(server) == [None, first.response_id]
        assert (first.connection, second.connection) == (1, 1)
        assert first.body["model"] == "gpt-6-astra"


def test_a_chat_with_another_model(chat):
    with Server() as server:
        chat(server.base_url, "One?", "--model", "gpt-6-nova")
        assert server.ledger.creates[0]["model"] == "gpt-6-nova"


def test_a_chain_that_the_server_has_forgotten_is_begun_anew(chat):
    forgotten = rules.refuse(400, "previous_response_not_found", "No such response.")
    with Server(rule=rules.sequence(rules.text("A"), forgotten, rules.text("B"))) as server:
        code, out, errors = chat(server.base_url, "One?\nTwo?\nThree?\n")
        assert (code, out) == (0, "A\nB\nB\n")
        assert (
            errors == "llmws: The server no longer has this conversation; a new one begins here.\n"
        )
        first, _, second, _ = (entry.response_id for entry in server.ledger.requests)
        assert previous_ids(server) == [None, first, None, second]
        assert server.ledger.creates[2]["input"] == "Two?"


def test_a_server_that_misses_a_chain_where_there_is_none_is_not_asked_again(chat):
    with Server(rule=rules.refuse(400, "previous_response_not_found", "No.")) as server:
        code, _, errors = chat(server.base_url, "One?\n")
        assert (code, errors) == (1, "llmws: No. (400, previous_response_not_found)\n")
        assert len(server.ledger.creates) == 1


def test_escapes_in_an_answer_are_taken_out(chat):
    evil = rules.text("\x1b]0;owned\x07Hi\x9b31m,\r\tyou\n")
    with Server(rule=evil) as server:
        assert chat(server.base_url, "One?\n") == (0, "]0;ownedHi31m,\tyou\n", "")


def test_an_error_is_told_in_one_line_and_ends_the_pipe(chat):
    with Server(rule=rules.refuse(400, "broken", "It\nis \x1b[31mbroken.")) as server:
        code, out, errors = chat(server.base_url, "One?\nTwo?\n")
        assert (code, out, errors) == (1, "", "llmws: It is [31mbroken. (400, broken)\n")
        assert len(server.ledger.creates) == 1


def test_what_was_said_before_a_failure_stays_and_the_failure_is_told(chat):
    with Server(rule=rules.fail("server_error", "Sorry.", after="Well")) as server:
        code, out, errors = chat(server.base_url, "One?\n")
    assert (code, out, errors) == (1, "Well\n", "llmws: Sorry. (server_error)\n")


def test_an_answer_that_was_cut_short_says_so(chat):
    with Server(rule=rules.incomplete("Well")) as server:
        assert chat(server.base_url, "?") == (0, "Well\n(cut short: max_output_tokens)\n", "")


def test_a_refusal_is_shown(chat):
    with Server(rule=rules.refusal("I will not.")) as server:
        assert chat(server.base_url, "?") == (0, "I will not.\n", "")


@pytest.mark.parametrize(
    ("base_url", "arguments", "words"),
    [
        ("https://api.openai.com/v1", [], "set OPENAI_API_KEY"),
        ("ftp://127.0.0.1/v1", [], "use https, wss, http or ws"),
        ("http://127.0.0.1:1/v1", ["--model", ""], "No model"),
    ],
)
def test_a_chat_that_cannot_begin_ends_with_exit_code_2(chat, base_url, arguments, words):
    code, out, errors = chat(base_url, "One?\n", *arguments)
    assert (code, out) == (2, "")
    assert words in errors
    assert errors.count("\n") == 1


def test_a_wrong_address_is_told_in_one_line(chat):
    with Server() as server:
        code, out, errors = chat(server.base_url + "/typo", "One?\n")
    assert (code, out) == (1, "")
    assert "404" in errors
    assert errors.count("\n") == 1


def test_letters_that_cannot_be_read_or_shown_do_not_end_a_chat(start):
    with Server() as server:
        ascii_only = environment(PYTHONIOENCODING="ascii:strict")
        program = start("chat", "--base-url", server.base_url, env=ascii_only)
        assert program.communicate("Café?\n", timeout=SECONDS) == ("Caf???\n", "")
    assert program.returncode == 0


# Ctrl-C.


def hesitating(released):
    """Return a rule that says some words, and the others once it is released, if the client is still there."""

    def rule(request):
        answer = Answer(request)
        started = list(answer.start())
        yield from started
        message = answer.message("It was a dark and stormy night.")
        for event in message:
            yield event
            if event.get("delta", "").endswith("stormy"):
                break
        # Each event wakes the reader, which Python may not do for a signal that comes just before a wait.
        while not (request.connection.closed.wait(0.1) or released.is_set()):
            yield started[-1]
        yield from message
        yield from answer.complete()

    return rule


def test_ctrl_c_in_an_answer_goes_on_with_the_next_question_from_the_pipe(start):
    with Server(rule=rules.sequence(hesitating(threading.Event()), rules.echo())) as server:
        program = start("chat", "--base-url", server.base_url)
        program.stdin.write("Tell me a story.\nThe end?\n")
        program.stdin.close()
        program.stdin = None
        story = ""
        while not story.endswith("stormy"):
            story += program.stdout.read(1)
        program.send_signal(signal.SIGINT)
        out, errors = program.communicate(timeout=SECONDS)
        assert story + out == "It was a dark and stormy\n(stopped)\nThe end?\n"
        assert (program.returncode, errors) == (0, "")
        assert previous_ids(server) == [None, None]


class Interrupting(io.StringIO):
    """A pipe at which Ctrl-C is pressed while it is waited for after its last line."""

    def readline(self, *size):
        line = super().readline(*size)
        if not line:
            signal.raise_signal(signal.SIGINT)
        return line


@pytest.mark.parametrize(("questions", "answers"), [("", ""), ("One?\nTwo?\n", "One?\nTwo?\n")])
def test_ctrl_c_while_a_pipe_is_waited_for_ends_the_chat(monkeypatch, capsys, questions, answers):
    monkeypatch.setattr(sys, "stdin", Interrupting(questions))
    with Server() as server:
        assert cli.main(["chat", "--base-url", server.base_url]) == 130
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (answers, "")


class Terminal:
    """A chat on a pseudo-terminal, and what it has shown."""

    def __init__(self, *arguments):
        self._master, slave = pytest.importorskip("pty").openpty()
        self.program = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", ON_TERMINAL, *arguments],
            **dict.fromkeys(("stdin", "stdout", "stderr"), slave),
            env=environment(),
            start_new_session=True,
        )
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.program.kill()
        self.program.wait()
        os.close(self._master)

    def press(self, keys):
        os.write(self._master, keys.encode())

    def press_to_leave(self, keys):
        """Press, and return the exit code; again, if Python missed a signal just before it began to wait for input."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            self.press(keys)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.program.wait(2)
        raise AssertionError(f"{keys!r} does not end the program.")

    def press_until(self, keys, words):
        """Press until words are shown; again, and with a key that is waited for, for the reason above."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            self.press(keys)
            with contextlib.suppress(AssertionError):
                return self.expect(words, 2)
            self.press(" ")
        raise AssertionError(f"{keys!r} does not lead to {words!r}.")

    def rest(self):
        """Return what a program that has ended showed last."""
        shown = b""
        with contextlib.suppress(OSError):  # Linux has no other end for a terminal without program.
            while data := os.read(self._master, 4096):
                shown += data
        return shown.decode()

    def expect(self, words, seconds=SECONDS):
        """Read until these words were shown, and return what was shown up to there."""
        shown, deadline = b"", time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._master, selectors.EVENT_READ)
            while not shown.endswith(words.encode()):
                left = deadline - time.monotonic()
                assert left > 0, f"{words!r} was not shown: {shown!r}"
                if selector.select(left):
                    shown += os.read(self._master, 1)
        return shown.decode()


def test_ctrl_c_in_an_answer_stops_the_answer_and_not_the_program():
    released = threading.Event()
    with (
        Server(rule=rules.sequence(hesitating(released), rules.text("Hello!"))) as server,
        Terminal("chat", "--base-url", server.base_url) as terminal,
    ):
        terminal.expect("Ctrl-D leaves.")
        terminal.expect("> ")
        terminal.press("Tell me a story.\n")
        terminal.expect("dark and stormy")
        terminal.press("\x03")
        terminal.expect("(stopped)")
        released.set()
        terminal.expect("> ")
        terminal.press("Are you there?\n")
        terminal.expect("Hello!")
        terminal.expect("> ")
        # Nobody waits for the rest of the answer: the next question goes over a new connection.
        assert [entry.connection for entry in server.ledger.requests] == [1, 2]
        # At the prompt it gives up the line and asks for the next one; Ctrl-D leaves.
        terminal.press("half a quest")
        terminal.expect("half a quest")
        terminal.press_until("\x03", "> ")
        assert terminal.press_to_leave("\x04") == 0
        assert "Traceback" not in terminal.rest()


def test_on_a_terminal_an_error_leads_back_to_the_prompt_and_ctrl_d_leaves():
    rule = rules.sequence(rules.refuse(400, "broken", "Broken."), rules.text("Hello!"))
    with (
        Server(rule=rule) as server,
        Terminal("chat", "--base-url", server.base_url) as terminal,
    ):
        terminal.expect("> ")
        terminal.press("One?\n")
        terminal.expect("llmws: Broken. (400, broken)")
        terminal.expect("> ")
        terminal.press("Two?\n")
        terminal.expect("Hello!")
        terminal.expect("> ")
        assert terminal.press_to_leave("\x04") == 0
