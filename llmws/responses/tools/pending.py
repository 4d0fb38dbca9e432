"""
Which calls of a conversation wait for their output, and which outputs were given.

What the server would refuse is refused here, before it is sent. Values only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import attrs

from ...errors import ConfigurationError
from ...wire import jsoncodec
from ..vocabulary.items import ToolCall
from ..vocabulary.views import string_or_none


__all__ = [
    "CallsWaitError",
    "Item",
    "Pending",
    "is_cut_off",
    "item_of",
    "waiting_calls",
    "waits_for",
]

# An approval is asked for by an item that is no call.
_APPROVAL = ("mcp_approval_request", "mcp_approval_response")
# A reference to an item may stand beside the item.
_REFERENCE = "item_reference"
_CUT_OFF = frozenset({"in_progress", "incomplete"})


class CallsWaitError(ConfigurationError):
    """
    A turn's input leaves calls without output; for callers that can do something about it.

    Attributes:
        calls: The type of the item that answers each call, by the call's name.
    """

    def __init__(self, message: str = "", calls: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.calls = dict(calls or {})


@attrs.frozen
class Item:
    """
    An item of a transcript, read and encoded.

    Attributes:
        raw: The JSON object, shared and not to be changed.
        data: Its bytes.
    """

    raw: Mapping[str, Any]
    data: bytes

    @property
    def type(self) -> str:
        """The item's type; one that names none is a message."""
        return string_or_none(self.raw.get("type")) or "message"

    @property
    def cut_off(self) -> bool:
        """Whether the model was stopped in the middle of writing this item."""
        return is_cut_off(self.raw)


def is_cut_off(raw: Mapping[str, Any]) -> bool:
    """Tell whether the model was stopped in the middle of writing an item."""
    return raw.get("status") in _CUT_OFF


def item_of(data: bytes) -> Item:
    """Read an item of a transcript."""
    return Item(jsoncodec.decode(data), data)


def waits_for(raw: Mapping[str, Any]) -> str | None:
    """Return the type of the item that the client has to answer this one with, or None if it has to do nothing."""
    call = ToolCall.from_item(raw)
    ours = raw.get("type") == _APPROVAL[0] or (call is not None and not call.builtin)
    return _answer_to(raw) if ours else None


def _answer_to(raw: Mapping[str, Any]) -> str | None:
    """Return the type of the item that answers this one, whoever has to give it; None if it asks for nothing."""
    kind = string_or_none(raw.get("type")) or ""
    if kind == _APPROVAL[0]:
        return _APPROVAL[1]
    if kind == "tool_search_call":
        return "tool_search_output"
    return f"{kind}_output" if kind.endswith("_call") else None


def _names(raw: Mapping[str, Any]) -> list[str]:
    """Return what an answer may call the item that it answers; a local shell's goes by the item's own id."""
    return [name for key in ("call_id", "id") if (name := string_or_none(raw.get(key)))]


def _answered(raw: Mapping[str, Any]) -> str | None:
    """Return the name of the call that an item answers, or None if it is no answer."""
    kind = string_or_none(raw.get("type")) or ""
    if kind == _APPROVAL[1]:
        return string_or_none(raw.get("approval_request_id")) or ""
    if not kind.endswith(("_call_output", "tool_search_output")):
        return None
    return (_names(raw) or [""])[0]


