import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from llmws.testing import Entry, Request
from llmws.testing.lanes import Lanes


def job(lane, number):
    body = {"n": number}
    return Request(body=body, lane=lane), Entry(body=body, transport="ws", connection=1, lane=lane)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=12), st.integers(1, 5))
def test_every_create_is_played_once_in_its_lanes_order_within_the_limit(names, most):
    lock, running, overlaps, played = threading.Lock(), [], [], []

    def play(request, entry):
        with lock:
            overlaps.append(request.lane in running)
            running.append(request.lane)
            overlaps.append(len(running) > most)
        with lock:
            running.remove(request.lane)
            played.append((request.lane, request.body["n"]))

    lanes = Lanes(play, most=most, name="test-lanes")
    for number, name in enumerate(names):
        lanes.put(job(name, number))
    lanes.wait_until_idle()
    assert not any(overlaps)
    for lane in "abcd":
        ours = [(name, number) for number, name in enumerate(names) if name == lane]
        assert [each for each in played if each[0] == lane] == ours
    lanes.end()
    assert not [thread for thread in threading.enumerate() if "test-lanes" in thread.name]


def test_a_create_that_raises_is_told_and_keeps_no_other_from_being_played(monkeypatch):
    told, played = [], []
    monkeypatch.setattr(threading, "excepthook", told.append)

    def play(request, entry):
        played.append(request.body["n"])
        if request.body["n"] == 0:
            raise LookupError("broken")

    lanes = Lanes(play, most=1, name="test-lanes")
    for number, lane in enumerate("aab"):
        lanes.put(job(lane, number))
    idle = threading.Thread(target=lanes.wait_until_idle, daemon=True)
    idle.start()
    idle.join(10)
    assert played == [0, 1, 2]
    lanes.end()
    [error] = told
    assert (error.exc_type, error.thread.name) == (LookupError, "test-lanes-a")


def test_at_the_end_what_waits_is_handed_over_all_the_same():
    begun, door, played = threading.Event(), threading.Event(), []

    def play(request, entry):
        begun.set()
        assert door.wait(10)
        played.append(request.body["n"])

    lanes = Lanes(play, most=1, name="test-lanes")
    for number in range(4):
        lanes.put(job(f"lane{number}", number))
    assert begun.wait(10)
    ending = threading.Thread(target=lanes.end)
    ending.start()
    lanes.wait_until_idle()  # Over is as good as idle: nobody may wait for ever.
    door.set()
    ending.join(10)
    assert sorted(played) == [0, 1, 2, 3]
