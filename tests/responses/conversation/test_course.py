"""One at a time goes on with a conversation, and nobody waits for that longer than allowed."""

import threading
import time

import pytest

from llmws.errors import ConfigurationError, LaneTimeout, TotalTimeout
from tests.responses.acting import until
from tests.responses.chatting import Desk, ask


LIMITS = [
    ({"lane_wait": 0.1}, LaneTimeout),
    ({"total": 0.1}, TotalTimeout),
    ({"total": 0.1, "lane_wait": 5}, TotalTimeout),
    ({"total": 5, "lane_wait": 0.1}, LaneTimeout),
    ({"total": None, "lane_wait": 0.1}, LaneTimeout),
    ({"total": 0.1, "lane_wait": None}, TotalTimeout),
]


@pytest.fixture
def desk():
    return Desk()


def refused(chat, limits, kind):
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        chat.create("b", timeouts=limits)
    assert time.monotonic() - began < 3
    assert type(caught.value) is kind
    assert (caught.value.state, caught.value.may_have_been_billed) == ("queued", False)


@pytest.mark.parametrize(("limits", "kind"), LIMITS)
def test_a_turn_waits_for_the_one_before_within_its_own_limits(desk, limits, kind):
    chat = desk.conversation()
    first = chat.stream("a")
    refused(chat, limits, kind)
    assert len(desk.creates) == 1
    desk.finish(first._turn)
    ask(desk, chat, "c")
    assert [turn.sent.kind for turn in chat.turns] == ["full", "delta"]


@pytest.mark.parametrize(("limits", "kind"), LIMITS)
def test_a_turn_waits_for_another_threads_call_within_its_own_limits(desk, limits, kind):
    chat = desk.conversation()
    chat.replace_items("x")
    over = threading.Event()
    desk.compacted = lambda body: over.wait(10) and Desk.compacted(desk, body)
    compacting = threading.Thread(target=chat.compact, daemon=True)
    compacting.start()
    until(lambda: desk.posts)
    refused(chat, limits, kind)
    assert desk.creates == []
    over.set()
    compacting.join(5)
    ask(desk, chat, "c")
    assert chat.turns[0].sent.reason == "compacted"


def test_the_wait_counts_in_the_turns_own_limits(desk):
    chat = desk.conversation()
    first, streams = chat.stream("a"), []
    began = time.monotonic()
    waiting = threading.Thread(target=lambda: streams.append(chat.stream("b")), daemon=True)
    waiting.start()
    until(lambda: first._turn.inbox._monitor._waiting)
    held = time.monotonic()
    desk.finish(first._turn)
    waiting.join(5)
    assert began <= streams[0]._turn.started_at <= held
    assert streams[0]._turn.queued_at == streams[0]._turn.started_at
    desk.finish(streams[0]._turn)


def test_bad_limits_are_refused_before_anything_is_waited_for(desk):
    chat = desk.conversation()
    first = chat.stream("a")
    with pytest.raises(ConfigurationError, match="no limit named nonsense"):
        chat.stream("b", timeouts={"nonsense": 1})
    desk.finish(first._turn)


def test_an_edit_waits_as_long_as_the_turn_takes(desk):
    chat = desk.conversation()
    desk.limits = lambda changes=None: pytest.fail("An edit has no limits of its own.")
    first = Desk.conversation(desk)._course
    assert first.alone(lambda: 1) == 1
    chat.replace_items("x")
    chat.truncate_to(0)
    assert chat.items == []


def test_a_conversation_is_in_use_from_before_its_turn_is_opened(desk):
    chat = desk.conversation()
    assert chat.last_used == float("-inf")
    opened, seen = desk.open_turn, []

    def open_turn(*given, **options):
        # A rotation may look at this moment, and leaves behind what nobody seems to use.
        seen.append((chat._course.running, time.monotonic() - chat.last_used))
        return opened(*given, **options)

    desk.open_turn = open_turn
    ask(desk, chat, "a")
    ((running, since),) = seen
    assert running is None
    assert 0 <= since < 3
