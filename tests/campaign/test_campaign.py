"""The campaign itself: each block holds in little, breaches are seen for what they are, and reports tell them."""

from __future__ import annotations

import ast
import json

import pytest

import llmws
from llmws.testing import faults
from tests.breaks.copies import broken, whole
from tests.campaign import blocks, points
from tests.campaign.blocks import BLOCKS
from tests.campaign.book import INVARIANTS, Book
from tests.campaign.mutations import MUTATIONS
from tests.campaign.oracle import CANARY, Seen, Transcript, examine, violation
from tests.campaign.report import as_lines, as_markdown, write
from tests.campaign.script import Line


DELTA = "response.output_text.delta"
DONE = ("response.completed", 9, None)


@pytest.mark.parametrize("name", ["P1", "P2", "P3", "P4", "P6"])
def test_nothing_is_broken_in_a_small_run(name):
    book = blocks.run(name, 7, "suite")
    assert book.report()["told"] == []
    assert book.sound
    assert book.figures["faults"] + book.figures["turns"] >= 8


def test_there_are_forty_places_and_sixteen_hundred_trials():
    assert len(points.POINTS) == 40
    assert len({point.name for point in points.POINTS}) >= 36
    counts = {name: len(list(BLOCKS[name].trials(1, "full"))) for name in BLOCKS}
    assert counts == {"P1": 1600, "P2": 800, "P3": 360, "P4": 600, "P6": 20, "openai": 1600}


def test_a_trial_is_the_same_whenever_it_is_replayed():
    first, again = (list(BLOCKS["P2"].trials(3, "full")) for _ in range(2))
    assert [trial.rng.random() for trial in first] == [trial.rng.random() for trial in again]
    assert first[0].rng.random() != first[1].rng.random()


def test_every_kind_of_fault_has_its_turn():
    from tests.campaign import randoms

    drawn = {*randoms._LOUD, *randoms._SILENT}
    assert drawn == set(faults.ALL)


@pytest.mark.parametrize(
    ("seen", "sent", "broken_promise"),
    [
        ([], [], None),
        ([1, 2], [[1, 2, 3]], None),
        ([1, 1, 2], [[1], [1, 2]], None),
        ([1, 2, 1, 2, 3], [[1, 2, 9], [1, 2, 3]], None),
        ([1, 2, 3], [[1, 2], [1, 2, 3]], None),
        ([1, 3], [[1, 2, 3]], "lost"),
        ([2], [[1, 2]], "lost"),
        ([1, 1], [[1, 2]], "doubled"),
        ([1, 2, 1], [[1, 2]], "doubled"),
        ([1, 7], [[1, 2]], "foreign"),
        ([1], [], "foreign"),
    ],
)
def test_what_was_seen_is_a_chain_of_prefixes_or_it_is_told_why_not(seen, sent, broken_promise):
    assert violation(seen, sent) == broken_promise


class Answered:
    status = "completed"

    def __init__(self, text):
        self.text = text


def line_of(deltas=2):
    line = Line("n", deltas=deltas)
    pieces = llmws.testing.nonces.nonce_pieces("n", deltas)
    line.attempts.append([(DELTA, index, piece) for index, piece in enumerate(pieces)] + [DONE])
    return line, pieces


def found(line, seen):
    book = Book("x")
    examine(book, "x/1", line, seen)
    return {name for name, count in book.breaches.items() if count}


def test_a_turn_that_is_right_breaks_nothing():
    line, pieces = line_of()
    events = list(line.attempts[0])
    assert found(line, Seen(pieces, events, Answered(line.text))) == set()
    assert found(line, Seen(pieces[:1], events[:1], error=llmws.TurnError("cut"))) == set()


@pytest.mark.parametrize(
    ("change", "breach"),
    [
        ({"response": Answered("else")}, "mismatches"),
        ({"pieces": []}, "lost"),
        ({"pieces": ["a piece of another's"]}, "foreign"),
        ({"events": [(DELTA, 0, "a piece of another's"), DONE]}, "foreign"),
        ({"events": []}, "no terminal"),
        ({"response": None}, "no terminal"),
        ({"response": None, "error": KeyError("x")}, "wrong outcomes"),
        ({"seconds": 9.0, "deadline": 5.0}, "late"),
        ({"shown": [f"Bearer {CANARY}"]}, "keys"),
        ({"response": None, "error": llmws.TurnError(CANARY)}, "keys"),
    ],
)
def test_each_breach_is_counted_as_what_it_is(change, breach):
    line, pieces = line_of()
    seen = Seen(pieces, list(line.attempts[0]), Answered(line.text))
    for name, value in change.items():
        setattr(seen, name, value)
    assert breach in found(line, seen)


def test_success_without_a_terminal_event_is_counted():
    line, pieces = line_of()
    line.attempts[0].pop()
    assert "no terminal" in found(line, Seen(pieces, None, Answered(line.text)))


def test_a_conversation_has_to_know_what_was_said():
    line, _ = line_of()
    for context, breaches in ((["nonce n"], 0), (["nonce n", "nonce n"], 1), ([], 1)):
        book, line.contexts = Book("x"), [context]
        Transcript().examine(book, "x/1", line, Seen(response=Answered(line.text)))
        assert book.breaches["transcripts"] == breaches


def test_a_report_tells_counts_and_replays(tmp_path, capsys):
    book = Book("P1")
    book.breach("lost", "P1/7/FIN/ws/0", "a piece")
    book.count("faults", 3)
    book.took("recovery", 0.25)
    book.close()
    write(tmp_path / "report", 11, "quick", [book])
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["seed"] == 11
    assert told["blocks"][0]["breaches"]["lost"] == 1
    assert told["blocks"][0]["times"]["recovery"]["p50_ms"] == 250.0
    text = (tmp_path / "report.md").read_text()
    assert text == as_markdown(11, "quick", [book])
    assert all(name in text for name in INVARIANTS)
    assert "P1/7/FIN/ws/0" in "\n".join(as_lines(book))
    assert "P1/7/FIN/ws/0" in capsys.readouterr().err


@pytest.mark.parametrize("each", MUTATIONS, ids=[each.name for each in MUTATIONS])
def test_each_mutation_can_be_made_and_is_python(each):
    ast.parse(broken(whole(each.path), each))
    assert set(each.tests) <= set(BLOCKS)


def test_there_are_twenty_mutations_at_least():
    assert len({each.name for each in MUTATIONS}) >= 20
