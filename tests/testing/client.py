"""What the server's tests have in common: raw clients, and answers read to their end."""

import contextlib
import http.client
import json
import socket
from pathlib import Path

from websockets.sync.client import connect


ROOT = Path(__file__).resolve().parents[2]
RECORDINGS = ROOT / "recordings" / "responses"
SHARED = ROOT.parent / "shared" / "recordings" / "responses"
TERMINAL = {"response.completed", "response.failed", "response.incomplete", "error"}
KEY = "Bearer sk-test-0123456789"
HANDSHAKE = {
    "Host": "x",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def open_socket(server, **options):
    url = server.base_url.replace("http", "ws", 1) + "/responses"
    return connect(url, compression=None, proxy=None, **options)


def create(input="Hello there", **fields):
    return {"type": "response.create", "model": "gpt-6-astra", "input": input, **fields}


def send(ws, event):
    ws.send(json.dumps(event))


def receive(ws):
    return json.loads(ws.recv(timeout=10))


def answer(ws):
    """Read one answer to its end."""
    events = [receive(ws)]
    while events[-1]["type"] not in TERMINAL:
        events.append(receive(ws))
    return events


def ask(ws, event):
    send(ws, event)
    return answer(ws)


def text_of(events):
    return "".join(event["delta"] for event in events if event["type"].endswith("text.delta"))


def address(server):
    return "127.0.0.1", int(server.base_url.split(":")[2].split("/")[0])


@contextlib.contextmanager
def http_client(server):
    connection = http.client.HTTPConnection(*address(server), timeout=10)
    with contextlib.closing(connection):
        yield connection


def post(connection, body, path="/v1/responses"):
    connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body))
    reply = connection.getresponse()
    return reply.status, reply.headers, reply.read()


def sse_events(data):
    events = []
    for block in data.decode().split("\n\n")[:-1]:
        name, payload = block.split("\n")
        events.append(json.loads(payload.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def raw_socket(server, context=None):
    raw = socket.create_connection(address(server), timeout=10)
    return context.wrap_socket(raw, server_hostname="127.0.0.1") if context else raw


def upgrade(raw):
    raw.sendall(request_head("GET", "/v1/responses", HANDSHAKE))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += raw.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    return head


def request_head(method, path, headers):
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def breaking(how):
    def rule(request):
        yield {"type": "response.created", "response": {"id": "r"}}
        how(request.connection)
        assert request.connection.closed.is_set()
        yield {"type": "response.completed", "never": "seen"}

    return rule
