"""Running the calls of a response."""

import contextvars
import json
import logging
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmws.errors import ConfigurationError
from llmws.responses.stream.snapshot import Response
from llmws.responses.tools import calls as running
from llmws.responses.tools.calls import Answering, Begun, left_to_caller, run_calls
from llmws.responses.tools.tools import CustomTool, Tool, Toolbox
from llmws.wire.monitor import Monitor


WAIT = 10.0
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


def function(fn, name="f"):
    return Tool(name, SCHEMA, fn)


def call(call_id="call_1", name="f", arguments="{}", **fields):
    return {
        "type": "function_call",
        "id": f"fc_{call_id}",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        **fields,
    }


def custom(call_id="call_1", name="run", text="x", **fields):
    return {"type": "custom_tool_call", "call_id": call_id, "name": name, "input": text, **fields}


def approval(item_id="mcpr_1", **fields):
    return {
        "type": "mcp_approval_request",
        "id": item_id,
        "name": "rm",
        "arguments": "{}",
        **fields,
    }


def output(call_id, value):
    return {"type": "function_call_output", "call_id": call_id, "output": value}


def told(results):
    return [json.loads(item["output"])["error"] for item in results.outputs]


def test_calls_of_every_kind_are_answered_in_their_order():
    tools = [function(lambda n=0: n + 1), CustomTool("run", str.upper), {"type": "web_search"}]
    items = [
        {"type": "reasoning", "id": "rs"},
        call("a", arguments='{"n": 1}'),
        {"type": "message", "content": []},
        custom("b", text="hi"),
        {"type": "web_search_call", "id": "ws"},
        call("c", caller={"type": "program", "caller_id": "p"}),
    ]
    results = run_calls(tools, items)
    assert results.outputs == [
        output("a", "2"),
        {"type": "custom_tool_call_output", "call_id": "b", "output": "HI"},
        {**output("c", "1"), "caller": {"type": "program", "caller_id": "p"}},
    ]
    assert (results.errors, results.unanswered) == ([], [])


def test_the_output_of_a_response_can_be_given_as_it_is():
    response = Response.from_wire({"status": "completed", "output": [call("a")]})
    assert run_calls(Toolbox.of([function(lambda: "x")]), response.output).outputs == [
        output("a", "x")
    ]


def test_nothing_to_call_is_nothing_to_say():
    results = run_calls([], [])
    assert (results.outputs, results.errors, results.unanswered) == ([], [], [])


def test_the_calls_run_at_once_and_on_their_own_threads():
    together = threading.Barrier(4, timeout=WAIT)

    def fn(n):
        together.wait()
        thread = threading.current_thread()
        return f"{n} {thread.name} {thread.daemon}"

    results = run_calls([function(fn)], [call(str(n), arguments=f'{{"n": {n}}}') for n in range(4)])
    assert results.outputs == [output(str(n), f"{n} llmws-tool-f True") for n in range(4)]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_no_more_calls_than_allowed_run_at_once(at_once):
    lock, now, most = threading.Lock(), [0], [0]
    # As many as may be at once meet in there, so that the most is reached.
    together = threading.Barrier(at_once, timeout=WAIT)

    def fn():
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        together.wait()
        with lock:
            now[0] -= 1

    results = run_calls([function(fn)], [call(str(n)) for n in range(6)], max_workers=at_once)
    assert (len(results.outputs), results.errors, most[0]) == (6, [], at_once)


def test_a_tool_sees_the_context_variables_of_the_caller():
    user = contextvars.ContextVar("user", default="nobody")
    user.set("Ada")
    items = [call("a"), call("b")]

    def fn():
        before = user.get()
        user.set("changed")
        return before

    assert run_calls([function(fn)], items).outputs == [output("a", "Ada"), output("b", "Ada")]
    assert user.get() == "Ada"


# What goes wrong.


def test_every_error_is_told_to_the_model_and_kept():
    def fails(n=0):
        raise LookupError("not there")

    items = [
        call("a", arguments='{"n": '),
        call("b", arguments='{"x": 1}'),
        call("c", name="fails"),
        call("d", name="nobody"),
        call("e", name="odd"),
        call("f"),
        custom("g"),
    ]
    tools = [function(lambda n=0: "fine"), function(fails, "fails"), function(object, "odd")]
    results = run_calls(tools, items)
    assert [item["call_id"] for item in results.outputs] == list("abcdefg")
    kinds = ["arguments", "arguments", "raised", "unknown", "output", "unknown"]
    assert [(error.kind, error.call.id) for error in results.errors] == list(
        zip(kinds, "abcdeg", strict=True)
    )
    assert results.outputs[5] == output("f", "fine")
    for error in results.errors:
        assert error.output in [item["output"] for item in results.outputs]
    assert results.errors[2].exception.args == ("not there",)
    assert results.errors[3].message == "There is no tool 'nobody'; the tools are: f, fails, odd"


