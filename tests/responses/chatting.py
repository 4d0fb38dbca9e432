"""Conversations with a server of dictionaries: what it caches, stores and forgets is what the API documents."""

from __future__ import annotations

import itertools
import json

import attrs

from llmws.errors import PreviousResponseNotFoundError, StreamCancelledError, StreamInterruptedError
from llmws.responses.conversation.conversation import Conversation
from llmws.responses.routing.turn import Cancel, Turn, TurnState
from llmws.responses.sending.continuation import Anchor
from llmws.responses.sending.steering import Steer, Steering
from llmws.responses.stream.legs import Leg
from llmws.responses.stream.snapshot import Response
from llmws.responses.stream.stream import Stream
from llmws.responses.vocabulary.events import from_raw
from llmws.timeouts import Timeouts


def user(text):
    return {"type": "message", "role": "user", "content": text}


def said(text, id, **fields):
    part = {"type": "output_text", "text": text, "annotations": []}
    return {
        "type": "message", "id": id, "role": "assistant", "status": "completed", "content": [part], **fields
    }  # fmt: skip


def call(call_id, name="look_up", arguments="{}", **fields):
    return {
        "type": "function_call", "id": f"fc_{call_id}", "call_id": call_id, "name": name, "arguments": arguments,
        "status": "completed", **fields,
    }  # fmt: skip


def output(call_id, text="found"):
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def left_by(items):
    """Return what a context holds after the server compacted it."""
    places = [index for index, item in enumerate(items) if item.get("type") == "compaction"]
    return items[places[-1] :] if places else items


@attrs.define(eq=False)
class Place:
    """One lane of one connection, and the response that it caches."""

    connection: int
    cached: str | None = None
    keeper: object = None


@attrs.define(eq=False)
class Create:
    """A request as the server got it, and the context that a model would see."""

    body: dict
    context: list
    place: Place


