"""Every Python block of the README runs, as printed, against the embedded server; and what it states is so."""

import contextlib
import inspect
import io
import json
import re
import textwrap
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest

from llmws import Capabilities, Session, Stream, Timeouts, TurnState, cli, errors
from llmws.responses.connections import core
from llmws.responses.stream.handlers import NAMES
from llmws.testing import Server, rules
from llmws.wire import inbox, link, upgrade
from llmws.wire.backoff import Backoff
from llmws.wire.recording import load


ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROSE_ONLY = ["CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md"]
RIVERS = "The Danube, the Rhône and the Vistula."
# What each block prints, at least, by its section; a block that is not listed here fails.
PRINTS = {
    "A first example": [RIVERS, f"{RIVERS}stop 7\n{RIVERS}\n"],
    "A `for` loop over chunks, as in a notebook": ["Splitting 17 into 10 and 7.It is 391."],
    "Callbacks, as in a Django view": [""],
    "In the place of an SSE iterator": [RIVERS],
    "Conversations": ["It is 22 °C."],
    "Tools and typed answers by hand": ["It is 22 °C.", "['Danube', 'Rhône', 'Vistula']"],
    "Errors": ["The server has forgotten: send the whole conversation."],
    "Timeouts": [""],
    "Usage and statistics": ["1 1 0\n"],
    "Testing your code": [""],
    "Recordings": [RIVERS],
}


@attrs.frozen
class Block:
    """A fenced block: its section, its language, the line of its first line, and its text."""

    section: str
    language: str
    line: int
    text: str


def blocks_of(text):
    blocks, section, opened = [], "", None
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if line.startswith("```"):
            if opened is None:
                opened = number
            else:
                language = lines[opened - 1].removeprefix("```")
                code = "\n".join(lines[opened : number - 1])
                blocks.append(Block(section, language, opened + 1, code))
                opened = None
        elif line.startswith("#") and opened is None:
            section = line.lstrip("# ")
    assert opened is None, "a block is not closed"
    return blocks


BLOCKS = blocks_of(README)
PYTHON = [block for block in BLOCKS if block.language == "python"]
PLAIN = [block.text for block in BLOCKS if not block.language]


