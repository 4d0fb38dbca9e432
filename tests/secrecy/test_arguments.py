"""Arguments that are wrong, or in the wrong place, are refused without being shown."""

from urllib.parse import quote

import pytest

import llmws
from tests.secrecy.scenes import CANARIES, attempt, errors_in, show


REMOTE = "https://api.example.com/v1"
BAD_SESSIONS = {
    "a line end": lambda key: {"api_key": f"{key}\n"},
    "bytes": lambda key: {"api_key": key.encode()},
    "a list": lambda key: {"api_key": [key]},
    "another script": lambda key: {"api_key": f"{key}é"},
    "a header's line end": lambda key: {"headers": {"X-Api-Key": f"{key}\r\n"}},
    "a header's name": lambda key: {"headers": {f"Bearer {key}": "x"}},
    "a header in bytes": lambda key: {"headers": {"X-Api-Key": key.encode()}},
    "headers in a list": lambda key: {"headers": [("X-Api-Key", key)]},
    "headers in a text": lambda key: {"headers": f"X-Api-Key: {key}"},
    "an organization": lambda key: {"api_key": key, "organization": f"{key}\n"},
    "a user in the URL": lambda key: {"base_url": f"https://u:{quote(key, safe='')}@a.example/v1"},
    "a space in the URL": lambda key: {"base_url": f"https://a.example/v1?key={key} "},
    "a bad port": lambda key: {"base_url": f"https://a.example:99999/v1?key={key}"},
    "a fragment": lambda key: {"base_url": f"https://a.example/v1#{key}"},
    "a URL in bytes": lambda key: {"base_url": f"https://a.example/v1?key={key}".encode()},
    "a bad scheme": lambda key: {"base_url": f"ftp://a.example/v1?key={key}", "api_key": key},
    "no encryption": lambda key: {"base_url": f"ws://a.example/v1?key={key}", "api_key": key},
    "no key but a query": lambda key: {"base_url": f"https://a.example/v1?key={key}"},
    "a bad context": lambda key: {"api_key": key, "ssl_context": "x"},
    "bad timeouts": lambda key: {"api_key": key, "timeouts": {"connect": -1}},
    "bad timeouts, URL": lambda key: {"base_url": f"{REMOTE}?key={key}", "api_key": key, "timeouts": 1},
    "bad lanes": lambda key: {"api_key": key, "lanes": "yes"},
    "bad capabilities": lambda key: {"api_key": key, "capabilities": {}},
    "a bad check": lambda key: {"api_key": key, "sequence_check": "maybe"},
    "bad threads": lambda key: {"api_key": key, "callback_threads": 0},
    "a bad flag": lambda key: {"api_key": key, "allow_insecure": 1},
    "a bad model": lambda key: {"api_key": key, "model": 1},
    "a bad default": lambda key: {"api_key": key, "stream": True},
    "a default that is no JSON": lambda key: {"api_key": key, "temperature": float("nan")},
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_SESSIONS)
@pytest.mark.parametrize("opened_by", ["Session", "configure"])
def test_a_session_that_cannot_be_shows_no_key(evidence, canary, name, opened_by):
    attempt(evidence, lambda: misopen(opened_by, name, canary))
    assert "ConfigurationError" in errors_in(evidence)


def misopen(opened_by, name, canary):
    arguments = {"base_url": REMOTE, **BAD_SESSIONS[name](CANARIES[canary])}
    getattr(llmws, opened_by)(**arguments)


MISPLACED = {
    "api_key": lambda key: {"api_key": key},
    "api_key behind a reserved field": lambda key: {"stream": True, "api_key": key},
    "api_key before a reserved field": lambda key: {"api_key": key, "background": True},
    "headers": lambda key: {"headers": {"Authorization": f"Bearer {key}"}},
    "base_url": lambda key: {"base_url": f"{REMOTE}?key={key}"},
    "organization": lambda key: {"organization": key},
    "api_key and bad timeouts": lambda key: {"timeouts": {"connect": -1}, "api_key": key},
}


@pytest.mark.parametrize("name", MISPLACED)
@pytest.mark.parametrize("method", ["stream", "create", "warm_up"])
def test_an_argument_in_the_wrong_place_shows_no_key(evidence, canary, name, method):
    with llmws.Session("m", base_url="http://127.0.0.1:9/v1") as session:
        attempt(evidence, lambda: misplace(session, method, name, canary))
        show(evidence, session)
    assert errors_in(evidence) == {"ConfigurationError"}


@pytest.mark.parametrize("name", MISPLACED)
@pytest.mark.parametrize("function", ["stream", "create"])
def test_an_argument_in_the_wrong_place_of_a_function_shows_no_key(
    evidence, canary, name, function
):
    attempt(evidence, lambda: misplace(llmws, function, name, canary))
    assert errors_in(evidence) == {"ConfigurationError"}


def misplace(owner, name, which, canary):
    getattr(owner, name)("Hello", **MISPLACED[which](CANARIES[canary]))
