from llmws.wire.parts import split


def created(id, lane=None):
    return event("response.created", lane, response={"id": id})


def ended(kind, id, lane=None):
    return event(f"response.{kind}", lane, response={"id": id})


def event(type, lane=None, **fields):
    return {"type": type, **({} if lane is None else {"stream_id": lane}), **fields}


def create(lane=None):
    return event("response.create", lane)


def parts_of(*events):
    return split(("out" if each["type"] == "response.create" else "in", each) for each in events)


def test_a_part_ends_with_each_kind_of_terminal_event():
    one = [created("a"), ended("completed", "a")]
    two = [created("b"), ended("incomplete", "b")]
    three = [created("c"), ended("failed", "c")]
    assert parts_of(*one, *two, *three) == [one, two, three]


def test_an_error_and_the_failure_of_the_same_response_are_one_part():
    one = [created("a"), event("error"), ended("failed", "a")]
    two = [created("b"), ended("completed", "b")]
    assert parts_of(*one, *two) == [one, two]


def test_an_error_before_output_is_a_part_of_its_own():
    one = [event("error")]
    two = [created("b"), ended("failed", "b")]
    assert parts_of(*one, *two) == [one, two]


def test_the_failure_of_another_response_does_not_join_an_error():
    one = [created("a"), event("error")]
    two = [ended("failed", "b")]
    assert parts_of(*one, *two) == [one, two]


def test_only_a_failure_joins_an_error():
    one = [created("a"), event("error")]
    two = [ended("completed", "a")]
    assert parts_of(*one, *two) == [one, two]


def test_what_comes_late_belongs_to_the_last_part_of_its_lane():
    a = [created("a", "x"), ended("incomplete", "a", "x")]
    b = [created("b", "y"), ended("completed", "b", "y")]
    late = created("c", "x")
    assert parts_of(create("x"), create("y"), *a, *b, late) == [[*a, late], b]


def test_lanes_are_kept_apart():
    a = [created("a", "x"), event("delta", "x"), ended("completed", "a", "x")]
    b = [created("b", "y"), event("delta", "y"), ended("completed", "b", "y")]
    mixed = [event for pair in zip(a, b, strict=True) for event in pair]
    assert parts_of(*mixed) == [a, b]


def test_parts_are_in_the_order_of_their_creates_not_of_their_events():
    a = [created("a", "x"), ended("completed", "a", "x")]
    b = [created("b", "y"), ended("completed", "b", "y")]
    assert parts_of(create("x"), create("y"), *b, *a) == [a, b]


def test_creates_of_one_lane_are_answered_in_order():
    a = [created("a"), ended("completed", "a")]
    b = [event("error")]
    assert parts_of(create(), create(), *a, *b) == [a, b]


def test_a_create_without_an_answer_has_an_empty_part():
    a = [created("a"), ended("completed", "a")]
    assert parts_of(create(), *a, create()) == [a, []]


def test_the_successor_of_a_steered_response_belongs_to_the_same_part():
    a = [created("a"), ended("incomplete", "a"), created("b"), ended("completed", "b")]
    assert parts_of(create(), *a) == [a]


def test_a_notice_before_any_create_comes_with_the_first_part():
    notice, a = event("codex.rate_limits"), [created("a"), ended("completed", "a")]
    assert parts_of(notice, create(), *a) == [[notice, *a]]


def test_an_error_without_lane_answers_the_create_whose_lane_is_bad():
    error = event("error")
    assert parts_of(create("not a lane"), error) == [[error]]


def test_what_was_cut_short_is_a_part_too():
    one = [created("a"), event("delta")]
    assert parts_of(*one) == [one]


def test_nothing_has_no_parts():
    assert parts_of() == []


def test_what_is_no_lanes_name_is_the_default_lane():
    odd = [event("delta", {}), event("delta", [1]), event("delta", 7)]
    part = [created("a"), *odd, ended("completed", "a")]
    assert parts_of(create(), *part) == [part]
