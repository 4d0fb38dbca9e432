"""The links of all pages lead somewhere, and what the pages of ``docs`` state is so, as far as code can tell."""

import ast
import contextlib
import functools
import io
import re
from pathlib import Path

import pytest

import llmws
from llmws.responses.vocabulary.events import TYPES
from llmws.testing import Server, rules
from llmws.wire import receive
from tests.test_readme import blocks_of


ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
CONVERSATIONS = (ROOT / "docs" / "conversations.md").read_text(encoding="utf-8")
PYTHON = [block for block in blocks_of(CONVERSATIONS) if block.language == "python"]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


# Links.


@functools.cache
def anchors(page):
    """Return what the headings of a page are called in links."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def astray(page, text):
    """Return the links of a page's text that lead to no file, or to no heading of one."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" not in link and not (
            target.exists() and (not anchor or anchor in anchors(target))
        ):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_to_a_heading_of_it(page):
    assert astray(page, page.read_text(encoding="utf-8")) == []


def test_a_link_that_leads_nowhere_is_found():
    text = "[a](no.md) [b](docs/speed.md#no) [c](#no) [d](docs/speed.md#speed) [e](https://h/#x) [f](#speed)"
    assert astray(ROOT / "README.md", text) == ["no.md", "docs/speed.md#no", "#no"]


# docs/conversations.md.


def api(request):
    """Answer as the API would answer what the page asks."""
    asked = request.input_text
    if "trip" in asked or "weather" in asked:
        return rules.tool_calls([{"name": "get_weather", "arguments": {"city": "Dresden"}}])(
            request
        )
    return rules.echo()(request)


@pytest.fixture
def run():
    """Run a block of the page with a session and a conversation; give its names and its output."""
    tool = llmws.Tool("get_weather", SCHEMA, lambda city: f"22 °C in {city}")
    with (
        Server(rule=api) as server,
        llmws.Session("any", base_url=server.base_url) as session,
    ):

        def run_block(block):
            chat = session.conversation(tools=[tool])
            chat.create("Hello.")
            names, output = {"session": session, "chat": chat}, io.StringIO()
            code = compile("\n" * (block.line - 1) + block.text, "docs/conversations.md", "exec")
            with contextlib.redirect_stdout(output):
                exec(code, names)
            return names, output.getvalue()

        yield run_block
        server.check()


def test_the_block_that_shows_what_was_sent_shows_it(run):
    [block] = [block for block in PYTHON if "stream.sent" in block.text]
    names, _ = run(block)
    sent, chat = names["stream"].sent, names["chat"]
    assert chat.turns[-1].sent == sent
    shown = re.search(r"# (Sent\(.*\))", block.text)[1]
    numbers = re.compile(r"(bytes=)\d+")
    assert numbers.sub(r"\1…", shown) == numbers.sub(r"\1…", repr(sent))
    counters = re.search(r"session\.stats  # (.*) …", block.text)[1].split(", ")
    assert [name for name in counters if not hasattr(names["session"].stats, name)] == []


def test_the_block_that_runs_tools_runs_them(run):
    [block] = [block for block in PYTHON if "chat.run(" in block.text]
    names, output = run(block)
    assert output == "22 °C in Dresden"
    assert names["run"].finish_reason == "stop"


def test_the_block_that_reads_unfinished_arguments_reads_them(run):
    [block] = [block for block in PYTHON if "partial_arguments" in block.text]
    _, output = run(block)
    assert output.splitlines()[-1] == "get_weather {'city': 'Dresden'}"


def test_no_block_of_python_is_left_out():
    assert len(PYTHON) == 3
    named = r"stream\.sent|chat\.run\(|partial_arguments"
    assert all(re.search(named, block.text) for block in PYTHON)


def reasons():
    """Return the reasons of the table, each without what follows a colon."""
    rows = table(CONVERSATIONS, "| kind | reason | when |")
    return [name.split(":")[0] for row in rows for name in re.findall(r"`([^`]+)`", row[1])]


