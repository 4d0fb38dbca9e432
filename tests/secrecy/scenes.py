"""
Scenes with a canary key in them: sessions that know one, turns that are watched, a server that echoes.

The canaries live in this module's table and never in a variable of a test, because tracebacks show the variables of
every frame. The frames of this file hold them, and are not searched.
"""

import contextlib
from urllib.parse import quote

import llmws
from llmws.secret import Secret
from tests.wire import peers


WAIT_SECONDS = 20
# The second has no pattern by which anyone could know it for a key, and changes when it is percent-encoded.
CANARIES = {
    "patterned": "sk-canary-" + "7Fq2xW9LmT4vZbR8",
    "plain": "Zq9/birdsong+44xWvT" + "~kM3.hJ8",
}


def as_string(key):
    return {"api_key": key}


def as_callable(key):
    return {"api_key": lambda: key}


def as_secret(key):
    return {"api_key": Secret(key)}


def as_authorization(key):
    return {"headers": {"Authorization": f"Bearer {key}"}}


def as_other_header(key):
    return {"headers": {"X-Api-Key": key}}


def as_asked_authorization(key):
    return {"headers": lambda: {"Authorization": f"Bearer {key}"}}


def as_asked_header(key):
    return {"headers": lambda: {"X-Api-Key": key}}


WAYS = [
    *(as_string, as_callable, as_secret, as_authorization, as_other_header),
    *(as_asked_authorization, as_asked_header),
]


@contextlib.contextmanager
def session_with(evidence, way, canary, base_url, **options):
    """Open a session that knows a canary; what it shows of itself is evidence."""
    key = CANARIES[canary]
    if way == "query":
        base_url += f"?api-key={quote(key, safe='')}"
    else:
        options = {**way(key), **options}
    session = llmws.Session("m", base_url=base_url, **options)
    # What is refused for a moment is dialled again, and nobody wants to wait for that.
    session._core.connection._jitter = lambda: 0.0
    try:
        yield session
        show(evidence, session)
    finally:
        session.close()


def show(evidence, session):
    core = session._core
    evidence.add(session, session.stats, session.usage, session.timeouts, session.capabilities)
    evidence.add(session._credentials, core, core.connection, core.lanes, core.callbacks)
    # The URL of an endpoint holds the query as it is sent; it is no public object, and shows without it.
    evidence.add_text("Endpoint shown", f"{session._endpoint!r} {session._endpoint}")


def turn(evidence, session, **params):
    """Run a turn in every way, and keep all it gives and raises."""
    stream = session.stream("Hello", **params)
    for name in ("event", "chunk", "done", "error", "callback_error"):
        stream.on(name, evidence.add)
    stream.on("error", evidence.add_error)
    evidence.add(stream)
    views = (stream, stream.events(), stream.texts(), stream.sse())
    for drain in (*[lambda view=view: list(view) for view in views], stream.response):
        result = attempt(evidence, drain)
        evidence.add(result)
        if isinstance(result, llmws.Response):
            attempt(evidence, result.raise_for_status)
    stream.wait(WAIT_SECONDS)
    evidence.add(stream, stream.snapshot, *views)


def attempt(evidence, call):
    """Call; an error of llmws is evidence."""
    try:
        return call()
    except (llmws.LLMWSError, TypeError) as error:
        evidence.add_error(error)
        return None


def errors_in(evidence):
    return {place.split(".")[0] for place, _ in evidence.texts if place.endswith(".args")}


def echoing(status):
    """Make a script that answers with everything it was asked, in body and headers."""

    def script(conn):
        head = peers.read_head(conn)
        lines = head.decode("latin-1").split("\r\n")[:-2]
        echoes = "".join(f"X-Echo-{n}: {line}\r\n" for n, line in enumerate(lines))
        body = (" ".join(lines) + head.decode("latin-1")).encode("latin-1")
        answer = f"HTTP/1.1 {status} No\r\n{echoes}Content-Length: {len(body)}\r\n\r\n"
        conn.sendall(answer.encode("latin-1") + body)

    return script
