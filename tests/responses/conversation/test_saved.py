"""A conversation lives on in another process, from plain JSON without keys."""

import copy
import hashlib
import json

import pytest

from llmws.errors import ConfigurationError
from llmws.responses.conversation.conversation import Conversation
from tests.responses.chatting import Desk, ask, call, output, said, steer, user


KEY = "sk-canary-0123456789abcdef"


@pytest.fixture
def desk():
    return Desk()


def moved(chat, desk, **settings):
    """Save a conversation, and go on with it in a process whose connections are others."""
    data = json.loads(json.dumps(chat.to_dict()))
    desk.drop_connection()
    return Conversation.from_dict(data, session=desk, **settings)


def test_a_conversation_goes_on_behind_a_stored_parent(desk):
    chat = desk.conversation(instructions="Be brief.", text={"verbosity": "low"})
    ask(desk, chat, "a")
    chat = moved(chat, desk)
    create = ask(desk, chat, "b")
    assert (create.body["previous_response_id"], create.body["input"]) == ("resp_1", [user("b")])
    assert create.body["instructions"] == "Be brief."
    assert create.context == [user("a"), said("ok", "msg_1"), user("b")]


def test_what_only_a_connection_had_is_sent_in_full(desk):
    chat = desk.conversation(store=False)
    ask(desk, chat, "a")
    chat = moved(chat, desk)
    ask(desk, chat, "b")
    assert [(turn.sent.kind, turn.sent.reason) for turn in chat.turns] == [
        ("full", "first turn"), ("full", "restored")
    ]  # fmt: skip
    assert desk.refused == 0


def edits():
    """Return ways to edit saved items by hand."""

    def put(data):
        data["items"].append(user("and in French"))

    def change(data):
        data["items"][0]["content"] = "[removed]"

    def add(data):
        data["items"][0]["novel"] = None

    def swap(data):
        data["items"].reverse()

    def cut(data):
        del data["items"][-1]

    return [put, change, add, swap, cut]


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("edit", edits(), ids=lambda edit: edit.__name__)
def test_items_that_were_edited_by_hand_are_what_counts(desk, edit, store):
    chat = desk.conversation(store=store)
    ask(desk, chat, "a")
    data = json.loads(json.dumps(chat.to_dict()))
    edit(data)
    desk.drop_connection()
    chat = Conversation.from_dict(data, session=desk)
    assert (chat.items, chat.response_id) == (data["items"], None)
    with pytest.raises(ConfigurationError, match="no part of the transcript"):
        chat.truncate_to(chat.turns[0])
    create = ask(desk, chat, "b")
    assert (chat.turns[1].sent.kind, chat.turns[1].sent.reason) == ("full", "history edited")
    assert create.context == [*data["items"], user("b")]


def test_an_output_whose_call_was_deleted_by_hand_is_refused_at_once(desk):
    chat = desk.conversation()
    ask(desk, chat, "a", output=[call("c")])
    ask(desk, chat, [output("c")])
    data = json.loads(json.dumps(chat.to_dict()))
    del data["items"][1]
    with pytest.raises(
        ConfigurationError, match=r"data\['items'\]\[1\] is a function_call_output without its call"
    ):
        Conversation.from_dict(data, session=desk)


def test_settings_that_nest_too_deep_to_be_searched_for_secrets_are_not_saved(desk):
    nested = {}
    for _ in range(700):
        nested = {"a": nested}
    chat = desk.conversation(instructions="Be brief.", metadata=nested)
    ask(desk, chat, "a")
    with pytest.raises(
        ConfigurationError, match=r"cannot be saved: .*\(instructions, metadata\) nests too deep"
    ):
        chat.to_dict()


