import builtins
import copy
import inspect
import pickle
import re
import traceback

import pytest

import llmws
from llmws import errors
from llmws.errors import APIError, ConnectError, LLMWSError, TurnError, fresh


CLASSES = [
    value
    for name, value in vars(errors).items()
    if name in errors.__all__ and inspect.isclass(value)
]
# What the design says of fields that are not every error's.
FIELDS = {
    "partial": {"text": "so far"},
    "response_id": "resp_1",
    "state": "output",
    "may_have_been_billed": True,
    "status": 429,
    "type": "t",
    "code": "c",
    "param": "p",
    "headers": {"a": "b"},
    "retry_after": 2.5,
    "response": None,
    "refusal": "No.",
    "retryable": True,
    "body": "words",
    "attempts": 5,
    "elapsed": 1.5,
    "close_code": 1011,
    "close_reason": "r",
    "raw": b"raw",
    "expected": 1,
    "actual": 2,
    "path": "$.a",
}


def parameters(cls):
    """Return the keyword arguments of a class and its bases."""
    return {
        name: FIELDS[name]
        for base in cls.__mro__
        if "__init__" in vars(base) and issubclass(base, LLMWSError)
        for name, parameter in inspect.signature(base).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def built(cls):
    given = parameters(cls)
    if cls is errors.ReconnectError:
        given = {"attempts": 5, "elapsed": 1.5}
    return cls("It happened.", **given), given


def test_the_tree_at_the_head_of_the_module_is_the_tree():
    depths = {LLMWSError: 0}
    for line in re.findall(r"^ +[│ ├└─]*[A-Z]\w+.*$", errors.__doc__, re.MULTILINE):
        name = re.search(r"\w+", line)[0]
        depth = (line.index(name) - 4) // 4
        cls = getattr(errors, name)
        base = {d: c for c, d in depths.items()}.get(depth - 1)
        depths = {c: d for c, d in depths.items() if d < depth} | {cls: depth}
        assert cls is LLMWSError or cls.__bases__[0] is base
        for other in re.findall(r"\((\w+)\)", line):
            assert issubclass(cls, getattr(builtins, other))
    named = set(re.findall(r"\b[A-Z]\w+(?:Error|Timeout)\b", errors.__doc__)) - {
        "ValueError",
        "TimeoutError",
    }
    assert named == {cls.__name__ for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_is_ours_and_public(cls):
    assert issubclass(cls, LLMWSError)
    assert getattr(llmws, cls.__name__) is cls
    assert cls.__name__ in llmws.__all__


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_can_be_made_of_nothing(cls):
    assert str(cls()) == ""


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    "again", [fresh, copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_every_error_keeps_its_fields_through_copies_and_pickling(cls, again):
    error, given = built(cls)
    twin = again(error)
    assert type(twin) is cls
    assert twin is not error
    assert str(twin) == str(error)
    assert twin.args == error.args
    assert {name: getattr(twin, name) for name in given} == given


@pytest.mark.parametrize("cls", [c for c in CLASSES if "Timeout" in c.__name__])
def test_every_timeout_is_a_timeout_error(cls):
    assert issubclass(cls, TimeoutError)


def test_a_fresh_error_has_the_cause_and_no_traceback():
    try:
        try:
            raise OSError("reset")
        except OSError as exc:
            raise TurnError("lost", response_id="r") from exc
    except TurnError as exc:
        error = exc
    twin = fresh(error)
    assert twin.__traceback__ is None
    assert twin.__cause__ is error.__cause__
    assert "OSError: reset" in "".join(traceback.format_exception(twin))


def test_a_fresh_error_does_not_show_where_it_was_copied():
    def reader():
        try:
            raise LookupError("the reader's own")
        except LookupError:
            raise fresh(TurnError("lost"))  # noqa: B904  The point: no context shows.

    with pytest.raises(TurnError) as caught:
        reader()
    assert "the reader's own" not in "".join(traceback.format_exception(caught.value))


def test_raising_a_fresh_error_leaves_the_first_one_alone():
    error = TurnError("lost")
    with pytest.raises(TurnError):
        raise fresh(error)
    assert error.__traceback__ is None


def test_an_api_error_names_status_and_code_behind_the_words():
    assert str(APIError("No.", status=400, code="bad")) == "No. (400, bad)"
    assert str(APIError("No.", type="kind")) == "No. (kind)"
    assert str(APIError("No.")) == "No."
    assert APIError("No.", code="bad").message == "No."


def test_headers_are_copied():
    headers = {"a": "b"}
    error = APIError("No.", headers=headers)
    headers.clear()
    assert error.headers == {"a": "b"}


def test_a_connect_error_may_be_retried_unless_it_says_otherwise():
    assert ConnectError().retryable
    assert not errors.HandshakeError().retryable
    assert not errors.ReconnectError().retryable