class Desk:
    """
    A session's side of conversations, and its server: turns wait until ``finish`` is called.

    A turn goes to the lane that caches its parent, else by a stored parent, else in full; of a parent that is not found
    everything is sent once again.
    """

    callbacks = None
    max_frame_bytes = 16 * 2**20

    def __init__(self, *, zero_retention=False):
        self.zero_retention = zero_retention
        self.connection = 1
        self.places = []
        self.contexts = {}
        self.stored = {}
        self.creates = []
        self.posts = []
        self.registered = []
        # What a lane was steered with, by the response that its calls wait behind.
        self.steers = {}
        self.refused = 0
        self.running = {}
        self.numbers = itertools.count(1)
        # What turns are answered with at once, in order; empty leaves them running.
        self.script = []

    # The session's side.

    def conversation(self, **settings):
        return Conversation(self, {"model": "m"}, **settings)

    def limits(self, changes=None):
        return Timeouts().but(changes)

    def open_turn(self, continuation, *, timeouts, started_at):
        turn = Turn(
            payload=b"", timeouts=timeouts, started_at=started_at, continuation=continuation
        )
        self._send(turn, continuation)
        stream = Stream(turn, self, self)
        if self.script:
            self.finish(turn, **self.script.pop(0))
        return stream

    def legs(self, turn):
        return [] if turn.final is None else [Leg((), Response.from_wire(turn.final.response))]

    def register(self, conversation):
        self.registered.append(conversation)

    def check_open(self):
        pass

    def check_may_wait(self):
        pass

    def post(self, *given, started_at=None):
        if isinstance(given[0], Cancel):
            if not given[0].turn.ended:
                self.finish(given[0].turn, "cancelled")
            return None
        self.posts.append(given)
        return self.compacted(given[1])

    def compacted(self, body):
        return {
            "output": [{"type": "compaction", "id": "cmp_0", "encrypted_content": "all"}],
            "usage": {"input_tokens": 7, "output_tokens": 3},
        }

    def _send(self, turn, continuation):
        anchor, place = self._choose(continuation)
        reason = (
            "parent cached"
            if anchor and place is anchor.home
            else "parent stored"
            if anchor
            else "why"
        )
        message, turn.sent = continuation.message(anchor, continuation.why_full or reason)
        assert len(message) == continuation.size_bytes(anchor) == turn.sent.bytes
        create = self._receive(json.loads(message), place)
        if create is None:
            self.refused += 1
            message, turn.sent = continuation.message(None, "server did not find the parent")
            create = self._receive(json.loads(message), place)
        turn.home = place
        self.running[turn] = create

    def _choose(self, continuation):
        for anchor in continuation.anchors:
            if anchor.home in self.places and anchor.home.cached == anchor.response_id:
                return anchor, self._new_place(continuation) if continuation.forked else anchor.home
        kept = next((anchor for anchor in continuation.anchors if anchor.stored), None)
        mine = [place for place in self.places if place.keeper is continuation.keeper]
        return kept, mine[0] if mine else self._new_place(continuation)

    def _new_place(self, continuation):
        place = Place(self.connection, keeper=continuation.keeper)
        self.places.append(place)
        return place

    # The server's side.

    def _receive(self, body, place):
        context, parent = [], body.get("previous_response_id")
        if parent is not None:
            here = [each.cached for each in self.places if each.connection == place.connection]
            context = self.contexts[parent] if parent in here else self.stored.get(parent)
            if context is None:
                place.cached = None
                return None
            if place.cached == parent:
                context = [*context, *self.steers.pop(parent, ())]
        create = Create(body, [*context, *body["input"]], place)
        self.creates.append(create)
        place.cached = None
        return create

    def finish(self, turn, how="completed", output=None, text="ok", usage=(5, 2), **response):
        """End a turn: by a status, or by ``lost``, ``cancelled`` or ``refused``."""
        create = self.running.pop(turn)
        number = next(self.numbers)
        turn.response_id = id = f"resp_{number}"
        errors = {
            "lost": StreamInterruptedError("lost", close_code=1006),
            "cancelled": StreamCancelledError("cancelled"),
            "refused": PreviousResponseNotFoundError("gone", status=400),
        }
        if how in errors:
            turn.inbox.end(errors[how])
            return None
        output = [said(text, f"msg_{number}")] if output is None else output
        tokens = {"input_tokens": usage[0], "output_tokens": usage[1]}
        raw = {"id": id, "status": how, "output": output, "usage": tokens, **response}
        if self.zero_retention:
            raw["store"] = False
        if how in ("completed", "incomplete"):
            self._keep(id, create, output)
        turn.final = from_raw({"type": f"response.{how}", "response": raw})
        turn.state = TurnState.ENDED
        turn.inbox.extend([{"type": "response.created", "response": {"id": id}}], 1)
        turn.inbox.extend([{"type": "response.output_text.delta", "delta": text}], 1)
        turn.inbox.extend([turn.final], 1)
        turn.inbox.end()
        return id

    def _keep(self, id, create, output):
        context = left_by([*create.context, *output])
        create.place.cached = id
        self.contexts[id] = context
        if create.body.get("store") is not False and not self.zero_retention:
            self.stored[id] = context

    def drop_connection(self):
        """Lose the connection; the turns that run there end."""
        self.places = []
        self.connection += 1
        for turn in list(self.running):
            self.finish(turn, "lost")

    def warm_up(self, chat):
        """Have a further connection read a conversation; return whether there was anything to read."""
        request = chat.warm_request()
        if request is None:
            return False
        self.connection += 1
        place = self._new_place(request)
        message, _ = request.message(None, "warm-up")
        create = self._receive(json.loads(message), place)
        id = f"resp_{next(self.numbers)}"
        self._keep(id, create, [])
        stored = create.body.get("store") is not False and not self.zero_retention
        return chat.add_anchor(Anchor(id, request.history.count, stored, place), request)


def steer(desk, stream, text, call_id):
    """Steer a turn that then ends waiting for the output of a call."""
    handle = Steer(text)
    handle.state = "pending"
    stream._turn.steering = Steering([handle])
    parent = desk.finish(stream._turn, output=[call(call_id)])
    desk.steers[parent] = handle.items()
    return parent


def ask(desk, chat, given, changes=None, **answer):
    """Run a whole turn; return the request that the server got."""
    stream = chat.stream(given, **(changes or {}))
    desk.finish(stream._turn, **answer)
    return desk.creates[-1]