class Pending:
    """The calls and outputs of a transcript; one thread at a time may change it."""

    def __init__(self, items: Iterable[Item] = ()) -> None:
        # A call's names, by the first of them; in the order of the calls.
        self.owed: dict[str, str] = {}
        self._calls: dict[tuple[str, str], str] = {}
        self._outputs: dict[str, bytes] = {}
        self._seen: set[tuple[str, str]] = set()
        for item in items:
            self.note(item)

    def copy(self) -> Pending:
        """Return one that goes its own way."""
        twin = Pending()
        twin.owed, twin._calls = dict(self.owed), dict(self._calls)
        twin._outputs, twin._seen = dict(self._outputs), set(self._seen)
        return twin

    def note(self, item: Item) -> bool:
        """
        Take in an item of the transcript, whatever it is.

        Returns:
            False if it answers a call that is not there.
        """
        self._seen.update(_identities(item))
        answer, names = _answer_to(item.raw), _names(item.raw)
        if answer is not None and names and not item.cut_off:
            self._calls.update({(answer, name): names[0] for name in names})
            self._outputs.pop(names[0], None)  # Some servers give one id to a call of each turn.
            if waits_for(item.raw):
                self.owed[names[0]] = answer
        answered = _answered(item.raw)
        if answered is None:
            return True
        call = self._calls.get((item.type, answered))
        if call is not None:
            self.owed.pop(call, None)
            self._outputs[call] = item.data
        return call is not None

    def admit(self, items: Iterable[Item]) -> list[Item]:
        """
        Check a turn's input, which changes nothing.

        Returns:
            The items to send: an output that was given before, and is the same, is left out.

        Raises:
            ConfigurationError: A call would stay without output, an output answers no call or answers one otherwise
                than before, or an item is already part of the conversation.
        """
        # What the turn itself brings, beside what there is: looking at a copy would cost more with every turn.
        trial = _Trial(self)
        kept = [item for item in items if trial.take(item)]
        answered = trial.here._outputs
        missing = {call: kind for call, kind in self.owed.items() if call not in answered}
        missing.update(trial.here.owed)
        if missing:
            raise CallsWaitError(_missing(missing), missing)
        return kept


def waiting_calls(
    items: Iterable[Mapping[str, Any]], names: Collection[str]
) -> list[Mapping[str, Any]]:
    """
    Return the calls of a transcript that wait for their output, in order.

    Args:
        items: The transcript.
        names: Those that matter, as ``CallsWaitError`` names them.
    """
    pending = Pending()
    calls: dict[str, Mapping[str, Any]] = {}
    for raw in items:
        pending.note(Item(raw, b""))
        # Few wait at a time: those of one response.
        calls = {name: calls.get(name, raw) for name in pending.owed}
    return [raw for name, raw in calls.items() if name in names]


class _Trial:
    """A turn's input on top of a transcript."""

    def __init__(self, base: Pending) -> None:
        self.base = base
        self.here = Pending()

    def take(self, item: Item) -> bool:
        """Check an item; return whether it is to be sent."""
        answered = _answered(item.raw)
        if answered is None:
            self._refuse_repetition(item)
        else:
            call = self._call(item.type, answered)
            before = self.here._outputs.get(call) or self.base._outputs.get(call)
            if before is not None:
                return self._is_other(call, before, item)
            self.here._calls[item.type, answered] = call
        self.here.note(item)
        return True

    def _call(self, kind: str, answered: str) -> str:
        key = (kind, answered)
        call = self.here._calls.get(key) or self.base._calls.get(key)
        if call is None:
            waiting = ", ".join(self.base.owed) or "none"
            raise ConfigurationError(
                f"The input has a {kind} for {answered!r}, and the conversation has no such call "
                f"(calls that wait for their output: {waiting})."
            )
        return call

    def _is_other(self, call: str, before: bytes, item: Item) -> bool:
        if before == item.data:
            return False
        raise ConfigurationError(
            f"The call {call!r} has had its output, and this one is another: outputs are frozen once "
            "given. To answer it anew, go back with truncate_to() first."
        )

    def _refuse_repetition(self, item: Item) -> None:
        for identity in _identities(item):
            if identity in self.base._seen or identity in self.here._seen:
                raise ConfigurationError(
                    f"The input repeats the {item.type} {identity[1]!r}, which is already part of the conversation: "
                    "give only what is new."
                )


def _identities(item: Item) -> list[tuple[str, str]]:
    """Return what no two items of a transcript may share: the item's id and, of a call, the call's."""
    if item.type == _REFERENCE:
        return []
    named = [("", string_or_none(item.raw.get("id"))), (item.type, _call_id(item))]
    return [(kind, name) for kind, name in named if name]


def _call_id(item: Item) -> str | None:
    return string_or_none(item.raw.get("call_id")) if item.type.endswith("_call") else None


def _missing(missing: Mapping[str, str]) -> str:
    listed = ", ".join(f"{call} ({kind})" for call, kind in missing.items())
    return (
        f"Calls wait for their output: {listed}. Put an item of that type for each into the input, let run() run the "
        "tools that they call, or go back with truncate_to()."
    )
