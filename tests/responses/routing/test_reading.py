"""What a batch of messages means to the turn that runs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.errors import RemoteProtocolError
from llmws.responses.routing.reading import read
from llmws.responses.routing.shares import Share, shares_of
from llmws.responses.routing.turn import Turn, TurnState
from llmws.responses.vocabulary.entries import opened
from llmws.timeouts import Timeouts
from llmws.wire import jsoncodec
from tests.responses.lanework import LIMIT, completed, created, delta, error, event


# Inputs that nest to the limit.
pytestmark = pytest.mark.usefixtures("no_finalizers")


needs_msgspec = pytest.mark.skipif(jsoncodec._fast is None, reason="msgspec is not installed")


def turn(state=TurnState.SENT, **fields):
    made = Turn(payload=b"", timeouts=Timeouts(), started_at=0.0)
    made.state = state
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def encoded(events):
    return [each if isinstance(each, bytes) else json.dumps(each).encode() for each in events]


def share_of(messages):
    """Return the only share of some messages of one lane."""
    (share,) = shares_of(messages) or [Share(None, [])]
    return share


def reading_of(made, *events, position=0, strict=False, **options):
    return read(made, share_of(encoded(events)), position, strict=strict, **options)


def raws(items):
    return [event.raw for event in opened(items)]


def types(reading):
    return [event.type for event in opened(reading.items)]


def test_an_answer_is_read_to_its_terminal_event_and_not_beyond():
    made = turn()
    reading = reading_of(made, created("r"), delta(), completed("r"), created("next"))
    assert types(reading) == [
        "response.created",
        "response.output_text.delta",
        "response.completed",
    ]
    assert (reading.position, reading.last, reading.useful) == (3, True, True)
    assert (made.state, made.response_id) == (TurnState.OUTPUT, "r")
    assert made.final is reading.items[-1]


@needs_msgspec
def test_deltas_of_a_running_output_stay_as_they_came():
    messages = encoded([delta(), delta()])
    reading = read(turn(TurnState.OUTPUT), share_of(messages), 0, strict=False)
    assert reading.items == messages
    reading = read(turn(TurnState.OUTPUT), share_of(messages), 1, strict=False)
    assert (reading.items, reading.position) == (messages[1:], 2)


def test_reading_begins_where_it_is_told():
    reading = reading_of(turn(), completed("old"), created("r"), delta(), position=1)
    assert types(reading) == ["response.created", "response.output_text.delta"]
    assert reading.position == 3
    assert not reading.last


@pytest.mark.parametrize(
    ("state", "said", "then", "useful"),
    [
        ("sent", created(), "accepted", True),
        ("sent", event("response.in_progress", "r"), "accepted", True),
        ("accepted", event("response.in_progress", "r"), "accepted", False),
        ("accepted", delta(), "output", True),
        ("accepted", event("something.new"), "output", True),
        ("sent", delta(), "output", True),
        ("sent", event("something.new"), "sent", False),
        ("output", delta(), "output", False),
        ("output", created("again"), "output", False),
        ("sent", completed(), "sent", True),
        ("sent", error(), "sent", False),
        ("accepted", error(), "accepted", False),
    ],
)
def test_each_event_moves_the_turn_on_as_it_should(state, said, then, useful):
    made = turn(TurnState(state))
    reading = reading_of(made, said)
    assert (made.state.value, reading.useful) == (then, useful)
    # What may be an end is held back until it is known that the turn is not sent again.
    assert len(reading.items) + len(made.held) == 1


def test_the_response_keeps_its_first_id():
    made = turn()
    reading_of(made, created("one"), created("two"), completed("three"))
    assert made.response_id == "one"


def test_a_terminal_event_alone_gives_the_id():
    made = turn()
    reading_of(made, completed("r"))
    assert made.response_id == "r"


def test_an_error_ends_a_turn_only_before_it_was_accepted():
    made = turn()
    assert reading_of(made, error(), delta()).position == 1
    assert made.error_event is not None
    accepted = turn(TurnState.ACCEPTED)
    reading = reading_of(accepted, error(), delta())
    assert (reading.last, reading.position) == (False, 2)
    assert accepted.error_event is reading.items[0]


def test_an_error_about_the_connection_is_not_the_turns():
    made = turn()
    reading = reading_of(made, LIMIT, created())
    assert reading.retired.code == "websocket_connection_limit_reached"
    # What follows is read by a lane that knows of it.
    assert (types(reading), reading.position, reading.last) == ([], 1, False)
    assert made.error_event is None


@pytest.mark.parametrize("state", ["accepted", "output"])
def test_where_answers_may_be_mixed_another_response_that_begins_is_a_breach(state):
    made = turn(TurnState(state), response_id="one")
    reading = reading_of(made, delta(), created("two"), delta(), mixed=True)
    # What may be an end is held back until it is known that the turn is not sent again.
    assert len(reading.items) + len(made.held) == 1
    assert isinstance(reading.fault, RemoteProtocolError)
    assert "pass lanes=False" in str(reading.fault)
    assert reading.fault.response_id == "one"


def test_the_same_response_may_begin_in_several_words_though_answers_may_be_mixed():
    reading = reading_of(turn(), created("one"), event("response.in_progress", "one"), mixed=True)
    assert (reading.fault, len(reading.items)) == (None, 2)


def test_behind_the_turns_end_another_may_begin_though_answers_may_be_mixed():
    reading = reading_of(turn(), created("one"), completed("one"), created("two"), mixed=True)
    assert (reading.fault, reading.last, reading.position) == (None, True, 2)


def test_until_its_creation_a_suspicious_turn_takes_nothing_but_errors():
    made = turn(suspicious=True)
    reading = reading_of(made, delta(), completed("old"), event("unknown"))
    assert (types(reading), reading.dropped, reading.last) == ([], 3, False)
    assert (made.state, made.final, made.response_id) == (TurnState.SENT, None, None)
    reading = reading_of(made, created("r"), delta(), completed("r"))
    assert len(reading.items) == 3
    assert made.response_id == "r"
    refused = turn(suspicious=True)
    assert reading_of(refused, error()).last


@given(st.lists(st.integers(0, 6), max_size=8), st.booleans())
def test_numbers_out_of_sequence_are_counted_or_end_a_strict_turn(numbers, strict):
    made, plain = turn(TurnState.OUTPUT), turn()
    events = [{**delta(), "sequence_number": number} for number in numbers]
    reading = reading_of(made, *events, strict=strict)
    gaps = [plain.number(number) for number in numbers]
    wrong = [index for index, gap in enumerate(gaps) if gap]
    if strict and wrong:
        assert len(reading.items) == wrong[0]
        assert f"sequence number {numbers[wrong[0]]} where" in str(reading.fault)
    else:
        assert (reading.fault, len(reading.items)) == (None, len(numbers))
        assert made.missing_events == plain.missing_events
        assert made.repeated_events == plain.repeated_events


@pytest.mark.parametrize("number", ["1", 1.5, True, [1], {}])
def test_a_sequence_number_that_is_no_integer_is_let_be(number):
    made = turn(TurnState.OUTPUT, next_number=5)
    reading = reading_of(made, {**delta(), "sequence_number": number}, strict=True)
    assert (reading.fault, len(reading.items), made.next_number) == (None, 1, 5)


def test_a_number_that_only_equals_the_one_due_leaves_an_integer_behind():
    made = turn(TurnState.OUTPUT, next_number=1)
    reading = reading_of(made, *({**delta(), "sequence_number": n} for n in (1.0, 2, 3, 3.0)))
    assert len(reading.items) == 4
    reading = reading_of(made, *({**delta(), "sequence_number": n} for n in (4, 5)))
    assert (type(made.next_number), made.next_number) == (int, 6)


EVENTS = [created(), delta(), completed(), error(), LIMIT, event("x"), {"delta": "a"}, {}]


@given(st.lists(st.sampled_from(EVENTS), max_size=10), st.lists(st.integers(0, 10)), st.booleans())
def test_any_cut_into_batches_reads_the_same(events, cuts, suspicious):
    """Read up to the end of the turn in one batch, and in several."""
    whole, apart = turn(suspicious=suspicious), turn(suspicious=suspicious)
    messages = encoded(events)
    once = read_to_the_end(whole, messages, [len(messages)])
    ends = sorted({min(cut, len(messages)) for cut in cuts} | {len(messages)})
    assert read_to_the_end(apart, messages, ends) == once
    assert (apart.state, apart.response_id) == (whole.state, whole.response_id)


def read_to_the_end(made, messages, ends):
    """Read batches that end there, as a lane does; return what is for the log, and how far it came."""
    items, position, done = [], 0, False
    for end in ends:
        while position < end and not done:
            batch = share_of(messages[position:end])
            reading = read(made, batch, 0, strict=False)
            items += reading.items
            position += reading.position
            done = reading.last or reading.fault is not None
    return raws(items), position


def test_a_late_event_of_the_turn_before_does_not_begin_the_numbering():
    made = turn(suspicious=True)
    late = {**completed("before", status="failed"), "sequence_number": 7}
    said = [{**created("r"), "sequence_number": 0}, {**delta(), "sequence_number": 1}]
    reading = reading_of(made, late, *said, strict=True)
    assert reading.fault is None
    assert (reading.dropped, len(reading.items)) == (1, 2)
    assert (made.missing_events, made.repeated_events) == (0, 0)


def test_a_refusal_that_nests_too_deep_to_be_searched_for_keys_ends_the_turn():
    def hide(value):
        raise RecursionError

    reading = reading_of(turn(), error(), hide=hide)
    assert isinstance(reading.fault, RemoteProtocolError)
    assert "nests too deep" in str(reading.fault)
    assert (reading.items, reading.position) == ([], 1)


def test_what_comes_behind_an_error_that_is_held_back_stays_behind_it():
    made = turn(TurnState.ACCEPTED)
    reading = reading_of(made, error(), created("again"))
    assert reading.items == []
    assert [event.type for event in made.held] == ["error", "response.created"]
    reading = reading_of(made, delta())
    assert [event.type for event in opened(reading.items)] == [
        "error", "response.created", "response.output_text.delta",
    ]  # fmt: skip
    assert made.held == ()
