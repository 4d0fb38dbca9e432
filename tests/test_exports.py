"""What users can import: the names, the tree of errors, and what survives a pickle or shows in a repr."""

import inspect
import pickle
import re
from typing import get_origin

import attrs
import pytest

import llmws
from llmws import Response, errors, testing


KEY = "sk-canary-0123456789abcdef"
ERRORS = sorted(
    (value for value in vars(errors).values() if inspect.isclass(value) and value.__module__ == "llmws.errors"),
    key=lambda kind: kind.__name__,
)  # fmt: skip
PARTIAL = Response.from_wire({"id": "resp_1", "status": "in_progress", "output": []})
# A value of each field's kind that is not its default.
SAMPLES = {
    "response": {"id": "r"}, "refusal": "No.",
    "retryable": None, "retry_after": 2.5, "status": 418, "headers": {"x-request-id": "r"}, "body": "no",
    "attempts": 3, "elapsed": 1.5, "partial": PARTIAL, "response_id": "resp_1", "state": "output",
    "may_have_been_billed": True, "type": "some_error", "code": "some_code", "param": "input",
    "close_code": 1011, "close_reason": "bye", "raw": b"{", "expected": [1], "actual": {"a": None}, "path": "$.a[0]",
}  # fmt: skip


def fields_of(kind):
    """Return the keyword fields that a class of errors takes, with their defaults."""
    fields = {}
    for base in kind.__mro__:
        parameters = inspect.signature(base.__init__).parameters.values()
        for parameter in parameters:
            if parameter.kind is parameter.KEYWORD_ONLY:
                fields.setdefault(parameter.name, parameter.default)
        if "__init__" in vars(base) and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break  # It hands nothing on to its bases but what it names itself.
    return fields


# Names.


def test_the_public_names_are_sorted_and_all_there():
    assert llmws.__all__ == sorted(llmws.__all__)
    assert [name for name in llmws.__all__ if not hasattr(llmws, name)] == []


def test_everything_without_an_underscore_is_public_or_a_module():
    loose = {
        name
        for name, value in vars(llmws).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert sorted(loose - set(llmws.__all__)) == []


def test_every_error_but_the_machinery_is_public():
    assert {kind.__name__ for kind in ERRORS} <= set(llmws.__all__)


def test_what_is_imported_for_testing_is_public():
    assert testing.__all__ == sorted(testing.__all__, key=lambda name: (name[0].islower(), name))
    assert [name for name in testing.__all__ if not hasattr(testing, name)] == []


# The tree of errors.


def printed_tree():
    """Read the tree in the docstring: each error's name, its parent's, and its other base in brackets."""
    found, parents = {}, {}
    for line in errors.__doc__.split("::")[1].splitlines():
        match = re.fullmatch(r"    ((?:[│├└─ ]{4})*)(\w+)(?: \((\w+)\))?", line)
        if match:
            depth = len(match[1]) // 4
            parents[depth] = match[2]
            found[match[2]] = (parents[depth - 1] if depth else "Exception", match[3])
    return found


def real_tree():
    return {
        kind.__name__: (
            kind.__bases__[0].__name__,
            kind.__bases__[1].__name__ if len(kind.__bases__) > 1 else None,
        )
        for kind in ERRORS
    }


def test_the_tree_of_errors_is_the_one_that_is_printed():
    assert printed_tree() == real_tree()


def test_the_reading_of_the_printed_tree_reads_every_line():
    assert len(printed_tree()) == len(re.findall(r"[├└]──", errors.__doc__)) + 1 > 25


# Pickles.


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling_with_its_fields(kind):
    fields = {name: SAMPLES[name] for name in fields_of(kind)}
    error = kind("what happened", **fields)
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is kind
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)
    for name, value in fields.items():
        assert getattr(twin, name) == value != fields_of(kind)[name]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_field_of_an_error_has_a_default(kind):
    error = kind()
    for name, default in fields_of(kind).items():
        assert getattr(error, name) == ({} if name == "headers" else default)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_field_of_an_error_is_documented(kind):
    documented = {
        name
        for base in kind.__mro__
        for name in re.findall(r"^ {4}(\w+):", inspect.cleandoc(base.__doc__ or ""), re.MULTILINE)
    }
    assert set(fields_of(kind)) <= documented


# Reprs.


def public_classes():
    return {
        f"{module.__name__}.{name}": value
        for module in (llmws, testing)
        for name in module.__all__
        # Python 3.10 takes an alias such as Callable[[X], Y] for a class.
        if isinstance(value := getattr(module, name), type)
        and get_origin(value) is None
        and not issubclass(value, Exception)
    }


def test_every_public_class_has_a_repr_of_its_own():
    # A protocol has no instances, so none to show.
    silent = [
        name
        for name, kind in public_classes().items()
        if kind.__repr__ is object.__repr__ and not getattr(kind, "_is_protocol", False)
    ]
    assert silent == []


def test_no_repr_of_a_session_or_of_what_it_gives_shows_a_key():
    echoing = testing.rules.text("Hello!")
    with (
        testing.Server(rule=echoing) as server,
        llmws.Session(
            "gpt-6-astra",
            api_key=KEY,
            base_url=server.base_url,
            headers={"X-Api-Key": KEY, "X-Trace": KEY},
            project=KEY,
        ) as session,
    ):
        stream = session.stream("Hello?")
        response = stream.response(10)
        seen = [session, stream, stream.texts(), response, session.stats, session.usage, server]
        seen += [*stream, *stream.events(), server.ledger, *server.ledger.requests]
        seen += [session.capabilities, session.timeouts, stream.state]
        inner = [session._endpoint, session._core.connection, session._core.lanes, stream._turn]
    assert response.text == "Hello!"
    assert [shown for shown in map(repr, seen + inner) if KEY in shown] == []
    assert [shown for shown in map(str, seen + inner) if KEY in shown] == []


@pytest.mark.parametrize(
    "value",
    [
        llmws.Chunk.content("Hello"),
        PARTIAL,
        llmws.Usage(1, 2, 3),
        llmws.Timeouts(),
        llmws.Capabilities(),
        llmws.events.decode(b'{"type": "response.output_text.delta", "delta": "Hello"}'),
        llmws.ToolCall("call_1", "fc_1", "look_up", {}, "{}"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_values_that_users_pass_around_are_frozen(value):
    name = attrs.fields(type(value))[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, name, None)
