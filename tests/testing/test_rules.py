import threading
import time
from types import SimpleNamespace

import attrs
import pytest

from llmws.errors import ConfigurationError
from llmws.testing import Request, rules
from llmws.testing.answer import Answer, numbered, tokens_of
from llmws.testing.nonces import nonce_pieces
from llmws.testing.rules import answering


def asked(text="Hello there", *, number=1, **fields):
    body = {"type": "response.create", "model": "gpt-6-astra", "input": text}
    return Request(body={**body, **fields}, number=number)


def answered(rule, request=None):
    return list(answering(rule)(request or asked()))


def types(events):
    return [event["type"].removeprefix("response.") for event in events]


def text_of(events):
    return "".join(event["delta"] for event in events if event["type"].endswith("text.delta"))


def test_echo_answers_with_the_input_in_the_order_of_the_api():
    events = answered(rules.echo())
    assert types(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * 2,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert text_of(events) == "Hello there"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


def test_the_last_event_has_the_whole_output_and_the_usage():
    final = answered(rules.text("One two three"))[-1]["response"]
    assert final["status"] == "completed"
    assert final["output"][0]["content"][0]["text"] == "One two three"
    assert final["usage"]["output_tokens"] == 3
    assert final["usage"]["total_tokens"] == final["usage"]["input_tokens"] + 3


def test_a_text_has_the_tokens_and_the_usage_that_were_given():
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    events = answered(rules.text("abc", tokens=["a", "", "bc"], usage=usage))
    assert [event["delta"] for event in events if "delta" in event] == ["a", "", "bc"]
    assert events[-1]["response"]["usage"] == usage


def test_tokens_that_do_not_join_to_the_text_are_refused():
    with pytest.raises(ConfigurationError, match="do not join"):
        answered(rules.text("abc", tokens=["a"]))


@pytest.mark.parametrize(
    "text", ["", " ", "a", "one  two\n\nthree ", "x" * 50, "日本語のテキスト、長い文"]
)
def test_tokens_join_to_their_text(text):
    assert "".join(tokens_of(text)) == text


def test_tool_calls_come_whole_each_with_its_own_id():
    events = answered(
        rules.tool_calls([{"name": "a", "arguments": {"x": 1}}, {"name": "b", "arguments": "{}"}])
    )
    first, second = events[-1]["response"]["output"]
    assert (first["name"], first["arguments"]) == ("a", '{"x": 1}')
    assert (second["name"], second["arguments"]) == ("b", "{}")
    assert first["call_id"] != second["call_id"]
    assert first["call_id"].startswith("call_")
    assert first["id"].startswith("fc_")


def test_a_custom_tool_is_called_with_a_text():
    [call] = answered(rules.custom_tool_call("sql", "SELECT 1"))[-1]["response"]["output"]
    assert (call["type"], call["input"]) == ("custom_tool_call", "SELECT 1")


def test_reasoning_comes_before_the_answer_and_is_counted():
    events = answered(rules.reasoning("One thought.", "Another.", answer="Done."))
    thought, message = events[-1]["response"]["output"]
    assert [part["text"] for part in thought["summary"]] == ["One thought.", "Another."]
    assert message["content"][0]["text"] == "Done."
    assert events[-1]["response"]["usage"]["output_tokens_details"] == {"reasoning_tokens": 3}
    assert "encrypted_content" not in thought


def test_encrypted_reasoning_is_given_to_who_asks_for_it():
    request = asked(include=["reasoning.encrypted_content"])
    [thought] = answered(rules.reasoning("Hm."), request)[-1]["response"]["output"]
    assert thought["encrypted_content"]


def test_a_refusal_is_no_text():
    events = answered(rules.refusal("I cannot."))
    assert text_of(events) == ""
    assert events[-1]["response"]["output"][0]["content"] == [
        {"type": "refusal", "refusal": "I cannot."}
    ]


def test_an_incomplete_answer_says_why():
    final = answered(rules.incomplete("Once", reason="content_filter"))[-1]
    assert final["type"] == "response.incomplete"
    assert final["response"]["incomplete_details"] == {"reason": "content_filter"}
    assert final["response"]["output"][0]["status"] == "incomplete"


def test_a_failure_comes_as_recorded_error_first():
    events = answered(rules.fail("server_error", "Oh no", after="Well"))
    assert types(events)[-2:] == ["error", "failed"]
    assert events[-1]["response"]["error"] == {"code": "server_error", "message": "Oh no"}
    assert types(answered(rules.fail("x", "y", error_first=False))) == [
        "created",
        "in_progress",
        "failed",
    ]


def test_a_refused_request_has_an_error_and_nothing_else():
    [event] = answered(
        rules.refuse(429, "rate_limit_exceeded", "Slow", headers={"retry-after": "2"})
    )
    assert event["status"] == 429
    assert event["error"] == {
        "type": "invalid_request_error",
        "code": "rate_limit_exceeded",
        "message": "Slow",
        "param": None,
        "headers": {"retry-after": "2"},
    }


def test_a_sequence_answers_by_number_and_repeats_its_last_rule():
    rule = rules.sequence(rules.text("one"), rules.text("two"))
    said = [text_of(answered(rule, asked(number=number))) for number in (1, 2, 3)]
    assert said == ["one", "two", "two"]


def test_an_empty_sequence_is_refused():
    with pytest.raises(ConfigurationError, match="needs a rule"):
        rules.sequence()


def test_a_warm_up_is_answered_without_output_whatever_the_rule():
    events = answered(rules.text("never"), asked(generate=False))
    assert types(events) == ["created", "completed"]
    assert events[-1]["response"]["output"] == []
    assert events[-1]["response"]["usage"]["output_tokens"] == 0


def test_a_rule_may_answer_warm_ups_itself():
    def rule(request):
        return [{"type": "mine"}]

    rule.answers_warm_ups = True
    assert types(answered(rule, asked(generate=False))) == ["mine"]


def test_the_response_repeats_the_request():
    request = asked(instructions="Be short.", previous_response_id="resp_0", store=False)
    created = answered(rules.echo(), request)[0]["response"]
    assert created["model"] == "gpt-6-astra"
    assert created["instructions"] == "Be short."
    assert created["previous_response_id"] == "resp_0"
    assert created["store"] is False
    assert (created["status"], created["output"], created["usage"]) == ("in_progress", [], None)


def test_padding_can_be_switched_off():
    padded = answered(rules.text("Hi"))
    plain = answered(rules.text("Hi"), asked(stream_options={"include_obfuscation": False}))
    assert any("obfuscation" in event for event in padded)
    assert not any("obfuscation" in event for event in plain)


def test_ids_are_the_same_on_every_run_and_different_in_every_turn():
    def ids(turn):
        request = Request(body={"input": "x"}, turn=turn)
        return [event["response"]["id"] for event in rules.echo()(request) if "response" in event]

    assert ids(1) == ids(1)
    assert set(ids(1)).isdisjoint(ids(2))


def test_numbers_start_again_with_each_response_and_given_ones_are_kept():
    events = [
        {"type": "response.created"},
        {"type": "x"},
        {"type": "y", "sequence_number": 9},
        {"type": "response.created"},
    ]
    assert [event["sequence_number"] for event in numbered(iter(events))] == [0, 1, 9, 0]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        ([], ""),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "b"),
        (
            [{"content": [{"type": "input_text", "text": "a"}, {"type": "input_image"}, "odd"]}],
            "a",
        ),
        ([{"type": "function_call_output", "call_id": "c", "output": "42"}], "42"),
        ([{"type": "item_reference", "id": "x"}], ""),
    ],
)
def test_the_input_text_is_that_of_the_last_item(given, text):
    assert asked(given).input_text == text


