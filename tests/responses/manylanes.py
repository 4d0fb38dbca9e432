"""A router of many lanes driven by hand: turns that overlap, and conversations."""

from __future__ import annotations

import json

import attrs

from llmws.responses.routing.turn import Cancel, Submit
from llmws.responses.sending.continuation import Anchor, Continuation, Keeper
from llmws.responses.sending.settings import Settings
from llmws.responses.sending.transcript import Transcript
from llmws.responses.vocabulary.capabilities import Capabilities
from llmws.wire import jsoncodec
from llmws.wire.steps import Send
from tests.responses.lanework import FOREVER, Lanework, completed, created


class Work(Lanework):
    """A router whose requests are never empty, so that a name can be put into them."""

    def turn(self, payload=b'{"n":0}', timeouts=FOREVER, **fields):
        return super().turn(payload, timeouts, **fields)

    def submit(self, payload=b'{"n":0}', **fields):
        return super().submit(payload, **fields)


OPENAI = Capabilities(lanes=True, max_active=16, max_lanes=32)
SETTINGS = Settings.of({"store": False})


def lanes(known: bool | None = True, **options) -> Lanework:
    capabilities = attrs.evolve(OPENAI, lanes=known)
    return Work(capabilities=capabilities, **options).opened()


def on(lane, *raws):
    """Say of events whose they are."""
    return [raw if lane is None else {**raw, "stream_id": lane} for raw in raws]


def requests(wanted):
    """Return the lanes and the rest of what is to be sent."""
    sent = [json.loads(action.message) for action in wanted if isinstance(action, Send)]
    return [(request.pop("stream_id", None), request) for request in sent]


def begin(work, turn):
    """Submit a turn that may begin; return the lane that it goes out on, and what is sent."""
    ((lane, request),) = requests(work.step(Submit(turn)))
    work.written(turn)
    return lane, request


def running(work, count):
    """Begin so many turns; return them by their lanes."""
    turns = [work.turn() for _ in range(count)]
    return {begin(work, turn)[0]: turn for turn in turns}


def accept(work, turns):
    for lane in turns:
        work.say(*on(lane, created(f"r-{lane}")))


def cancel(turn, hard=False):
    return Cancel(turn, "The turn was cancelled.", hard)


class Chat:
    """A conversation: what is kept of it, and the turns that go on from there."""

    def __init__(self, work, items=(), anchors=(), keeper=None):
        self.work = work
        self.transcript = Transcript(items)
        self.anchors = anchors
        self.keeper = keeper or Keeper()

    def turn(self, text="hello", forked=False, **fields):
        continuation = Continuation(
            anchors=self.anchors,
            forked=forked,
            keeper=self.keeper,
            settings=SETTINGS,
            history=self.transcript.window(),
            given=(jsoncodec.encode({"text": text}),),
        )
        return self.work.turn(b"", continuation=continuation, **fields)

    def settle(self, turn, stored=False):
        """Note that a turn was answered."""
        assert turn.inbox.error is None
        self.transcript.extend(turn.continuation.given)
        self.anchors = (Anchor(turn.response_id, len(self.transcript), stored, turn.home),)

    def fork(self):
        return Chat(self.work, self.transcript.items, self.anchors)

    def answered(self, text="hello"):
        """Have one whole turn, and return its lane and request."""
        turn = self.turn(text)
        lane, request = begin(self.work, turn)
        self.work.say(*on(lane, created(f"r-{text}"), completed(f"r-{text}")))
        self.settle(turn)
        return lane, request


def texts(request):
    return [item["text"] for item in request["input"]]
