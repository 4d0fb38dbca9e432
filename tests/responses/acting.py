"""What tests of the user's side have in common: sessions on an embedded server, and answers that wait for a word."""

import contextlib
import itertools
import socket
import threading
import time

import llmws
from llmws.testing import Server, rules


# How long anything here may take; reached by failures alone.
PATIENCE = 10.0
# What the embedded server sends for ``rules.text("one two three")``, up to and with each of these.
CREATED, OUTPUT, FIRST_WORD, WHOLE = 1, 3, 5, 11


class Steps:
    """A rule whose events come as its test lets them."""

    def __init__(self, rule=None):
        self._rule = rule or rules.text("one two three")
        self._turnstile = threading.Semaphore(0)

    def let(self, events=1):
        self._turnstile.release(events)

    def let_all(self):
        self.let(100_000)

    def __call__(self, request):
        for event in self._rule(request):
            self._turnstile.acquire(timeout=PATIENCE)
            yield event


@contextlib.contextmanager
def opened(rule=None, model="m", **arguments):
    """Open a session, of one turn at a time, on a server of its own; at the end a rule of steps is let go."""
    with Server(rule=rule) as server:
        usual = {"base_url": server.base_url, "lanes": False, "max_connections": 1}
        with llmws.Session(model, **{**usual, **arguments}) as session:
            try:
                yield server, session
            finally:
                if isinstance(rule, Steps):
                    rule.let_all()
        assert server.errors == []


@contextlib.contextmanager
def mute_server():
    """Listen, and never answer; yields the socket, which does not block, and its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        yield listener, f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def first_events(stream, count):
    """Wait for the first events of a stream."""
    return list(itertools.islice(stream.events(), count))


def until(predicate):
    """Wait for something that rings no bell."""
    deadline = time.monotonic() + PATIENCE
    while not predicate():
        assert time.monotonic() < deadline, "it never came true"
        threading.Event().wait(0.002)


def in_threads(*calls):
    """Run calls side by side; return their results, or what they raised."""
    results = [None] * len(calls)

    def run(index, call):
        try:
            results[index] = call()
        except BaseException as exc:  # noqa: BLE001  It is the result.
            results[index] = exc

    threads = [
        threading.Thread(target=run, args=(index, call), daemon=True)
        for index, call in enumerate(calls)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    return results
