"""The same site as plain WSGI, without a framework: ``gunicorn tests.processes.site_plain:application``."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import llmws


__all__ = ["application", "session"]

session = llmws.Session("m", base_url=os.environ["LLMWS_TEST_URL"], api_key="none")
session.create("before any worker")
streams: weakref.WeakSet[llmws.Stream] = weakref.WeakSet()


class _Encoded:
    """What WSGI asks for: bytes to iterate over, and a ``close`` that is called whatever happens."""

    def __init__(self, texts: Any) -> None:
        self._texts = texts

    def __iter__(self) -> _Encoded:
        return self

    def __next__(self) -> bytes:
        return next(self._texts).encode()  # type: ignore[no-any-return]

    def close(self) -> None:
        self._texts.close()


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Serve ``/turn``, ``/streamed`` and ``/state``."""
    question = parse_qs(environ["QUERY_STRING"]).get("question", [""])[0]
    start_response("200 OK", [("X-Process", str(os.getpid()))])
    if environ["PATH_INFO"] == "/streamed":
        stream = session.stream(question)
        streams.add(stream)
        return _Encoded(stream.texts())
    facts: dict[str, Any] = {
        "text": session.create(question).text if question else None,
        "process": os.getpid(),
        "dials": session.stats.dials,
        "dropped": session.stats.dropped_events,
        "streams": len(streams),
    }
    return [json.dumps(facts).encode()]
