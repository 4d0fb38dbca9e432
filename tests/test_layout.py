"""The floors of llmws, read from its imports, and the house rules that a linter does not know."""

import ast
import functools
import itertools
import re
import subprocess
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "llmws"

# Each module imports only what stands above it. A new module is to be given its place here.
FLOORS = [
    "errors", "version", "timeouts", "secret",

    "wire/__init__", "wire/jsoncodec", "wire/framing", "wire/backoff", "wire/parts", "wire/scrub",
    "wire/differences", "wire/recording", "wire/monitor", "wire/inbox", "wire/process", "wire/endpoint",
    "wire/deadline", "wire/upgrade", "wire/dial", "wire/dialling", "wire/greenlets", "wire/ports", "wire/steps",
    "wire/outbox", "wire/liveness", "wire/link", "wire/receive", "wire/poll", "wire/callbacks",
    "wire/partialjson", "wire/tapping", "wire/connection",

    "responses/__init__",

    "responses/vocabulary/__init__", "responses/vocabulary/views", "responses/vocabulary/apierrors",
    "responses/vocabulary/events", "responses/vocabulary/entries", "responses/vocabulary/items",
    "responses/vocabulary/capabilities", "responses/vocabulary/schema",

    "responses/sending/__init__", "responses/sending/request", "responses/sending/settings",
    "responses/sending/steering", "responses/sending/transcript", "responses/sending/continuation",

    "responses/routing/__init__", "responses/routing/lane", "responses/routing/refusals",
    "responses/routing/turn", "responses/routing/ends", "responses/routing/parents",
    "responses/routing/reports", "responses/routing/books", "responses/routing/mending",
    "responses/routing/doubts", "responses/routing/shares", "responses/routing/reading",
    "responses/routing/answers", "responses/routing/lanes",

    "responses/stream/__init__", "responses/stream/chunks", "responses/stream/drafts",
    "responses/stream/readers", "responses/stream/parsing", "responses/stream/snapshot",
    "responses/stream/handlers", "responses/stream/legs", "responses/stream/stream",

    "responses/connections/__init__", "responses/connections/credentials", "responses/connections/posting",
    "responses/connections/http", "responses/connections/pool", "responses/connections/rotation",
    "responses/connections/core", "responses/connections/stats",

    "responses/tools/__init__", "responses/tools/outputs", "responses/tools/pending", "responses/tools/replay",
    "responses/tools/parameters", "responses/tools/tools", "responses/tools/calls", "responses/tools/fields",
    "responses/tools/toolloop",

    "responses/conversation/__init__", "responses/conversation/compaction", "responses/conversation/chain",
    "responses/conversation/outcome", "responses/conversation/saved", "responses/conversation/course",
    "responses/conversation/conversation", "responses/conversation/host",

    "responses/session",

    "testing/http", "testing/sockets", "testing/record", "testing/compaction", "testing/pairs",
    "testing/context",
    "testing/request", "testing/answer", "testing/replay", "testing/draft", "testing/memory", "testing/nonces",
    "testing/rules", "testing/ledger", "testing/stage", "testing/posts", "testing/faulty", "testing/lanes",
    "testing/plans", "testing/passage", "testing/proxy", "testing/refusals", "testing/faults",
    "testing/semantics", "testing/limits", "testing/steers", "testing/steering", "testing/websocket",
    "testing/server", "testing/__init__",

    "default", "__init__", "terminal", "demo", "chat", "cli", "__main__",
]  # fmt: skip

TOP_LEVEL = {
    "setup.cfg", "pyproject.toml", "llmws", "tests", "recordings", "CHANGELOG.md", "README.md", "LICENSE",
    "CONTRIBUTING.md", "docs", "benchmarks", ".ci", ".gitignore",
}  # fmt: skip
VAGUE = {"utils", "util", "helpers", "helper", "manager", "managers", "misc", "common"}
# websocket-client is trusted with the upgrade alone: the rest of it keeps state in the module, or reads in ``close``.
FORBIDDEN = {"asyncio", "sleep", "WebSocketApp", "enableTrace", "setReconnect", "setdefaulttimeout"}
MOST_LINES = 500
MOST_FUNCTION_LINES = 40
# A table is read line by line, however long it is.
TABLES = {"responses/vocabulary/events:_table"}

PATHS = sorted(PACKAGE.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path):
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