def test_what_a_database_makes_of_json_is_no_edit(desk):
    chat = desk.conversation()
    item = {
        **user("é\u2028\U0001f600"),
        "a": {"z": 1.0, "b": [1.5, -0.0, 1e22, 10**18, None, True]},
    }
    ask(desk, chat, [item])

    def stirred(value):
        if isinstance(value, dict):
            return {name: stirred(value[name]) for name in sorted(value, reverse=True)}
        if isinstance(value, list):
            return [stirred(each) for each in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    data = json.loads(json.dumps(chat.to_dict()))
    for twin in (data, stirred(data), json.loads(json.dumps(data, ensure_ascii=False, indent=2))):
        desk.drop_connection()
        again = Conversation.from_dict(twin, session=desk)
        assert again.to_dict()["digest"] == data["digest"]
        ask(desk, again, "b")
        assert again.turns[1].sent.reason == "parent stored"


def test_the_digest_is_the_same_in_every_process_and_version(desk):
    chat = desk.conversation()
    assert chat.to_dict()["digest"] == "e3b0c44298fc1c149afbf4c8996fb924"
    chat.replace_items([{"b": 1.0, "a": "é"}])
    assert chat.to_dict()["digest"] == hashlib.sha256(b'{"a":"\\u00e9","b":1}\n').hexdigest()[:32]


def test_a_number_or_a_truth_that_changed_is_an_edit(desk):
    digests = set()
    for value in (1, 2, 1.5, "1", True, None, [1], [[1]]):
        chat = desk.conversation()
        chat.replace_items([{"a": value}])
        digests.add(chat.to_dict()["digest"])
    assert len(digests) == 8


def test_a_steer_that_waited_is_restored_as_part_of_what_was_said(desk):
    chat = desk.conversation()
    steer(desk, chat.stream("a"), "Shorter.", "c")
    chat = moved(chat, desk)
    create = ask(desk, chat, [output("c")])
    assert create.body["input"][-2:] == [user("Shorter."), output("c")]
    assert (chat.turns[1].sent.kind, chat.turns[1].sent.reason) == ("full", "restored")


@pytest.mark.parametrize("session", [None, "x", 5])
def test_there_is_no_conversation_without_a_session(desk, session):
    data = desk.conversation().to_dict()
    with pytest.raises(ConfigurationError, match=r"session is of type \w+: give the Session"):
        Conversation.from_dict(data, session=session)


def test_a_setting_that_changed_between_the_processes_is_noticed(desk):
    chat = desk.conversation(instructions="Be brief.")
    ask(desk, chat, "a")
    chat = moved(chat, desk, instructions="Be long.")
    ask(desk, chat, "b")
    assert chat.turns[1].sent.reason == "settings changed: instructions"


def test_everything_is_as_it_was(desk):
    chat = desk.conversation(instructions="Be brief.")
    ask(desk, chat, "a", output=[said("A", "m1"), call("c")])
    ask(desk, chat, [output("c")], how="failed")
    twin = moved(chat, desk)
    assert twin.items == chat.items
    assert twin.usage == chat.usage
    assert twin.turns == chat.turns
    assert twin.response_id == chat.response_id == "resp_1"
    assert twin.to_dict() == {**chat.to_dict(), "parent": None}
    with pytest.raises(ConfigurationError, match="wait for their output: c"):
        twin.stream("b")
    twin.truncate_to(twin.turns[0])


def test_a_turn_that_runs_is_not_saved(desk):
    chat = desk.conversation()
    ask(desk, chat, "a")
    before = chat.to_dict()
    stream = chat.stream("b")
    assert chat.to_dict() == before
    desk.finish(stream._turn)
    assert chat.to_dict() != before


def test_the_sessions_fields_are_not_saved(desk):
    assert desk.conversation(user="u").to_dict()["settings"] == {"user": "u"}


SECRETIVE = [
    {"type": "mcp", "server_label": "s", "authorization": "abc"},
    {"type": "mcp", "server_label": "s", "headers": {"X-Novel": "abc"}},
    {"type": "mcp", "server_label": "s", "server_url": f"https://example.com?key={KEY}"},
]


@pytest.mark.parametrize("tool", SECRETIVE, ids=["field", "header", "pattern"])
def test_a_secret_in_the_settings_is_not_saved_and_has_to_be_given_again(desk, tool):
    chat = desk.conversation(instructions="Be brief.", tools=[tool])
    ask(desk, chat, "a")
    assert desk.creates[-1].body["tools"] == [tool]
    text = json.dumps(chat.to_dict())
    assert "abc" not in text.replace(json.dumps(chat.to_dict()["parent"]), "")
    assert KEY not in text
    with pytest.raises(ConfigurationError, match=r"not saved, at tools\[0\]\.\w+"):
        moved(chat, desk)
    chat = moved(chat, desk, tools=[tool])
    ask(desk, chat, "b")
    assert desk.creates[-1].body["tools"] == [tool]
    assert chat.turns[1].sent.kind == "delta"


def test_what_was_said_is_saved_as_it_was_said(desk):
    chat = desk.conversation()
    ask(desk, chat, f"What is {KEY}?")
    assert moved(chat, desk).items[0] == user(f"What is {KEY}?")


DAMAGES = [
    (lambda data: [], r"data is of type list"),
    (lambda data: data.pop("format"), r"data\['format'\] is of type NoneType"),
    (lambda data: data.update(format="other"), r"'format'\] is 'other'"),
    (lambda data: data.update(items={}), r"data\['items'\] is of type dict"),
    (lambda data: data["items"].append(1), r"data\['items'\]\[2\] is of type int"),
    (lambda data: data["items"].append({"a": {1, 2}}), r"data\['items'\]\[2\] cannot be sent as JSON"),
    (lambda data: data.update(settings=None), r"data\['settings'\] is of type NoneType"),
    (lambda data: data["turns"].append("x"), r"data\['turns'\]\[1\] is of type str"),
    (lambda data: data["turns"][0]["sent"].pop("reason"), r"\['reason'\] is of type NoneType, not str"),
    (lambda data: data["turns"][0]["sent"].update(items=True), r"\['items'\] is of type bool, not int"),
    (lambda data: data["usage"].pop("input_tokens"), r"\['input_tokens'\] is of type NoneType"),
    (lambda data: data["parent"].update(stored="yes"), r"data\['parent'\]\['stored'\] is of type str"),
    (lambda data: data["parent"].pop("response_id"), r"\['response_id'\] is of type NoneType"),
    (lambda data: data.update(settings={1: 2}), r"data\['settings'\] has the key 1, which is no string"),
    (lambda data: data.pop("digest"), r"data\['digest'\] is of type NoneType"),
    (lambda data: data.update(response_id=1), r"data\['response_id'\] is of type int"),
    (lambda data: data["settings"].update(nonsense=object()), r"nonsense cannot be sent as JSON"),
    (lambda data: data["settings"].update(stream=True), r"cannot take 'stream'"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "words"), DAMAGES, ids=[words for _, words in DAMAGES])
def test_damaged_data_is_refused_with_the_place(desk, damage, words):
    chat = desk.conversation()
    ask(desk, chat, "a")
    data = copy.deepcopy(chat.to_dict())
    data = [] if damage(data) == [] else data
    with pytest.raises(ConfigurationError, match=words):
        Conversation.from_dict(data, session=desk)
