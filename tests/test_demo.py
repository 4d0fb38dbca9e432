import pytest

from llmws import Session, demo
from llmws.testing import Server, error_event, rules


def saying_more(rule):
    """Send a delta that neither the rule nor the ledger knows of."""

    def lying(request):
        for event in rule(request):
            yield event
            if event["type"] == "response.content_part.added":
                unknown = {**event, "type": "response.output_text.delta", "delta": "Psst!"}
                request.connection.send({**unknown, "stream_id": request.lane})

    return lying


def telling_another_status(rule):
    def lying(request):
        for event in rule(request):
            if event["type"] == "response.completed":
                event["response"]["status"] = "incomplete"
            yield event

    return lying


def forging_the_ledger(rule):
    def lying(request):
        request.body["input"] = "Something else."
        yield from rule(request)

    return lying


def ending_the_connection(rule):
    """Say as the API does when a connection has its age: the next turn needs another one."""

    def honest(request):
        request.connection.send(error_event("websocket_connection_limit_reached", "Too old."))
        yield from rule(request)

    return honest


def with_turn(number, rule):
    """Return the demo's rule, but for one of its turns."""
    honest = demo.rule()
    return lambda request: rule(request) if request.number == number else honest(request)


FIRST, CALLING, ANSWERING, _ = demo.SCENES


def test_an_honest_server_agrees(capsys):
    with Server(rule=demo.rule()) as server:
        assert demo.play(server) == 0
    shown = capsys.readouterr()
    assert "ledger               agrees" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (with_turn(1, rules.text("No.", usage=FIRST.usage)), "turn 1's final text"),
        (with_turn(1, rules.text(FIRST.answer)), "the tokens"),
        (with_turn(1, saying_more(rules.text(FIRST.answer))), "turn 1's number of events"),
        (with_turn(1, saying_more(rules.text(FIRST.answer))), "turn 1's streamed text"),
        (with_turn(2, rules.text("No.", usage=CALLING.usage)), "turn 2's calls"),
        (with_turn(3, rules.incomplete(ANSWERING.answer)), "turn 3's completion"),
        (with_turn(3, telling_another_status(rules.text(ANSWERING.answer))), "turn 3's end"),
        (forging_the_ledger(demo.rule()), "turn 4's input"),
        (with_turn(1, ending_the_connection(rules.text("?"))), "one connection being enough"),
    ],
)
def test_a_server_that_does_something_else_is_found_out(capsys, rule, words):
    with Server(rule=rule) as server:
        assert demo.play(server) == 1
    shown = capsys.readouterr()
    assert f"llmws: The ledger disagrees on {words}: " in shown.err
    assert "agrees" not in shown.out


def test_a_server_that_was_asked_by_somebody_else_is_found_out(capsys):
    echo = rules.echo()
    honest = demo.rule()
    rule = lambda request: echo(request) if request.connection.number == 1 else honest(request)  # noqa: E731
    with Server(rule=rule) as server:
        with Session("any", base_url=server.base_url) as session:
            session.create("Hello!")
        assert demo.play(server) == 1
    errors = capsys.readouterr().err
    for words in ("the connections: 2 there, 1 here", "the creates: 5 there, 4 here"):
        assert f"llmws: The ledger disagrees on {words}." in errors
    assert "turn 1's response id" in errors
    assert "turn 3's previous_response_id" in errors
