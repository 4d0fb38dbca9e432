"""The fields of a request are encoded once, and told apart by their values."""

import json

import pytest

from llmws.errors import ConfigurationError
from llmws.responses.sending.settings import Settings


def read(data):
    return json.loads(b"{%b}" % data)


def test_a_message_has_every_field_and_says_what_it_is():
    settings = Settings.of({"model": "m", "tools": [{"type": "function"}], "temperature": 0.5})
    assert read(settings.message) == {
        "type": "response.create", "model": "m", "tools": [{"type": "function"}], "temperature": 0.5
    }  # fmt: skip
    assert read(settings.warm_up_message) == {**read(settings.message), "generate": False}


def test_what_was_given_may_be_changed_afterwards():
    tools = [{"type": "function", "name": "a"}]
    settings = Settings.of({"tools": tools})
    tools[0]["name"] = "b"
    assert read(settings.message)["tools"] == [{"type": "function", "name": "a"}]


def test_changes_are_laid_over_and_none_are_the_same_settings():
    settings = Settings.of({"model": "m", "temperature": 1})
    assert settings.but({}) is settings
    assert settings.but({"temperature": None, "top_p": 1}).decoded() == {
        "model": "m", "temperature": None, "top_p": 1
    }  # fmt: skip
    assert settings.decoded() == {"model": "m", "temperature": 1}


def test_digests_differ_where_values_do():
    one, other = Settings.of({"model": "m", "user": "a"}), Settings.of({"model": "m", "user": "b"})
    assert one.digests["model"] == other.digests["model"]
    assert one.digests["user"] != other.digests["user"]
    assert one.digests == Settings.of({"user": "a", "model": "m"}).digests


def test_store_is_only_sent_when_told():
    assert "store" not in read(Settings.of({"model": "m"}).message)
    assert Settings.of({"model": "m"}).stored
    assert Settings.of({"store": True}).stored
    assert not Settings.of({"store": False}).stored


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"store": False}, ["reasoning.encrypted_content"]),
        ({"store": False, "include": None}, ["reasoning.encrypted_content"]),
        ({"store": False, "include": ["a"]}, ["a", "reasoning.encrypted_content"]),
        (
            {"store": False, "include": ["reasoning.encrypted_content", "a"]},
            ["reasoning.encrypted_content", "a"],
        ),
        ({"store": True, "include": ["a"]}, ["a"]),
    ],
)
def test_without_storage_reasoning_is_asked_for_in_a_form_that_can_be_sent_back(given, sent):
    assert read(Settings.of(given).message)["include"] == sent


def test_what_is_added_for_missing_storage_goes_when_it_is_stored_again():
    settings = Settings.of({"store": False}).but({"store": True})
    assert "include" not in read(settings.message)
    assert Settings.of({"store": False}).decoded() == {"store": False}


def test_a_field_that_is_no_json_is_refused_by_name():
    with pytest.raises(ConfigurationError, match="temperature cannot be sent as JSON"):
        Settings.of({"temperature": object()})


def test_the_model_is_known_or_missing():
    assert Settings.of({"model": "m"}).model == "m"
    assert Settings.of({}).model is None
    assert Settings.of({"model": ""}).model is None


def test_a_repr_names_fields_and_shows_no_values():
    assert repr(Settings.of({"model": "m", "user": "secret"})) == "<Settings model, user>"


@pytest.mark.parametrize(
    ("model", "words"),
    [(None, "No model"), ("", "No model"), (5, "model is 5: give"), ({"name": "m"}, "model is {")],
)
def test_a_model_that_is_none_is_refused_with_what_it_is(model, words):
    with pytest.raises(ConfigurationError, match=words):
        Settings.of({"model": model}).check_model()
    with pytest.raises(ConfigurationError, match="No model"):
        Settings.of({}).check_model()
    Settings.of({"model": "m"}).check_model()
