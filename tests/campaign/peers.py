"""P1 on openai-python's sync session: the same harms at the same places, for the counts beside ours."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import attrs

from llmws.wire.parts import TERMINAL_TYPES
from tests.campaign import positions
from tests.campaign.arena import SCHEMES, Arena, Trial, arena, spread, tls
from tests.campaign.book import Book
from tests.campaign.names import served_names
from tests.campaign.oracle import GRACE, Seen, examine
from tests.campaign.points import Sizes, arm, host_of, network_plan, plan_of
from tests.campaign.positions import LIMITS
from tests.campaign.script import Line, key_of


__all__ = ["play_all", "trials"]

_DELTA = "response.output_text.delta"


def trials(seed: int, scale: str) -> Iterator[Trial]:
    """Yield the trials of P1; the quick run leaves the peer out."""
    if scale != "full":
        return
    for trial in positions.trials(seed, "full"):
        yield attrs.evolve(trial, id=trial.id.replace("P1", "openai", 1))


def play_all(book: Book, chosen: list[Trial], threads: int = 12) -> None:
    """Play trials."""
    with served_names(), arena(book) as ground:
        sizes = {scheme: _sizes_of(ground, scheme) for scheme in SCHEMES}
        spread(book, chosen, lambda trial: _play(ground, trial, sizes[trial.about[2]]), threads)


class _Client:
    """One client, one connection, one session on it, opened when the first turn is taken."""

    def __init__(self, base_url: str, scheme: str) -> None:
        import httpx2
        import openai

        secure = scheme == "wss"
        self._http = httpx2.Client(verify=tls()[1], trust_env=False)
        self._client = openai.OpenAI(
            api_key="none", base_url=base_url, max_retries=0, http_client=self._http
        )
        options = {
            "proxy": None,
            "open_timeout": LIMITS["connect"],
            "close_timeout": LIMITS["close"],
        }
        self._options = {**options, **({"ssl": tls()[1]} if secure else {})}
        self._open: list[Any] = []
        self._lane: Any = None

    def ask(self, line: Line) -> Seen:
        """Take a turn as its documentation shows, with a limit for each event."""
        seen, begun = Seen(deadline=LIMITS["total"], events=[]), time.monotonic()
        try:
            if self._lane is None:
                self._dial()
            message = {"type": "response.create", "model": "m", "input": line.question}
            self._lane.send(message)
            self._read(seen)
        except Exception as exc:  # noqa: BLE001  It may be anything, and is told as it is.
            seen.shown.append(repr(exc))
            seen.whole = False
        seen.seconds = time.monotonic() - begun
        return seen

    def _dial(self) -> None:
        from openai.lib.responses_websocket import (
            ResponsesWebSocketLimits,
            ResponsesWebSocketSession,
        )

        limits = ResponsesWebSocketLimits(
            max_lanes=8,
            max_events_per_lane=10_000,
            max_events=20_000,
            max_bytes_per_lane=2**24,
            max_bytes=2**26,
            max_response_bytes=2**24,
        )
        manager = self._client.responses.connect(websocket_connection_options=self._options)
        connection = manager.__enter__()
        self._open.append(manager)
        session = ResponsesWebSocketSession(connection, limits=limits)
        session.__enter__()
        self._open.append(session)
        self._lane = session.default

    def _read(self, seen: Seen) -> None:
        assert seen.events is not None
        while True:
            event = self._lane.recv(timeout=LIMITS["idle"])
            raw = event.to_dict()
            if raw["type"] != "error":
                seen.events.append(key_of(raw))
            if raw["type"] == _DELTA:
                seen.pieces.append(raw["delta"])
            if raw["type"] in TERMINAL_TYPES:
                seen.response = _Text(raw["response"]["status"], event.response.output_text)
                return

    def close(self) -> None:
        """Close all, whatever it says."""
        while self._open:
            # What it says of a broken connection is not asked.
            with contextlib.suppress(Exception):
                self._open.pop().__exit__(None, None, None)
        self._client.close()


@attrs.frozen
class _Text:
    status: str
    text: str


def _sizes_of(ground: Arena, scheme: str) -> Sizes:
    """Measure a clean connection with one turn."""
    line, at_request = ground.script.add(Line(f"openai-sizes-{scheme}")), []
    with ground.proxy(scheme) as proxy:
        line.hook = lambda number: number or at_request.append(proxy.counters)
        client = _Client(proxy.base_url(ground.servers[scheme].base_url.split(":")[0]), scheme)
        client.ask(line)
        before_close = proxy.counters.to_server_bytes
        client.close()
    request = len('{"type":"response.create","model":"m","input":""}') + len(line.question) + 8
    total = at_request[0].to_server_bytes
    return Sizes(total - request, at_request[0].from_server_bytes, request, before_close)


def _play(ground: Arena, trial: Trial, sizes: Sizes) -> None:
    point, harm, scheme = trial.about
    line = ground.script.add(Line(trial.nonce("f"), deltas=8))
    arm(point, harm, line)
    with ground.proxy(scheme) as proxy, host_of(point, harm, proxy) as host:
        plan = plan_of(point, harm, sizes)
        proxy.plan(lambda number: plan if number == 1 else None)
        url = proxy.base_url(ground.servers[scheme].base_url.split(":")[0])
        client = _Client(url.replace("127.0.0.1", host) if host else url, scheme)
        try:
            if point.phase == "idle":
                client.ask(ground.script.add(Line(trial.nonce("before"), deltas=3)))
                proxy.strike(network_plan(harm))
            seen = client.ask(line)
            if point.phase == "close" and point.at == "before":
                proxy.strike(network_plan(harm))
            _tell(ground, trial, line, seen)
            if point.phase != "close" and (
                harm in positions.LOUD or point.phase in positions.BEFORE_TURN
            ):
                after = client.ask(ground.script.add(Line(trial.nonce("after"), deltas=3)))
                if not after.completed:
                    ground.book.breach("not recovered", trial.id, after.shown)
        finally:
            begun = time.monotonic()
            client.close()
            seconds = time.monotonic() - begun
            if seconds > LIMITS["close"] + GRACE:
                ground.book.breach("blocked", trial.id, f"leaving it took {seconds:.2f} s")
        hit = point.phase == "name" or positions.struck(point, proxy, line)
        ground.book.count("faults" if hit else "did not strike")


def _tell(ground: Arena, trial: Trial, line: Line, seen: Seen) -> None:
    examine(ground.book, trial.id, line, seen)
    what = "completed in spite of it" if seen.completed else "surfaced"
    ground.book.count(what)
    if not seen.completed and seen.shown:
        ground.book.count(f"as {seen.shown[-1].split('(')[0]}")
