"""
Running the calls of a response: all at once, each on a thread of its own, none for longer than it may.

A thread cannot be stopped from outside. One that takes too long, or that Ctrl-C leaves behind, ends when its tool does,
and what it returns then is dropped.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs

from ...errors import ConfigurationError
from ...timeouts import seconds
from ...wire import jsoncodec
from ...wire.monitor import Monitor
from ..vocabulary.items import OutputItem, ToolCall, output_items
from ..vocabulary.views import shorten, string_or_none
from .outputs import Output, ToolError, raised, too_long, unfit
from .tools import AnyTool, Toolbox


__all__ = [
    "Answering",
    "Begun",
    "CallResults",
    "check_approve",
    "check_most",
    "left_to_caller",
    "run_calls",
]

logger = logging.getLogger(__name__)

Approve = Callable[[OutputItem], bool]

_OUTPUTS = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
}
_APPROVAL = "mcp_approval_request"


@attrs.frozen(eq=False)
class CallResults:
    """
    What came of a response's calls.

    Attributes:
        outputs: The input items that answer the calls, in the order of the calls.
        errors: What went wrong, in the same order; the model is told in the outputs.
        unanswered: The calls that are left to the caller: of tools given as dicts, of a shell, a computer and the
            like, and approvals if nobody was named to give them.
    """

    outputs: list[dict[str, Any]]
    errors: list[ToolError]
    unanswered: list[OutputItem]


def run_calls(
    tools: Iterable[Any] | Toolbox,
    items: Iterable[OutputItem | Mapping[str, Any]],
    *,
    timeout: float | None = None,
    max_workers: int | None = None,
    approve_mcp: Approve | None = None,
) -> CallResults:
    """
    Answer the calls among a response's output items.

    Each call runs on a daemon thread with the caller's context variables. A call that is itself cut off is not run.
    Each id is answered once. Ctrl-C ends the waiting at once.

    Args:
        tools: ``Tool``, ``CustomTool`` and dicts, as given to the request.
        items: The response's ``output``; what is no call is passed over.
        timeout: Seconds that each call may take from its start, or None for no limit.
        max_workers: How many calls run at once, or None for all. One that took too long no longer counts.
        approve_mcp: Says by True or False whether a call on an MCP server may go on. Anything else, and an exception,
            is no approval either, and is told in ``errors``. Called on the caller's thread before any call runs,
            without time limit, because it may ask a person.

    Raises:
        ConfigurationError: A tool or an item is none, a limit is no number above zero, or ``approve_mcp`` cannot be
            called.
    """
    box = tools if isinstance(tools, Toolbox) else Toolbox.of(tools)
    timeout = seconds("timeout", timeout)
    check_most("max_workers", max_workers)
    check_approve(approve_mcp)
    given = _given_items(items)
    answering = Answering(box, given, timeout=timeout, at_once=max_workers, approve_mcp=approve_mcp)
    return answering.results()


def _given_items(items: Any) -> list[OutputItem | Mapping[str, Any]]:
    hint = "give a response's output, as in run_calls(tools, response.output)."
    if isinstance(items, (str, bytes, Mapping, OutputItem)) or not isinstance(items, Iterable):
        raise ConfigurationError(f"items is of type {type(items).__name__}: {hint}")
    given = list(items)
    for index, item in enumerate(given):
        if not isinstance(item, (OutputItem, Mapping)):
            raise ConfigurationError(f"items[{index}] is of type {type(item).__name__}: {hint}")
    return given


def check_most(name: str, value: Any) -> None:
    """Refuse what says nothing of how many there may be: no whole number above zero, nor None."""
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int) or not value > 0
    ):
        raise ConfigurationError(
            f"{name} is {shorten(value)}: give a whole number from 1 up, or None for no limit."
        )


def check_approve(approve_mcp: Any) -> None:
    """Refuse what cannot be asked."""
    if approve_mcp is not None and not callable(approve_mcp):
        raise ConfigurationError(
            f"approve_mcp is {shorten(approve_mcp)}: give a function that takes the request and returns True or False."
        )


def left_to_caller(
    box: Toolbox, items: Iterable[Mapping[str, Any]], approve_mcp: Approve | None
) -> list[OutputItem]:
    """Return the calls that no tool of these is there for, nor anybody to approve them; runs and asks nothing."""
    return [
        item
        for item, call in _calls_of(items)
        if not _is_ours(box, item, call, approve_mcp)
        or (item.type != _APPROVAL and (item.type, call.name) not in box.tools)
    ]


@attrs.define(eq=False)
class _Job:
    """
    One call and what came of it.

    Attributes:
        item: The call on the wire.
        tool: What answers it; None if there is nothing to run.
        outcome: The output, whether it is approved, or what went wrong; None as long as it runs.
        claimed: Whether a thread has begun with it.
        deadline: When its time is up, or None.
    """

    item: OutputItem
    call: ToolCall
    tool: AnyTool | None = None
    outcome: Output | bool | ToolError | None = None
    claimed: bool = False
    deadline: float | None = None

    @property
    def open(self) -> bool:
        """Whether there is something to run that has come to nothing yet."""
        return self.tool is not None and self.outcome is None

    def output(self) -> dict[str, Any] | None:
        """Return the input item that answers the call, or None if another call of this id has it."""
        error = self.outcome if isinstance(self.outcome, ToolError) else None
        if error is not None and error.kind == "duplicate":
            return None
        if self.item.type == _APPROVAL:
            approval = {"approval_request_id": self.call.id, "approve": self.outcome is True}
            reason = {"reason": error.message} if error else {}
            return {"type": "mcp_approval_response", **approval, **reason}
        output = error.output if error else self.outcome
        answer = {"type": _OUTPUTS[self.item.type], "call_id": self.call.id, "output": output}
        # Which program on the server made the call, so that the output finds its way back.
        caller = self.item.get("caller")
        return answer if caller is None else {**answer, "caller": caller}


class Begun:
    """
    Calls that tools have begun with, and whose outputs the server has not taken yet: none is begun a second time.

    Shared by the runs of a conversation; any number of threads may use it.
    """

    def __init__(self) -> None:
        # Guards what becomes of the calls: the first outcome counts.
        self.monitor = Monitor()
        self._jobs: dict[tuple[str, ...], _Job] = {}

    def job(self, item: OutputItem, call: ToolCall, tool: AnyTool) -> _Job:
        """Return what was begun with a call by this very tool, or something to begin with."""
        key = (item.type, item.id, call.id, call.name, call.arguments_text)
        job = self._jobs.get(key)
        if job is None or job.tool is not tool:
            job = self._jobs[key] = _Job(item, call, tool)
        return job

    def forget(self) -> None:
        """The server has the outputs, or the calls are no more."""
        self._jobs.clear()


class Answering:
    """
    The calls of a response while they are answered; one thread at a time may use it.

    Args:
        box: The tools.
        items: The response's output.
        timeout: As for ``run_calls``; so are the next two.
        at_once: How many calls run at once, or None for all.
        approve_mcp: Who is asked.
        begun: What was begun with before; None for nothing.
    """

    def __init__(
        self,
        box: Toolbox,
        items: Iterable[OutputItem | Mapping[str, Any]],
        *,
        timeout: float | None = None,
        at_once: int | None = None,
        approve_mcp: Approve | None = None,
        begun: Begun | None = None,
    ) -> None:
        self._timeout = timeout
        self._approve = approve_mcp
        self._begun = Begun() if begun is None else begun
        self._jobs, self._unanswered = self._sort(box, items)
        self._at_once = at_once or len(self._jobs)
        self._results: CallResults | None = None

    @property
    def unanswered(self) -> list[OutputItem]:
        """The calls that are left to the caller."""
        return self._unanswered

    def results(self) -> CallResults:
        """
        Answer the calls and wait until each has come to something.

        If Ctrl-C ends the waiting this may be called again: it goes on, and begins with no call twice.
        """
        if self._results is None:
            for job in self._jobs:
                if job.item.type == _APPROVAL and job.outcome is None:
                    job.outcome = _approval(job, self._approve)
            self._run()
            self._results = self._collected()
            for error in self._results.errors:
                logger.info("tool %s gave no output: %s", error.call.name, error.kind)
        return self._results

    def _collected(self) -> CallResults:
        errors = [job.outcome for job in self._jobs if isinstance(job.outcome, ToolError)]
        outputs = [output for job in self._jobs if (output := job.output()) is not None]
        return CallResults(outputs, errors, self._unanswered)

    def shorten(self, excess_bytes: int) -> bool:
        """
        Make an error of the longest outputs, so that the results take so many bytes less.

        Returns:
            False if that cannot be done; nothing is changed then.
        """
        sized = [
            (len(jsoncodec.encode(job.outcome)), index)
            for index, job in enumerate(self._jobs)
            if isinstance(job.outcome, (str, list))
        ]
        chosen = []
        for size, index in sorted(sized, reverse=True):
            if excess_bytes <= 0:
                break
            error = too_long(self._jobs[index].call, size)
            excess_bytes -= size - len(jsoncodec.encode(error.output))
            chosen.append((self._jobs[index], error))
        if excess_bytes > 0:
            return False
        # Another run of the conversation may be at the same calls.
        with self._begun.monitor.lock:
            for job, error in chosen:
                job.outcome = error
        self._results = self._collected()
        return True

    def _sort(
        self, box: Toolbox, items: Iterable[OutputItem | Mapping[str, Any]]
    ) -> tuple[list[_Job], list[OutputItem]]:
        """Tell the calls that are answered here from those that are left to the caller."""
        jobs: list[_Job] = []
        unanswered: list[OutputItem] = []
        seen: set[str] = set()
        for item, call in _calls_of(items):
            if not _is_ours(box, item, call, self._approve):
                unanswered.append(item)
                continue
            if call.id in seen:
                problem = "Another call of this response has the same id, and was answered."
                jobs.append(_Job(item, call, outcome=ToolError(call, "duplicate", problem)))
                continue
            seen.add(call.id)
            tool = box.tools.get((item.type, call.name))
            problem_of = None if item.type == _APPROVAL else _problem(box, item, call)
            if tool is None or problem_of is not None:
                jobs.append(_Job(item, call, outcome=problem_of))
            else:
                jobs.append(self._begun.job(item, call, tool))
        return jobs, unanswered

    def _run(self) -> None:
        """Return when every call has an outcome."""
        monitor = self._begun.monitor
        # By this very loop: what Ctrl-C struck as it was being started is started again.
        started: list[_Job] = []
        while waited_for := [job for job in self._jobs if job.open]:
            running = [job for job in waited_for if job.claimed or job in started]
            for job in waited_for:
                if len(running) < self._at_once and job not in running:
                    self._start(job)
                    started.append(job)
                    running.append(job)
            for job in running:
                if job.deadline is None and self._timeout is not None:
                    job.deadline = time.monotonic() + self._timeout
            deadlines = [job.deadline for job in running if job.deadline is not None]
            monitor.wait_for(_any_ended(running), min(deadlines, default=None))
            self._give_up_late(running)

    def _start(self, job: _Job) -> None:
        work = contextvars.copy_context().run
        name = f"llmws-tool-{job.call.name}"
        try:
            threading.Thread(target=work, args=(self._work, job), name=name, daemon=True).start()
        except RuntimeError as exc:  # The system has no thread left, or the interpreter is ending.
            self._settle(job, raised(job.call, exc))

    def _work(self, job: _Job) -> None:
        with self._begun.monitor.lock:
            if job.claimed or not job.open:
                return
            job.claimed = True
        assert job.tool is not None
        try:
            outcome = job.tool.call(job.call)
        except BaseException as exc:  # noqa: BLE001  Also SystemExit: it ends a thread, and would leave the caller waiting.
            outcome = raised(job.call, exc)
        self._settle(job, outcome)

    def _settle(self, job: _Job, outcome: Output | ToolError) -> None:
        with self._begun.monitor.lock:
            if job.outcome is None:
                job.outcome = outcome
                self._begun.monitor.notify()

    def _give_up_late(self, running: list[_Job]) -> None:
        """Give up those whose time is up."""
        now = time.monotonic()
        for job in running:
            if job.open and job.deadline is not None and job.deadline <= now:
                limit = "in time" if self._timeout is None else f"within {self._timeout:g} seconds"
                self._settle(job, ToolError(job.call, "timeout", f"The tool did not end {limit}."))


def _any_ended(jobs: list[_Job]) -> Callable[[], bool]:
    return lambda: any(not job.open for job in jobs)


def _calls_of(
    items: Iterable[OutputItem | Mapping[str, Any]],
) -> Iterator[tuple[OutputItem, ToolCall]]:
    """Yield the calls that the client has to answer, approvals among them."""
    raws = [item.raw if isinstance(item, OutputItem) else dict(item) for item in items]
    found, all_calls = output_items(raws)
    calls = iter(all_calls)
    for item in found:
        call = next(calls) if item.type.endswith("_call") else None
        if item.type == _APPROVAL:
            call = _approval_call(item)
        if call is not None and not call.builtin:
            yield item, call


def _approval_call(item: OutputItem) -> ToolCall:
    text = string_or_none(item.get("arguments")) or ""
    return ToolCall(item.id, item.id, string_or_none(item.get("name")) or "", None, text)


def _is_ours(box: Toolbox, item: OutputItem, call: ToolCall, approve: Approve | None) -> bool:
    # Without an id there is nothing that an answer could refer to.
    if not call.id:
        return False
    if item.type == _APPROVAL:
        return approve is not None
    if item.type not in _OUTPUTS or string_or_none(item.get("namespace")) in box.declared:
        return False
    return (item.type, call.name) in box.tools or call.name not in box.declared


def _problem(box: Toolbox, item: OutputItem, call: ToolCall) -> ToolError | None:
    """Say why a call is not run, or return None."""
    if (item.type, call.name) not in box.tools:
        names = ", ".join(sorted(name for _, name in box.tools)) or "none"
        return ToolError(call, "unknown", f"There is no tool {call.name!r}; the tools are: {names}")
    if item.status == "incomplete":
        return unfit(call, ValueError("the response ended before the call did"))
    return None


def _approval(job: _Job, approve: Approve | None) -> bool | ToolError:
    try:
        answer = approve is not None and approve(job.item)
    except Exception as exc:  # noqa: BLE001  User code may raise anything, and has then not approved.
        return raised(job.call, exc)
    if not isinstance(answer, bool):
        # "no" is true, and a forgotten return is no answer: neither is taken for one in silence.
        kind = type(answer).__name__
        return raised(job.call, TypeError(f"approve_mcp returned {kind}, not True or False"))
    return answer
