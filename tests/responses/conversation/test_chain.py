"""The state of a conversation, as far as its conversation does not show it."""

from llmws.responses.conversation.chain import Answer, Chain, TurnRecord
from llmws.responses.sending.continuation import Anchor, Sent
from llmws.responses.sending.settings import Settings
from llmws.responses.tools.replay import input_items
from llmws.responses.vocabulary.items import Usage
from tests.responses.chatting import said, user


SETTINGS = Settings.of({"model": "m"})


def grown(*homes):
    """Return a chain with a turn on each of these homes."""
    chain = Chain()
    for number, home in enumerate(homes):
        anchor = Anchor(f"resp_{number}", 0, stored=False, home=home)
        answer = Answer(
            input_items("a"), input_items([said("A", f"msg_{number}")]), anchor, SETTINGS
        )
        chain.take_in(answer, TurnRecord(anchor.response_id, "completed", usage=Usage(1, 2, 3)))
    return chain


def warmed(chain, home):
    request = chain.warm_up(SETTINGS)
    assert chain.add_anchor(Anchor(f"warm_{home}", request.history.count, False, home), request)


def ids(chain):
    return [anchor.response_id for anchor in chain.begin(SETTINGS, ()).anchors]


def test_the_newest_of_a_few_anchors_comes_first():
    chain = grown("here")
    for home in "vwxyz":
        warmed(chain, home)
    assert ids(chain) == ["warm_z", "warm_y", "warm_x", "warm_w"]


def test_a_turn_takes_the_place_of_a_warm_up_on_the_same_lane():
    chain = grown("here")
    warmed(chain, "there")
    warmed(chain, "elsewhere")
    anchor = Anchor("resp_1", 0, stored=False, home="there")
    chain.take_in(Answer((), (), anchor, SETTINGS), TurnRecord("resp_1", "completed"))
    assert ids(chain) == ["resp_1", "warm_elsewhere"]


def test_a_turn_that_began_without_a_parent_has_none_to_lose():
    chain = Chain()
    chain.give_up(TurnRecord(None, None, Sent("full", "first turn", 1, 1, 0)), was_sent=True)
    assert chain.begin(SETTINGS, ()).why_full == "first turn"


def test_a_copy_is_read_at_leisure():
    chain = grown("here")
    copy = chain.copy()
    chain.truncate(0)
    assert len(copy.items()) == 2
    assert copy.usage == Usage(1, 2, 3)
    assert len(copy.records) == 1
    assert copy.parent[0].response_id == "resp_0"
    assert chain.parent is None


def test_begin_changes_nothing():
    chain = grown("here")
    before = chain.transcript.window().count
    chain.begin(SETTINGS, input_items([user("x")]))
    assert chain.transcript.window().count == before
    assert ids(chain) == ["resp_0"]