def api(request):
    """Answer as the API would answer what the README asks."""
    asked = request.input_text
    if request.body.get("previous_response_id") == "resp_gone":
        return rules.refuse(400, "previous_response_not_found", "No response 'resp_gone'.")(request)
    if "weather" in asked and request.body.get("tools"):
        return rules.tool_calls([{"name": "get_weather", "arguments": {"city": "Paris"}}])(request)
    if "json_schema" in json.dumps(request.body.get("text")):
        return rules.text('{"rivers": ["Danube", "Rhône", "Vistula"]}')(request)
    if "17 times 23" in asked:
        return rules.reasoning("Splitting 17 into 10 and 7.", answer="It is 391.")(request)
    if "22 °C" in asked:
        return rules.text("It is 22 °C.")(request)
    return rules.text(RIVERS)(request)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a block as a script of its own would run; give its names and its output."""
    monkeypatch.chdir(tmp_path)
    with Server(rule=api) as server, contextlib.ExitStack() as sessions:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")

        def run_block(block):
            namespace, output = {"__name__": "__main__"}, io.StringIO()
            # Blank lines in front, so that a traceback shows the README's own.
            code = compile("\n" * (block.line - 1) + block.text, str(ROOT / "README.md"), "exec")
            with contextlib.redirect_stdout(output):
                exec(code, namespace)
                if "session" in namespace:
                    sessions.enter_context(contextlib.closing(namespace["session"]))
                for name in [name for name in namespace if name.startswith("test_")]:
                    namespace[name]()
            return namespace, output.getvalue()

        yield run_block
        server.check()


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"{block.section}, line {block.line}")
def test_a_python_block_of_the_readme_runs_as_printed(block, run):
    if re.search(r"@llmws\.tool|text_format=", block.text):
        pytest.importorskip("msgspec", reason="tools and types are read by msgspec")
    of_section = [other for other in PYTHON if other.section == block.section]
    expected = PRINTS[block.section][of_section.index(block)]
    _, output = run(block)
    assert expected in output


def test_every_expectation_has_its_block():
    sections = [block.section for block in PYTHON]
    assert {section: sections.count(section) for section in sections} == {
        section: len(outputs) for section, outputs in PRINTS.items()
    }


def test_the_view_starts_an_answer_and_its_callbacks_save_it(run):
    [block] = [block for block in PYTHON if "def ask(request)" in block.text]
    names, _ = run(block)
    request = SimpleNamespace(POST={"question": "Name three rivers."})
    with names["session"]:  # Waits for callbacks.
        number = names["ask"](request)
        assert "".join(names["ask_and_stream"](request)) == RIVERS
    assert names["answers"] == {number: RIVERS}


def test_the_set_up_commands_come_first_and_are_the_ones_promised():
    assert [block.language for block in BLOCKS[:3]] == ["sh", "sh", "python"]
    assert BLOCKS[0].text == "pip install . && llmws demo"
    assert BLOCKS[1].text == 'pip install -e ".[dev]" && pytest -n auto'


def test_no_block_is_in_a_language_that_nobody_checks():
    assert {block.language for block in BLOCKS} == {"sh", "python", ""}
    for name in PROSE_ONLY:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert {block.language for block in blocks_of(text)} <= {"sh", ""}, name


def test_the_tree_of_errors_is_the_real_one():
    [printed] = [text for text in PLAIN if text.startswith("LLMWSError")]
    shown = [re.match(r"[│├└─ ]*\w+( \(\w+\))?", line)[0] for line in printed.splitlines()]
    real = textwrap.dedent(errors.__doc__.split("::\n\n")[1].split("\n\n")[0])
    assert shown == real.splitlines()


def table_under(heading):
    """Return the rows of the table that follows these words, the first column without its quotes."""
    rows = README.split(heading)[1].split("\n|---")[1].split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_table_of_timeouts_is_the_real_one():
    rows = table_under("## Timeouts")
    printed = {row[0].strip("`"): row[1] for row in rows}
    real = {field.name: field.default for field in attrs.fields(Timeouts)}
    assert printed == {name: f"{limit:g}" if limit else "None" for name, limit in real.items()}
    named = [row[3].strip("`") for row in rows if row[3].startswith("`")]
    assert all(issubclass(getattr(errors, name), TimeoutError) for name in named)
    assert len(named) == 5


def default(function, name):
    return inspect.signature(function).parameters[name].default


WORDS = {4: "four", 5: "five", 1_000_000: "a million"}
OPENAI = Capabilities.of("api.openai.com")
LOG_BYTES, LOG_ITEMS = (default(inbox.Inbox, name) for name in ("max_bytes", "max_items"))
MESSAGE_BYTES = attrs.fields(link.LinkPolicy).max_message_bytes.default
# What the README says of numbers that the code has.
NUMBERS = [
    f"at most `max_connections` ({default(Session, 'max_connections')}), and closed after",
    f"the connections carry: `max_connections` ({default(Session, 'max_connections')}), with up to"
    f" {OPENAI.max_active} turns each",
    f"on at most {WORDS[default(Session, 'callback_threads')]} threads (`callback_threads`)",
    f"of the last {default(Session, 'warm_window'):g} s (`warm_window`)",
    f"closed after {WORDS[core._IDLE_SECONDS / 60]} minutes without work",
    f"(OpenAI: {OPENAI.max_age / 60:g} minutes)",
    f"(`Retry-After`, up to {Backoff().longest_retry_after:g} s and within",
    f"(up to {Backoff().base:g} s at first, {Backoff().cap:g} s at most, {Backoff().attempts} dials in a row",
    f"A message over {MESSAGE_BYTES // 2**20} MiB, a turn over {LOG_BYTES // 2**20} MiB and a handshake over"
    f" {upgrade._HEAD_BYTES // 2**10} KiB",
    f"A request over {OPENAI.max_frame_bytes // 2**20} MiB, which OpenAI does not take",
    f"more than {LOG_BYTES // 2**20} MiB or {WORDS[LOG_ITEMS]} events in one turn",
    f"more than {core._MAX_OUTBOX_BYTES // 2**20} MiB of requests wait",
]


@pytest.mark.parametrize("words", NUMBERS)
def test_a_number_that_is_stated_is_the_real_one(words):
    assert words in " ".join(README.split())


def test_the_table_of_states_is_the_real_one():
    printed = [row[0].strip("`") for row in table_under("how far a turn has got")]
    assert printed == [state.value for state in TurnState]


def test_the_names_of_callbacks_are_the_real_ones():
    sentence = re.search(r"`on\(name, fn\)` knows (.*?)\. ", README, re.DOTALL)[1]
    assert sorted(re.findall(r"`(\w+)`", sentence)) == sorted(NAMES)


def test_the_recording_that_is_printed_can_be_played(tmp_path):
    [printed] = [text for text in PLAIN if "llmws-recording" in text]
    path = tmp_path / "printed.jsonl"
    path.write_text(printed, encoding="utf-8")
    recording = load(path)
    assert [frame.direction for frame in recording.frames()] == ["out", "in"]
    assert recording.last_close().code == 1000
    with Server(path) as server:
        server.check()


def test_every_method_that_is_named_exists():
    named = set(re.findall(r"`stream\.(\w+)", README))
    assert named
    assert [name for name in named if not hasattr(Stream, name)] == []


def test_every_command_that_is_named_exists(capsys):
    named = set(re.findall(r"`llmws (\w+)", README)) | {"demo"}
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    known = capsys.readouterr().out
    assert [name for name in named if name not in known] == []