def test_a_call_that_was_cut_off_is_not_run():
    ran = []
    results = run_calls([function(lambda: ran.append(1))], [call(status="incomplete")])
    assert (told(results), ran) == (["arguments"], [])


@pytest.mark.parametrize("exc", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_tool_that_ends_its_thread_has_raised(exc):
    def fn():
        raise exc

    results = run_calls([function(fn)], [call()])
    assert (told(results), results.errors[0].exception) == (["raised"], exc)


def test_a_slow_tool_is_told_of_and_its_late_result_is_dropped():
    go_on, ended = threading.Event(), threading.Event()

    def slow():
        try:
            go_on.wait(WAIT)
            return "late"
        finally:
            ended.set()

    tools = [function(slow, "slow"), function(lambda: "quick")]
    results = run_calls(tools, [call("a", "slow"), call("b")], timeout=0.5)
    assert results.outputs[1] == output("b", "quick")
    (error,) = results.errors
    assert (error.kind, error.message) == ("timeout", "The tool did not end within 0.5 seconds.")
    before = list(results.outputs)
    go_on.set()
    assert ended.wait(WAIT)
    assert (results.outputs, results.errors) == (before, [error])


def test_each_call_has_its_own_time_and_a_slow_one_does_not_hold_up_the_next():
    go_on = threading.Event()
    tools = [function(lambda: go_on.wait(WAIT), "slow"), function(lambda: "quick")]
    items = [call("a", "slow"), call("b", "slow"), call("c")]
    start = time.monotonic()
    results = run_calls(tools, items, timeout=0.5, max_workers=1)
    assert time.monotonic() - start >= 1.0
    assert [error.kind for error in results.errors] == ["timeout", "timeout"]
    assert results.outputs[2] == output("c", "quick")
    go_on.set()


def test_a_result_that_is_late_changes_nothing_while_others_still_run():
    go_on = threading.Event()

    def slow():
        go_on.wait(WAIT)
        return "late"

    def next_one():
        (left,) = [one for one in threading.enumerate() if one.name == "llmws-tool-slow"]
        go_on.set()
        left.join(WAIT)
        return str(left.is_alive())

    tools = [function(slow, "slow"), function(next_one)]
    results = run_calls(tools, [call("a", "slow"), call("b")], timeout=0.5, max_workers=1)
    assert [error.kind for error in results.errors] == ["timeout"]
    assert results.outputs[0]["output"] == results.errors[0].output
    assert results.outputs[1] == output("b", "False")


def test_a_caller_on_any_thread_is_woken_by_the_last_result(monkeypatch):
    # The main thread looks up by itself now and then; others wait until they are woken.
    monitor, results = Monitor(), []
    monkeypatch.setattr(running, "Monitor", lambda: monitor)

    def fn():
        deadline = time.monotonic() + WAIT
        while not monitor._waiting:
            assert time.monotonic() < deadline

    def run():
        results.append(run_calls([function(fn)], [call()]))

    caller = threading.Thread(target=run, daemon=True)
    caller.start()
    caller.join(WAIT)
    assert [result.outputs for result in results] == [[output("call_1", "null")]]


def test_without_a_thread_the_call_has_failed(monkeypatch):
    class NoThread(threading.Thread):
        def start(self):
            if self.name == "llmws-tool-g":
                raise RuntimeError("can't start new thread")
            super().start()

    monkeypatch.setattr(running.threading, "Thread", NoThread)
    tools = [function(lambda: "f"), function(lambda: "g", "g")]
    results = run_calls(tools, [call("a", "g"), call("b")])
    assert results.outputs[1] == output("b", "f")
    assert results.errors[0].message == "RuntimeError: can't start new thread"


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals sent to a thread")
def test_an_interrupt_ends_the_waiting_at_once():
    go_on, second = threading.Event(), []

    def slow():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        go_on.wait(WAIT)

    tools = [function(slow), function(lambda: second.append(1), "g")]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            run_calls(tools, [call("a"), call("b", "g")], max_workers=1)
        assert time.monotonic() - start < WAIT / 2
    finally:
        signal.signal(signal.SIGINT, before)
        go_on.set()
    assert second == []


# Going on.


def answering(begun, *tools, **options):
    return Answering(Toolbox.of(tools), [call("a"), call("b", "g")], begun=begun, **options)


def test_an_interrupted_wait_goes_on_and_begins_nothing_twice(monkeypatch):
    ran, go_on = [], threading.Event()
    begun = Begun()
    tools = [
        function(lambda: ran.append("f") or "F"),
        function(lambda: ran.append("g") or go_on.wait(WAIT), "g"),
    ]
    waiting = answering(begun, *tools)
    wait_for, strikes = begun.monitor.wait_for, [1]

    def struck(arrived, deadline):
        if len(ran) == 2 and strikes and strikes.pop():
            raise KeyboardInterrupt
        return wait_for(lambda: arrived() or len(ran) == 2, deadline)

    monkeypatch.setattr(Monitor, "wait_for", lambda self, *given: struck(*given))
    with pytest.raises(KeyboardInterrupt):
        waiting.results()
    monkeypatch.undo()
    go_on.set()
    assert waiting.results().outputs == [output("a", "F"), output("b", "true")]
    assert sorted(ran) == ["f", "g"]
    assert waiting.results() is waiting.results()


def test_what_ctrl_c_struck_while_it_was_started_is_started_once(monkeypatch):
    ran, strikes = [], [1]

    class Struck(threading.Thread):
        def start(self):
            super().start()
            if strikes:
                strikes.pop()
                raise KeyboardInterrupt

    monkeypatch.setattr(running.threading, "Thread", Struck)
    waiting = answering(Begun(), function(lambda: ran.append("f")), function(lambda: ran.append("g"), "g"))  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        waiting.results()
    waiting.results()
    assert sorted(ran) == ["f", "g"]


def test_a_thread_that_comes_second_leaves_the_call_alone(monkeypatch):
    ran, held = [], []

    class Late(threading.Thread):
        """Its first one starts, but does not get to run before the second one has."""

        def start(self):
            held.append(self)
            if len(held) == 1:
                raise KeyboardInterrupt
            super().start()

    monkeypatch.setattr(running.threading, "Thread", Late)
    waiting = Answering(Toolbox.of([function(lambda: ran.append("f"))]), [call("a")])
    with pytest.raises(KeyboardInterrupt):
        waiting.results()
    waiting.results()
    super(Late, held[0]).start()
    held[0].join(WAIT)
    assert ran == ["f"]


def test_what_was_begun_with_before_is_used_by_the_same_tool_alone():
    ran = []
    begun, tools = Begun(), [function(lambda: ran.append("f")), function(lambda: ran.append("g"), "g")]  # fmt: skip
    first = answering(begun, *tools).results()
    assert answering(begun, *tools).results().outputs == first.outputs
    assert sorted(ran) == ["f", "g"]
    answering(begun, tools[0], function(lambda: ran.append("other"), "g")).results()
    assert sorted(ran) == ["f", "g", "other"]
    begun.forget()
    answering(begun, *tools).results()
    assert sorted(ran) == ["f", "f", "g", "g", "other"]


def test_a_limit_counts_for_what_was_begun_with_without_one():
    go_on = threading.Event()
    begun, tools = Begun(), [function(lambda: "F"), function(lambda: go_on.wait(WAIT), "g")]
    threading.Thread(target=answering(begun, *tools).results, daemon=True).start()
    results = answering(begun, *tools, timeout=0.2).results()
    go_on.set()
    assert [error.kind for error in results.errors] == ["timeout"]


def test_an_approval_that_was_given_is_not_asked_for_again_after_an_interrupt():
    asked = []

    def approve(item):
        asked.append(item.id)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return True

    waiting = Answering(Toolbox.of([]), [approval("x"), approval("y")], approve_mcp=approve)
    with pytest.raises(KeyboardInterrupt):
        waiting.results()
    assert [item["approve"] for item in waiting.results().outputs] == [True, True]
    assert asked == ["x", "y", "y"]


# What is too long.


def test_the_longest_outputs_make_way_and_the_model_is_told():
    tools = [function(lambda n: "x" * n), CustomTool("run", str)]
    items = [call(str(n), arguments=f'{{"n": {n}}}') for n in (1000, 3000, 2000)]
    waiting = Answering(Toolbox.of(tools), [*items, custom("c", text="short")])
    before = sum(len(item["output"]) for item in waiting.results().outputs)
    assert waiting.shorten(4000)
    results = waiting.results()
    assert before - sum(len(item["output"]) for item in results.outputs) >= 4000
    assert [error.kind for error in results.errors] == ["output", "output"]
    assert [error.call.id for error in results.errors] == ["3000", "2000"]
    assert results.outputs[0] == output("1000", "x" * 1000)
    assert "3,002 bytes, which is too long" in json.loads(results.outputs[1]["output"])["message"]


def test_what_cannot_be_made_short_enough_stays_as_it_is():
    waiting = Answering(Toolbox.of([function(lambda: "x" * 1000)]), [call("a")])
    before = waiting.results()
    assert not waiting.shorten(1000)
    assert waiting.results() is before
    assert before.outputs == [output("a", "x" * 1000)]


# Ids.


def test_an_id_is_answered_once():
    ran = []
    items = [
        call("a", arguments='{"n": 1}'),
        call("a", arguments='{"n": 2}'),
        custom("a"),
        call("b", arguments='{"n": 3}'),
    ]
    results = run_calls([function(lambda n: ran.append(n) or n), CustomTool("run", str)], items)
    assert results.outputs == [output("a", "1"), output("b", "3")]
    assert sorted(ran) == [1, 3]
    assert [(error.kind, error.call.name) for error in results.errors] == [
        ("duplicate", "f"),
        ("duplicate", "run"),
    ]


@given(
    st.lists(
        st.builds(
            call, st.sampled_from("abc"), st.sampled_from(["f", "boom", "nobody", "declared"])
        )
        | st.builds(custom, st.sampled_from("abc"), st.sampled_from(["run", "nobody"]))
        | st.builds(approval, st.sampled_from("xy"))
        | st.sampled_from([{"type": "message"}, {"type": "computer_call", "call_id": "cc"}]),
        max_size=5,
    )
)
def test_every_call_is_answered_once_or_left_to_the_caller(items):
    tools = [
        function(lambda: "x"),
        function(lambda: 1 / 0, "boom"),
        CustomTool("run", str),
        {"type": "function", "name": "declared"},
    ]
    results = run_calls(tools, items, approve_mcp=lambda item: item.id == "x")
    answered = [item.get("call_id") or item["approval_request_id"] for item in results.outputs]
    assert len(answered) == len(set(answered))
    left = [item.raw for item in results.unanswered]
    ours = [item for item in items if item["type"] != "message" and item not in left]
    assert dict.fromkeys(answered) == dict.fromkeys(
        item.get("call_id") or item["id"] for item in ours
    )
    assert all(item["type"] == "computer_call" or item["name"] == "declared" for item in left)
    duplicates = [error for error in results.errors if error.kind == "duplicate"]
    assert len(answered) + len(duplicates) == len(ours)


# What is left to the caller.


def test_what_no_function_answers_is_left_to_the_caller():
    left = [
        call("a", "declared"),
        {"type": "computer_call", "call_id": "b"},
        {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}},
        approval(),
        call("e", "g", namespace="ns"),
        {"type": "function_call", "name": "f", "arguments": "{}"},
    ]
    answered = [
        {"type": "shell_call", "call_id": "d", "action": {}},
        {"type": "shell_call_output", "call_id": "d", "output": []},
    ]
    tools = [
        function(lambda: "x"),
        function(lambda: "x", "g"),
        {"type": "function", "name": "declared"},
        {"type": "namespace", "name": "ns", "tools": []},
    ]
    results = run_calls(tools, [*left, *answered])
    assert (results.outputs, results.errors) == ([], [])
    assert [item.raw for item in results.unanswered] == left


