import collections
import types

import pytest

from llmws.errors import ConfigurationError
from llmws.responses.connections.credentials import AskedHeaders, Credentials, HiddenHeaders
from llmws.secret import Secret


KEY = "sk-canary-0123456789"


def test_a_key_is_given_as_a_secret_at_each_dial():
    credentials = Credentials(KEY)
    assert not credentials.missing
    assert credentials() == credentials() == Secret(KEY)
    assert Credentials(Secret(KEY))() == Secret(KEY)


def test_a_callable_is_asked_at_each_dial_and_not_before():
    keys = iter(["one", Secret("two")])
    credentials = Credentials(lambda: next(keys))
    assert not credentials.missing
    assert [credentials(), credentials()] == [Secret("one"), Secret("two")]


def test_the_environment_is_asked_if_no_key_is_given(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert Credentials(None)() == Secret(KEY)
    assert Credentials("other")() == Secret("other")


@pytest.mark.parametrize("value", [None, ""])
def test_without_any_key_it_is_missing(monkeypatch, value):
    if value is not None:
        monkeypatch.setenv("OPENAI_API_KEY", value)
    assert Credentials(None).missing
    assert Credentials(None)() is None


BAD = [
    "",
    " ",
    f"{KEY}\n",
    f" {KEY}",
    f"{KEY}\x00",
    f"{KEY}é",
    "two\r\nlines",
    5,
    b"bytes",
    ["list"],
]


@pytest.mark.parametrize("key", BAD)
def test_a_key_that_no_header_can_carry_is_refused_unseen(key):
    with pytest.raises(ConfigurationError, match=r"^api_key ") as caught:
        Credentials(key)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("key", [*BAD, None])
def test_what_a_callable_returns_is_checked_as_well(key):
    credentials = Credentials(lambda: key)
    with pytest.raises(ConfigurationError, match=r"What the api_key callable returned") as caught:
        credentials()
    assert "canary" not in str(caught.value)


def test_a_bad_key_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    with pytest.raises(ConfigurationError, match="white space"):
        Credentials(None)


def test_what_a_callable_raises_comes_through():
    def ask():
        raise LookupError("no key today")

    with pytest.raises(LookupError, match="no key today"):
        Credentials(ask)()


@pytest.mark.parametrize("key", [KEY, lambda: KEY, None])
def test_a_repr_shows_no_key(key):
    assert "canary" not in repr(Credentials(key))


def test_headers_join_the_users_with_those_of_every_dial():
    headers = HiddenHeaders.of({"X-Own": "1"}, "org", "project")
    assert headers.pop("User-Agent").startswith("llmws/")
    assert headers == {"OpenAI-Organization": "org", "OpenAI-Project": "project", "X-Own": "1"}


def test_headers_of_the_users_win_whatever_their_case():
    headers = HiddenHeaders.of({"user-agent": "me", "OPENAI-PROJECT": "mine"}, None, "project")
    assert headers == {"user-agent": "me", "OPENAI-PROJECT": "mine"}


def test_organization_and_project_come_from_the_environment_if_not_given(monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project")
    headers = HiddenHeaders.of(None, "other", None)
    assert (headers["OpenAI-Organization"], headers["OpenAI-Project"]) == ("other", "project")


def test_headers_tell_whether_they_authorize():
    assert HiddenHeaders.of({"AUTHORIZATION": "Bearer x"}, None, None).authorize
    assert not HiddenHeaders.of({"X-Authorization": "x"}, None, None).authorize


@pytest.mark.parametrize("headers", [[("X-Own", KEY)], KEY, 5])
def test_headers_that_are_no_mapping_are_refused_unseen(headers):
    with pytest.raises(ConfigurationError, match="headers is of type") as caught:
        HiddenHeaders.of(headers, None, None)
    assert "canary" not in str(caught.value)


def test_a_repr_of_headers_shows_names_alone():
    shown = repr(HiddenHeaders.of({"X-Own": KEY}, None, None))
    assert "X-Own" in shown
    assert "canary" not in shown


# Headers that are asked for.


def asked(*given):
    answers = iter(given)
    return AskedHeaders(lambda: next(answers), set())


def test_only_a_callable_that_is_no_mapping_is_asked():
    class Both(collections.UserDict):
        def __call__(self):
            raise AssertionError

    for headers in (None, {}, 5, [("a", "b")], Both(a="b")):
        assert AskedHeaders.of(headers, set()) is None
    assert type(AskedHeaders.of(dict, set())) is AskedHeaders


def test_headers_are_asked_for_at_each_dial_and_are_a_copy():
    mine = {"X-Turn": "1"}
    headers = asked(mine, types.MappingProxyType({"X-Turn": "2"}))
    first = headers()
    mine["X-Turn"] = "changed"
    assert first == {"X-Turn": "1"}
    assert headers() == {"X-Turn": "2"}


@pytest.mark.parametrize("given", [None, KEY, [("X-Own", KEY)], 5])
def test_what_a_headers_callable_returns_has_to_be_a_mapping(given):
    with pytest.raises(ConfigurationError, match=r"headers callable returned is of type") as caught:
        asked(given)()
    frames, walk = [], caught.tb
    while walk is not None:
        frames.append(walk.tb_frame)
        walk = walk.tb_next
    assert "canary" not in str(caught.value)
    # Nor does the frame that raised show it, to those who look at variables.
    assert "canary" not in repr(frames[-1].f_locals)


def test_what_a_headers_callable_raises_comes_through():
    def ask():
        raise LookupError("no headers today")

    with pytest.raises(LookupError, match="no headers today"):
        AskedHeaders(ask, set())()


def test_values_that_may_be_keys_are_noted_those_of_every_dial():
    noted = set()
    answers = iter(
        [{"Authorization": f"Bearer {KEY}", "X-Title": "my program"}, {"Api-Key": "second"}]
    )
    headers = AskedHeaders(lambda: next(answers), noted)
    headers(), headers()
    assert noted == {Secret(f"Bearer {KEY}"), Secret(KEY), Secret("second")}


def test_fields_that_are_no_texts_are_left_to_the_endpoint_to_refuse():
    assert asked({5: "x", "Api-Key": b"bytes"})() == {5: "x", "Api-Key": b"bytes"}


def test_a_repr_of_asked_headers_shows_none():
    headers = asked({"X-Own": KEY})
    assert repr(headers) == "<AskedHeaders asked at each dial>"
    assert "canary" not in repr(headers())


def test_a_key_that_has_to_be_is_given_or_missed(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert Credentials(KEY).required() == Secret(KEY)
    with pytest.raises(ConfigurationError, match="No key: the headers callable gave no Authoriz"):
        Credentials(None).required()