def test_an_answer_can_be_built_by_hand():
    answer = Answer(asked())
    events = [*answer.start(), *answer.message("a"), *answer.function_call("f", {})]
    events += answer.complete()
    assert [item["type"] for item in events[-1]["response"]["output"]] == [
        "message",
        "function_call",
    ]
    assert [e["output_index"] for e in events if e["type"].endswith("item.added")] == [0, 1]


def test_a_nonce_is_answered_with_its_text_piece_by_piece():
    events = answered(rules.nonce(7), asked("Go on: nonce 7f3a, please"))
    assert text_of(events) == rules.nonce_text("7f3a", 7)
    deltas = [event["delta"] for event in events if event["type"].endswith("text.delta")]
    assert deltas == nonce_pieces("7f3a", 7)
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == text_of(events)
    [refused] = answered(rules.nonce(7), asked("no such thing"))
    assert refused["error"]["code"] == "no_nonce"


def test_so_many_are_refused_and_the_rest_answered():
    headers = {"retry-after": "0"}
    rule = rules.refuse_times(
        2, 429, "rate_limit_exceeded", "Wait.", headers=headers, then=rules.echo()
    )
    first, second, third, fourth = (answered(rule, asked(number=n)) for n in (5, 1, 1, 1))
    for [error] in (first, second):
        assert (error["status"], error["error"]["code"]) == (429, "rate_limit_exceeded")
        assert error["error"]["headers"] == headers
    assert text_of(third) == text_of(fourth) == "Hello there"


def test_a_delayed_rule_begins_at_once_and_takes_its_time():
    rule = rules.delayed(rules.echo(), 0.05)
    begun = time.monotonic()
    events = answering(rule)(asked())
    assert next(events)["type"] == "response.created"
    assert text_of(list(events)) == "Hello there"
    assert time.monotonic() - begun >= 0.05
    late = answering(rules.delayed(rules.echo(), 3600.0))(asked())
    assert next(late)["type"] == "response.created"


def test_a_delayed_rule_ends_with_its_connection():
    closed = threading.Event()
    closed.set()
    request = attrs.evolve(asked(), connection=SimpleNamespace(number=1, closed=closed))
    assert types(answered(rules.delayed(rules.echo(), 3600.0), request)) == ["created"]