def test_what_has_neither_a_tool_nor_an_approver_is_left_and_nobody_is_asked():
    box = Toolbox.of([function(lambda: 1 / 0)])
    items = [call("a"), call("b", "nobody"), approval(), {"type": "web_search_call", "id": "ws"}]
    asked = []
    assert [item.raw for item in left_to_caller(box, items, None)] == items[1:3]
    assert [item.raw for item in left_to_caller(box, items, asked.append)] == items[1:2]
    assert asked == []


# Approvals.


@pytest.mark.parametrize(
    ("said", "approve"),
    [(True, True), (False, False), (None, False), ("no", False), (1, False)],
)
def test_only_true_approves(said, approve):
    asked = []
    results = run_calls(
        [], [approval()], approve_mcp=lambda item: asked.append((item["name"], item.id)) or said
    )
    assert asked == [("rm", "mcpr_1")]
    (answer,) = results.outputs
    assert (answer["approval_request_id"], answer["approve"]) == ("mcpr_1", approve)
    # What is neither yes nor no is not taken for no in silence.
    kind = type(said).__name__
    words = f"TypeError: approve_mcp returned {kind}, not True or False"
    told = [] if isinstance(said, bool) else [words]
    assert [error.message for error in results.errors] == told
    assert answer.get("reason") == (told[0] if told else None)