def strings(source):
    """Return the strings of a source that are no docstrings; of an f-string its first words."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {node.value.split(":")[0] for node in constants if isinstance(node.value, str)}


def test_each_reason_of_the_table_is_one_that_the_code_gives():
    sources = (ROOT / "llmws" / "responses").rglob("*.py")
    given = set().union(*(strings(path.read_text(encoding="utf-8")) for path in sources))
    assert len(reasons()) > 15
    assert [reason for reason in reasons() if reason not in given] == []


# docs/architecture.md.


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SOURCES = {
    path.relative_to(ROOT / "llmws").with_suffix("").as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "llmws").rglob("*.py")
    if "testing" not in path.parts
}
# Where each lock of the table is made.
LOCKS = {
    "conversation's monitor": "responses/conversation/course",
    "core lock": "responses/connections/core",
    "pool's lock": "responses/connections/pool",
    "inbox's monitor": "wire/inbox",
    "inbox's reader lock": "wire/inbox",
    "handlers' monitor": "responses/stream/handlers",
    "callback group's monitor": "wire/callbacks",
    "HTTP request's lock": "responses/connections/http",
    "calls' monitor": "responses/tools/calls",
    "connection's start lock": "wire/connection",
    "retry budget lock": "wire/backoff",
    "default session's lock": "default",
}


def table(text, heading):
    """Return the rows of the table with this heading."""
    rows = text.split(heading)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def test_the_architecture_has_every_lock():
    assert [row[0] for row in table(ARCHITECTURE, "| lock | guards |")] == list(LOCKS)
    made = re.compile(r"\b(?:R?Lock|Condition|Semaphore|Monitor)\(\)")
    makers = {name for name, source in SOURCES.items() if made.search(source)}
    assert makers - {"wire/monitor"} == set(LOCKS.values())


def test_the_architecture_has_every_thread_by_its_name():
    rows = table(ARCHITECTURE, "| thread | its name | what it owns |")
    shown = [name for row in rows for name in re.findall(r"`([^`]+)`", row[1])]
    named = re.compile(r'"(llmws-(?:responses|tool)-[^"]*|\{[^"{}]*\}-(?:dial|rotation))"')
    names = [name for source in SOURCES.values() for name in named.findall(source)]
    assert len(names) == len(shown)
    patterns = [re.sub(r"\{.*?\}", ".+", name) for name in names]
    assert [each for each in patterns if not any(re.fullmatch(each, name) for name in shown)] == []


def test_the_architecture_counts_the_types_and_classes_of_events_right():
    assert f"There are {len(TYPES)} types" in ARCHITECTURE
    assert f"The {len(set(TYPES.values()))} classes here" in " ".join(ARCHITECTURE.split())


def test_the_architecture_says_how_much_a_read_takes():
    first, further, record = (
        f"{number // 1024} KiB"
        for number in (receive._FIRST_BYTES, receive._FURTHER_BYTES, receive._RECORD_BYTES)
    )
    text = " ".join(ARCHITECTURE.split())
    assert f"{first} first and then {further} a call, of TLS one record of {record} first" in text
    assert f"is given up to {further} at once" in text


# docs/speed.md.

# What the README calls the rows that missed their floors; bursts and the raw socket have another number of digits.
ROWS = {
    "2,000 events/s, median": "2,000 events/s, from the server's write to your loop: median µs",
    "2,000 events/s, 99th percentile, without msgspec": "… 99th percentile µs",
    "warm turn, to its first event": "warm turn: ms to its first event",
    "warm turn, CPU": "warm turn of 18 events: CPU ms",
    "import, with msgspec": "import: ms",
    "memory of an idle connection, without msgspec": "memory of an idle connection: KiB",
}


def test_the_rows_that_missed_their_floors_have_the_figures_of_the_readme():
    quoted = {
        row[0]: re.findall(r"\((.*?)\)", "".join(row[1:]))
        for row in table((ROOT / "README.md").read_text(encoding="utf-8"), "| | openai-python |")
    }
    speed = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    missed = {row[0]: row[1].split(", ") for row in table(speed, "| row | llmws[fast], llmws |")}
    assert missed.keys() >= ROWS.keys()
    for name, title in ROWS.items():
        of_fast, of_plain = quoted[title]
        only = {"with": [of_fast], "without": [of_plain]}.get(name.split(" ")[-2])
        assert missed[name] == (only or [of_fast, of_plain]), name