NAMES = [name_of(path) for path in PATHS]
each_module = pytest.mark.parametrize("path", PATHS, ids=NAMES)


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(name, tree):
    """Yield the own modules that a module imports, wherever in it and for whatever use."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (target(alias.name.split(".")[1:]) for alias in node.names if is_own(alias))
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                folder = ["llmws", *name.split("/")[:-1]]
                parts = [*folder[: len(folder) - node.level + 1], *(node.module or "").split(".")]
            else:
                parts = node.module.split(".")
            if parts[0] == "llmws":
                base = [part for part in parts[1:] if part]
                for alias in node.names:
                    yield target([*base, alias.name]) or target(base)


def is_own(alias):
    return alias.name.split(".")[0] == "llmws"


def target(parts):
    """Return the module of this dotted name, or None if it names something else."""
    path = "/".join(parts)
    candidates = (path, f"{path}/__init__".removeprefix("/"))
    return next((candidate for candidate in candidates if candidate in NAMES), None)


def test_every_module_has_its_place_in_the_list_of_floors():
    assert sorted(set(NAMES) - set(FLOORS)) == []
    assert sorted(set(FLOORS) - set(NAMES)) == []
    assert len(FLOORS) == len(set(FLOORS))


@each_module
def test_a_module_imports_only_from_above(path):
    name = name_of(path)
    above = FLOORS[: FLOORS.index(name)]
    assert [other for other in imports(name, tree_of(path)) if other not in above] == []


def test_a_folder_stands_together_in_the_list_so_that_folders_import_one_way_too():
    # What is in no folder stands at both ends of the list, and so does a folder's own file.
    listed = [name for name in FLOORS if "/" in name and not name.endswith("/__init__")]
    folders = [
        folder for folder, _ in itertools.groupby(name.rpartition("/")[0] for name in listed)
    ]
    assert sorted(folders) == sorted(set(folders))


def test_a_folder_of_responses_is_imported_without_what_is_in_it():
    own = [path for path in PATHS if re.fullmatch(r"responses/(\w+/)?__init__", name_of(path))]
    assert len(own) > 1
    assert [name_of(path) for path in own if len(tree_of(path).body) > 1] == []


@pytest.mark.parametrize(
    ("name", "code", "found"),
    [
        ("wire/link", "from ..responses.routing.turn import Turn", ["responses/routing/turn"]),
        ("wire/link", "from . import steps", ["wire/steps"]),
        ("wire/link", "from .steps import Tick, Want", ["wire/steps", "wire/steps"]),
        ("wire/link", "from .. import errors", ["errors"]),
        ("wire/link", "from .. import Session", ["__init__"]),
        ("wire/link", "import llmws.testing", ["testing/__init__"]),
        ("wire/link", "from llmws.responses.routing import lanes", ["responses/routing/lanes"]),
        ("wire/link", "def late():\n    from ..default import create", ["default"]),
        ("wire/link", "if TYPE_CHECKING:\n    from ..default import create", ["default"]),
        ("__init__", "from .responses.stream.stream import Stream", ["responses/stream/stream"]),
        ("wire/link", "import ssl\nfrom collections import deque", []),
    ],
)
def test_the_reading_of_imports_misses_none(name, code, found):
    assert list(imports(name, ast.parse(code))) == found


@each_module
def test_a_module_uses_nothing_that_is_forbidden(path):
    used = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Name):
            used.add(node.id)
        elif isinstance(node, ast.Attribute):
            used.add(node.attr)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            used |= {part for alias in node.names for part in alias.name.split(".")}
            used |= set((getattr(node, "module", None) or "").split("."))
        assert not isinstance(node, (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith))
    assert used & FORBIDDEN == set()


@each_module
def test_a_module_has_a_docstring_and_a_sorted_list_of_its_public_names(path):
    tree = tree_of(path)
    assert ast.get_docstring(tree)
    listed = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    ]
    if path.name == "__main__.py" or (path.name == "__init__.py" and len(tree.body) == 1):
        assert listed == []  # A program, or a folder without names of its own.
    else:
        assert len(listed) == 1
        assert listed[0] == sorted(set(listed[0]), key=as_ruff_sorts)


def as_ruff_sorts(name):
    """Constants, then classes, then the rest."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def public_nodes(tree, prefix=""):
    """Yield what users see: classes, functions and methods whose whole path has no underscore in front."""
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, *Function.__args__)) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public_nodes(node, f"{prefix}{node.name}.")


def is_setter(node):
    """Tell whether this is the other half of a property, which has the docstring."""
    marks = getattr(node, "decorator_list", [])
    return any(isinstance(mark, ast.Attribute) and mark.attr == "setter" for mark in marks)


def is_overload(node):
    return any(getattr(decorator, "id", "") == "overload" for decorator in node.decorator_list)


@each_module
def test_everything_public_has_a_docstring(path):
    bare = [
        name
        for name, node in public_nodes(tree_of(path))
        if not ast.get_docstring(node) and not is_overload(node) and not is_setter(node)
    ]
    assert bare == []


def test_no_file_is_longer_than_one_idea():
    long = {name_of(path): len(path.read_text().splitlines()) for path in PATHS}
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES} == {}


def code_lines(node, source):
    """Count the lines of a function's body that hold code: no docstring, no comment, no blank line."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    if not body:
        return 0
    lines = source[body[0].lineno - 1 : node.end_lineno]
    return sum(1 for line in lines if line.strip() and not line.lstrip().startswith("#"))


@each_module
def test_no_function_is_longer_than_a_screen(path):
    source = path.read_text().splitlines()
    long = {
        f"{name_of(path)}:{node.name}": code_lines(node, source)
        for node in ast.walk(tree_of(path))
        if isinstance(node, Function)
    }
    too_long = {name for name, lines in long.items() if lines > MOST_FUNCTION_LINES}
    assert too_long - TABLES == set()


def test_no_name_is_vague():
    words = {word for name in NAMES for word in re.split(r"[/_]", name)}
    assert words & VAGUE == set()
    vague_classes = [
        name
        for path in PATHS
        for name, node in public_nodes(tree_of(path))
        if isinstance(node, ast.ClassDef) and re.search(r"(Util|Helper|Manager|Misc)s?$", name)
    ]
    assert vague_classes == []


def test_the_top_level_holds_nothing_but_what_the_design_names():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("this tree is no git checkout, so what is in it may be anybody's")
    found = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert sorted(found - TOP_LEVEL) == []
    assert sorted(TOP_LEVEL - found) == []


def test_the_tests_mirror_the_modules():
    homes = "|".join(map(re.escape, NAMES))
    tested = [
        path.relative_to(ROOT / "tests").with_suffix("").as_posix().replace("test_", "", 1)
        for folder in ("wire", "responses", "testing")
        for path in (ROOT / "tests" / folder).rglob("test_*.py")
    ]
    # A module's tests may be in several files: test_link.py and test_link_machine.py.
    assert [name for name in tested if not re.fullmatch(rf"({homes})(_\w+)?", name)] == []