@pytest.mark.parametrize("approve", [True, "yes", 3])
def test_who_cannot_be_asked_is_refused(approve):
    with pytest.raises(ConfigurationError, match="approve_mcp"):
        run_calls([], [], approve_mcp=approve)


def test_approvals_are_asked_for_on_the_callers_thread_and_raising_is_no_approval():
    threads = []

    def approve(item):
        threads.append(threading.current_thread())
        raise LookupError("nobody to ask")

    results = run_calls([], [approval()], approve_mcp=approve, timeout=0.001)
    assert threads == [threading.current_thread()]
    assert results.outputs == [
        {
            "type": "mcp_approval_response",
            "approval_request_id": "mcpr_1",
            "approve": False,
            "reason": "LookupError: nobody to ask",
        }
    ]
    assert [error.kind for error in results.errors] == ["raised"]


def test_an_interrupt_while_asking_comes_through():
    def approve(item):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_calls([], [approval()], approve_mcp=approve)


# Arguments and logs.


@pytest.mark.parametrize(
    "limits",
    [
        {"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")}, {"timeout": "3"}, {"timeout": True},
        {"timeout": []}, {"timeout": 1e11}, {"max_workers": 0}, {"max_workers": "3"}, {"max_workers": 1.5},
        {"max_workers": True},
    ],
)  # fmt: skip
def test_limits_are_numbers_above_zero(limits):
    ((name, value),) = limits.items()
    with pytest.raises(ConfigurationError, match=re.escape(f"{name} is {value!r}: give ")):
        run_calls([], [], **limits)


