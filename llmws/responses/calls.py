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
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from ..errors import ConfigurationError
from ..wire.monitor import Monitor
from .items import OutputItem, ToolCall, output_items
from .outputs import Output, ToolError, raised, unfit
from .tools import AnyTool, Toolbox
from .views import string_or_none


__all__ = ["CallResults", "run_calls"]

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
        approve_mcp: Says whether a call on an MCP server may go on: True approves, nothing else does, and neither does
            an exception. Called on the caller's thread before any call runs, without time limit, because it may ask a
            person.

    Raises:
        ConfigurationError: A tool is none, or a limit is not above zero.
    """
    box = tools if isinstance(tools, Toolbox) else Toolbox.of(tools)
    if timeout is not None and not timeout > 0:
        raise ConfigurationError(
            f"timeout={timeout!r}: give seconds above 0, or None for no limit."
        )
    if max_workers is not None and max_workers < 1:
        raise ConfigurationError(f"max_workers={max_workers!r}: give 1 or more, or None for all.")
    jobs, unanswered = _sort(box, items, approve_mcp)
    _Running(jobs, timeout, max_workers or len(jobs)).run()
    errors = [job.outcome for job in jobs if isinstance(job.outcome, ToolError)]
    for error in errors:
        logger.info("tool %s gave no output: %s", error.call.name, error.kind)
    outputs = [output for job in jobs if (output := job.output()) is not None]
    return CallResults(outputs, errors, unanswered)


@attrs.define(eq=False)
class _Job:
    """
    One call and what came of it.

    Attributes:
        item: The call on the wire.
        tool: What answers it; None if there is nothing to run.
        outcome: The output, whether it is approved, or what went wrong; None as long as it runs.
        deadline: When its time is up, or None.
    """

    item: OutputItem
    call: ToolCall
    tool: AnyTool | None = None
    outcome: Output | bool | ToolError | None = None
    deadline: float | None = None

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


def _sort(
    box: Toolbox, items: Iterable[OutputItem | Mapping[str, Any]], approve: Approve | None
) -> tuple[list[_Job], list[OutputItem]]:
    """Tell the calls that are answered here from those that are left to the caller."""
    raws = [item.raw if isinstance(item, OutputItem) else dict(item) for item in items]
    found, all_calls = output_items(raws)
    calls = iter(all_calls)
    jobs: list[_Job] = []
    unanswered: list[OutputItem] = []
    seen: set[str] = set()
    for item in found:
        call = next(calls) if item.type.endswith("_call") else None
        if item.type == _APPROVAL:
            call = _approval_call(item)
        if call is None or call.builtin:
            continue
        if not _is_ours(box, item, call, approve):
            unanswered.append(item)
            continue
        job = _Job(item, call)
        if call.id in seen:
            problem = "Another call of this response has the same id, and was answered."
            job.outcome = ToolError(call, "duplicate", problem)
        elif item.type == _APPROVAL:
            job.outcome = _approval(item, call, approve)
        else:
            job.tool = box.tools.get((item.type, call.name))
            job.outcome = _problem(box, item, call)
        seen.add(call.id)
        jobs.append(job)
    return jobs, unanswered


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


def _approval(item: OutputItem, call: ToolCall, approve: Approve | None) -> bool | ToolError:
    try:
        return approve is not None and approve(item) is True
    except Exception as exc:  # noqa: BLE001  User code may raise anything, and has then not approved.
        return raised(call, exc)


class _Running:
    """
    Runs the calls that have no outcome yet, and waits for them.

    Args:
        jobs: All calls.
        timeout: Seconds for each.
        at_once: How many run at once.
    """

    def __init__(self, jobs: list[_Job], timeout: float | None, at_once: int) -> None:
        self._waiting = deque((job, job.tool) for job in jobs if job.tool and job.outcome is None)
        self._running: list[_Job] = []
        self._timeout = timeout
        self._at_once = at_once
        # Guards the outcomes: the first one counts.
        self._monitor = Monitor()

    def run(self) -> None:
        """Return when every call has an outcome."""
        while self._waiting or self._running:
            while self._waiting and len(self._running) < self._at_once:
                self._start(*self._waiting.popleft())
            deadlines = [job.deadline for job in self._running if job.deadline is not None]
            self._monitor.wait_for(self._any_ended, min(deadlines, default=None))
            self._sweep()

    def _start(self, job: _Job, tool: AnyTool) -> None:
        self._running.append(job)
        if self._timeout is not None:
            job.deadline = time.monotonic() + self._timeout
        work = contextvars.copy_context().run
        name = f"llmws-tool-{job.call.name}"
        try:
            threading.Thread(
                target=work, args=(self._work, job, tool), name=name, daemon=True
            ).start()
        except RuntimeError as exc:  # The system has no thread left, or the interpreter is ending.
            self._settle(job, raised(job.call, exc))

    def _work(self, job: _Job, tool: AnyTool) -> None:
        try:
            outcome = tool.call(job.call)
        except BaseException as exc:  # noqa: BLE001  Also SystemExit: it ends a thread, and would leave the caller waiting.
            outcome = raised(job.call, exc)
        self._settle(job, outcome)

    def _settle(self, job: _Job, outcome: Output | ToolError) -> None:
        with self._monitor.lock:
            if job.outcome is None:
                job.outcome = outcome
                self._monitor.notify()

    def _any_ended(self) -> bool:
        return any(job.outcome is not None for job in self._running)

    def _sweep(self) -> None:
        """Give up those whose time is up, and forget those that have ended."""
        now = time.monotonic()
        for job in self._running:
            if job.deadline is not None and job.deadline <= now:
                problem = f"The tool did not end within {self._timeout:g} seconds."
                self._settle(job, ToolError(job.call, "timeout", problem))
        self._running = [job for job in self._running if job.outcome is None]
