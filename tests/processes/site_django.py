"""
A Django site in one file, as ``gunicorn tests.processes.site_django:application`` serves it.

The session is a module's, and has run a turn before any worker exists: with ``--preload`` they inherit it in use.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path

import llmws


__all__ = ["application", "session", "urlpatterns"]

# One connection and one lane, so that the server of all these tests starts no thread in the middle of one.
session = llmws.Session(
    "m", base_url=os.environ["LLMWS_TEST_URL"], api_key="none", lanes=False, max_connections=1
)
session.create("before any worker")
answers: dict[str, str] = {}
streams: weakref.WeakSet[llmws.Stream] = weakref.WeakSet()


def turn(request: HttpRequest) -> HttpResponseBase:
    """Answer when the whole answer is there."""
    return JsonResponse({"text": session.create(request.GET["question"]).text, **_facts()})


def streamed(request: HttpRequest) -> HttpResponseBase:
    """Answer piece by piece."""
    stream = session.stream(request.GET["question"])
    streams.add(stream)
    return StreamingHttpResponse(stream.texts(), headers={"X-Process": str(os.getpid())})


def asked(request: HttpRequest) -> HttpResponseBase:
    """Start an answer, which callbacks write down."""
    question = request.GET["question"]
    answers[question] = ""

    def add(text: str) -> None:
        answers[question] += text

    session.stream(question).on("text", add).on("done", lambda response: answers.update(done="yes"))
    return JsonResponse(_facts(), status=202)


def state(request: HttpRequest) -> HttpResponseBase:
    """Say what there is in this process."""
    return JsonResponse({"answers": answers, **_facts()})


def _facts() -> dict[str, Any]:
    return {
        "process": os.getpid(),
        "dials": session.stats.dials,
        "dropped": session.stats.dropped_events,
        "streams": len(streams),
    }


urlpatterns = [
    path("turn", turn),
    path("streamed", streamed),
    path("asked", asked),
    path("state", state),
]
settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="none", LOGGING_CONFIG=None
)
django.setup()
application = get_wsgi_application()