def test_a_limit_of_a_century_is_one_on_any_thread():
    never = threading.Event()
    with ThreadPoolExecutor() as threads:
        # Slow enough to be waited for.
        tools, items = [function(lambda: never.wait(0.2))], [call("a")]
        running = threads.submit(run_calls, tools, items, timeout=3e9)
        assert running.result(WAIT).outputs == [output("a", "false")]


@pytest.mark.parametrize(
    ("items", "place"),
    [
        (None, "items"), (5, "items"), ("abc", "items"), (call("a"), "items"), ([5], "items[0]"), ([None], "items[0]"),
        ([[1]], "items[0]"), ([call("a"), "ab"], "items[1]"),
    ],
)  # fmt: skip
def test_what_is_no_output_of_a_response_is_refused_before_any_tool_runs(items, place):
    ran = []
    with pytest.raises(
        ConfigurationError, match=re.escape(place) + r" is of type \w+: give a resp"
    ):
        run_calls([function(lambda: ran.append(1))], items)
    assert ran == []


def test_an_output_becomes_an_error_only_while_nobody_else_looks_at_the_calls():
    begun = Begun()
    waiting = Answering(Toolbox.of([function(lambda: "x" * 500)]), [call("a")], begun=begun)
    assert waiting.results().outputs == [output("a", "x" * 500)]
    with ThreadPoolExecutor() as threads:
        with begun.monitor.lock:
            shortening = threads.submit(waiting.shorten, 100)
            assert not wait([shortening], timeout=0.2).done
            assert waiting.results().errors == []
        assert shortening.result(WAIT)
    assert [error.kind for error in waiting.results().errors] == ["output"]


def test_the_log_names_the_tool_and_no_content(caplog):
    def fn(n=0):
        raise ValueError("content")

    with caplog.at_level(logging.DEBUG, "llmws"):
        run_calls([function(fn)], [call(arguments='{"n": 77}')])
    assert caplog.messages == ["tool f gave no output: raised"]
