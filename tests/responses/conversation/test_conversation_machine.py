"""Whatever happens to a conversation, the model sees its transcript and the turn's input: nothing less, none twice."""

import json

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from llmws.responses.conversation.conversation import Conversation
from tests.responses.chatting import Desk, call, left_by, output, said, user


stores = st.sampled_from([None, True, False])
temperatures = st.sampled_from([None, None, None, 0.5])
ends = st.sampled_from(["completed"] * 5 + ["incomplete", "failed", "lost", "cancelled"])
betweens = st.sampled_from(
    [None, None, "warm", "lose_the_connection", "forget_what_is_stored", "give_lanes_away"]
)
compactions = st.sampled_from([None, None, None, 0, 1])


class Talk:
    """A conversation, and what it ought to be."""

    def __init__(self, chat, items=()):
        self.chat = chat
        self.items = [*items]
        self.stream = None
        self.given = []

    @property
    def owed(self):
        calls = [item["call_id"] for item in self.items if item["type"] == "function_call"]
        answered = {
            item.get("call_id") for item in self.items if item["type"] == "function_call_output"
        }
        return [call_id for call_id in calls if call_id not in answered]


class Conversing(RuleBasedStateMachine):
    talks = Bundle("talks")

    @initialize(target=talks, zero_retention=st.booleans(), store=stores)
    def open(self, zero_retention, store):
        self.desk = Desk(zero_retention=zero_retention)
        self.count = 0
        self.all = []
        return self.begin_one(store)

    def word(self):
        self.count += 1
        return f"w{self.count}"

    def add(self, talk):
        self.all.append(talk)
        return talk

    @rule(target=talks, store=stores)
    def begin(self, store):
        return self.begin_one(store)

    def begin_one(self, store):
        return self.add(Talk(self.desk.conversation(**({} if store is None else {"store": store}))))

    @rule(
        talk=talks,
        turns=st.lists(
            st.tuples(betweens, temperatures, ends, st.integers(0, 2), compactions),
            min_size=1,
            max_size=4,
        ),
    )
    def say_and_hear(self, talk, turns):
        for between, temperature, how, calls, compacts in turns:
            if between is not None:
                getattr(self, between)(**({"talk": talk} if between == "warm" else {}))
            self.say(talk, temperature)
            self.end(talk, how, calls, compacts)
            self.look(talk)

    @rule(talk=talks, temperature=temperatures)
    def say(self, talk, temperature):
        self.settle(talk)
        if talk.stream is not None:
            return
        given = [*(output(call_id) for call_id in talk.owed), user(self.word())]
        changes = {} if temperature is None else {"temperature": temperature}
        talk.stream = talk.chat.stream(given, **changes)
        talk.given = given
        create = self.desk.creates[-1]
        assert create.context == [*talk.items, *given]
        assert create.body.get("temperature") == temperature
        assert create.body["model"] == "m"
        sent = talk.stream._turn.sent
        assert (sent.kind == "delta") == ("previous_response_id" in create.body)
        assert sent.items == len(create.body["input"])

    @rule(
        talk=talks,
        how=ends,
        calls=st.integers(0, 2),
        compacts=compactions,
    )
    def end(self, talk, how, calls, compacts):
        if talk.stream is None or talk.stream._turn.ended:
            return
        items = [said(self.word(), f"msg_{self.count}")]
        items += [call(f"call_{self.word()}") for _ in range(calls)]
        if compacts is not None:
            items.insert(
                compacts, {"type": "compaction", "id": self.word(), "encrypted_content": "e"}
            )
        self.desk.finish(talk.stream._turn, how, items)
        if how in ("completed", "incomplete"):
            talk.items = left_by([*talk.items, *talk.given, *items])

    @rule(talk=talks)
    def look(self, talk):
        self.settle(talk)
        if talk.stream is None:
            assert talk.chat.items == talk.items

    def settle(self, talk):
        if talk.stream is not None and talk.stream._turn.ended:
            talk.stream = None

    @rule(target=talks, talk=talks)
    def fork(self, talk):
        return self.add(Talk(talk.chat.fork(), talk.items))

    @rule(talk=talks, share=st.floats(0, 1))
    def truncate(self, talk, share):
        self.settle(talk)
        if talk.stream is None:
            count = int(share * len(talk.items))
            talk.chat.truncate_to(count)
            talk.items = talk.items[:count]

    @rule(talk=talks)
    def rewrite(self, talk):
        self.settle(talk)
        if talk.stream is None:
            talk.items = [user(self.word())]
            talk.chat.items = talk.items

    @rule(talk=talks)
    def warm(self, talk):
        self.desk.warm_up(talk.chat)

    @rule(talk=talks)
    def save_and_restore(self, talk):
        self.settle(talk)
        if talk.stream is None:
            data = json.loads(json.dumps(talk.chat.to_dict()))
            talk.chat = Conversation.from_dict(data, session=self.desk)

    @rule()
    def lose_the_connection(self):
        self.desk.drop_connection()

    @rule()
    def give_lanes_away(self):
        for place in self.desk.places:
            place.cached = None

    @rule()
    def forget_what_is_stored(self):
        self.desk.stored.clear()

    @invariant()
    def no_turn_is_without_its_talk(self):
        for talk in getattr(self, "all", ()):
            self.settle(talk)


Conversing.TestCase.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnyConversation = Conversing.TestCase
