"""
The WebSocket upgrade, and the reading of whatever a server answers instead.

websocket-client writes the request and checks the answer; it is given nothing else to do. The head of the answer is
read here first, bounded, and handed to it rebuilt and without cookies, because its cookie jar is one for the whole
process.

What the server says may echo the key: it stays out of the locals of functions that raise until it is redacted.
"""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import attrs

from ..errors import AuthenticationError, ConnectError, HandshakeError, UpgradeRefusedError
from ..secret import Secret, redact
from .backoff import retry_after, retryable_status
from .deadline import Loan, TimedSocket
from .endpoint import Endpoint


__all__ = ["Reply", "read_reply", "upgrade"]

_HEAD_BYTES = 65536
_BODY_BYTES = 65536
_KEPT_BODY_CHARS = 2048
_QUOTED_BODY_CHARS = 300
# A refusal is news in itself: its body is not worth waiting for the whole deadline.
_BODY_SECONDS = 2.0

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([1-9]\d\d)(?: .*)?")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):(.*)")
_CHUNK_HEAD = re.compile(rb"\s*([0-9A-Fa-f]{1,8})[^\r\n]*\r?\n")

_REFUSALS: dict[int, tuple[type[HandshakeError], str]] = {
    401: (AuthenticationError, "Check the key, and that it belongs to this service."),
    403: (AuthenticationError, "Check what the key may do, and from where."),
    404: (HandshakeError, "Check the path of the URL."),
    426: (UpgradeRefusedError, "There is no WebSocket at this address: use HTTP there."),
}


@attrs.frozen
class Reply:
    """
    The head of an HTTP answer.

    Attributes:
        status: The HTTP status.
        headers: Names in lower case, repeated ones joined, no cookies. Not redacted.
    """

    status: int
    headers: dict[str, str] = attrs.field(repr=False)


def upgrade(wire: TimedSocket, endpoint: Endpoint, credential: Secret | None) -> dict[str, str]:
    """
    Ask the server to speak WebSocket on a socket; bytes after its answer stay in ``wire.inbound``.

    Args:
        wire: A connected socket.
        endpoint: What to ask for, with which headers.
        credential: The bearer token, or None.

    Returns:
        The answer's headers, redacted.

    Raises:
        HandshakeError: The server answered something else; see the subclasses.
        ConnectTimeout: The time was up.
        ConnectError: The connection broke.
    """
    wire.deadline.phase = "upgrade"
    loan = _UpgradeLoan(wire)
    accepted = _offer(loan, endpoint, credential)
    if loan.failure is not None:
        raise loan.failure
    if loan.reply is None:
        raise ConnectError(f"{endpoint} could not be asked for a WebSocket.", retryable=False)
    secrets = (credential, *endpoint.secrets())
    headers = {
        redact(name, *secrets): redact(text, *secrets) for name, text in loan.reply.headers.items()
    }
    if loan.reply.status != 101:
        raise _refusal(wire, endpoint, Reply(loan.reply.status, headers), secrets)
    problem = _answer_problem(accepted, headers)
    if problem:
        raise HandshakeError(
            f"{endpoint} answered the upgrade wrongly: {problem}", status=101, headers=headers
        )
    return headers


def read_reply(wire: TimedSocket) -> Reply:
    """
    Read the head of an HTTP answer, at most 64 KiB; bytes after it stay in ``wire.inbound``.

    Raises:
        HandshakeError: It is too long, or no HTTP.
        ConnectError: The connection broke or ended before it was complete.
    """
    end, searched = None, 0
    while end is None:
        if not wire.fill():
            raise ConnectError(f"No answer from {wire.name}: it closed the connection.")
        end = _BLANK_LINE.search(wire.inbound, searched)
        searched = max(0, len(wire.inbound) - 3)
        if (end.end() if end else len(wire.inbound)) > _HEAD_BYTES:
            raise HandshakeError(
                f"The answer of {wire.name} has more than {_HEAD_BYTES} bytes of headers."
            )
        if not b"HTTP/".startswith(wire.inbound[:5]):
            break
    reply = _parse(wire.inbound[: end.start()]) if end else None
    if end is None or reply is None:
        raise HandshakeError(f"The answer of {wire.name} is no HTTP: check scheme, host and port.")
    del wire.inbound[: end.end()]
    return reply


def _parse(head: bytearray) -> Reply | None:
    first, *rest = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    status = _STATUS_LINE.fullmatch(first)
    fields = [_FIELD.fullmatch(line) for line in rest]
    headers: dict[str, str] = {}
    for field in fields:
        if field is None:
            return None
        name, text = field[1].lower(), field[2].strip()
        if name != "set-cookie":
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return Reply(int(status[1]), headers) if status else None


def _offer(loan: _UpgradeLoan, endpoint: Endpoint, credential: Secret | None) -> bool:
    """Tell whether websocket-client is content with the answer; what it raises is dropped."""
    import websocket  # Not at import: a program that only reads recordings does not pay for it.

    try:
        websocket.WebSocket().connect(  # type: ignore[no-untyped-call]  # The library has no types here.
            # "-" can have no cookie: the library's jar may hold some that belong to other users of the library.
            f"ws://-{endpoint.resource}",
            socket=loan,
            host=endpoint.host_header,
            header=_header_lines(endpoint, credential),
            suppress_origin=True,
            redirect_limit=0,
        )
    except (websocket.WebSocketException, OSError, ValueError):
        return False
    except BaseException as exc:
        # An interrupt, or a defect: it passes, but its frames and context hold the request.
        exc.__context__ = exc.__traceback__ = None
        raise exc from None
    return True


def _header_lines(endpoint: Endpoint, credential: Secret | None) -> list[str]:
    lines = [f"{name}: {value.reveal()}" for name, value in endpoint.headers]
    return lines if credential is None else [*lines, f"Authorization: Bearer {credential.reveal()}"]


class _UpgradeLoan(Loan):
    """Lets the library write the request, and shows it the answer's head and no byte more."""

    def __init__(self, wire: TimedSocket) -> None:
        super().__init__(wire)
        self.reply: Reply | None = None
        self._head = io.BytesIO()

    def give(self, data: bytes) -> None:
        # The library encodes as UTF-8; header values are latin-1, as requests sends them.
        self.wire.write(data.decode().encode("latin-1"))

    def take(self, size: int) -> bytes:
        if self.reply is None:
            self.reply = read_reply(self.wire)
            lines = [f"{name}: {text}" for name, text in self.reply.headers.items()]
            head = "\r\n".join([f"HTTP/1.1 {self.reply.status} -", *lines, "", ""])
            self._head = io.BytesIO(head.encode())
        return self._head.read(size)


def _answer_problem(accepted: bool, headers: Mapping[str, str]) -> str:
    for name in ("sec-websocket-extensions", "sec-websocket-protocol"):
        if name in headers:
            return f"it chose something in {name}, where nothing was offered."
    if not accepted:
        return "Upgrade, Connection or Sec-WebSocket-Accept is not right. Is something between that rewrites HTTP?"
    return ""


def _refusal(
    wire: TimedSocket, endpoint: Endpoint, reply: Reply, secrets: tuple[Secret | None, ...]
) -> HandshakeError:
    kind, advice = _REFUSALS.get(reply.status, (HandshakeError, ""))
    body = ""
    if 300 <= reply.status < 400:
        advice = (
            f"It redirects to {_location(reply.headers)}. Redirects are not followed, so that no key goes to a second "
            "place: if you trust it, give its address as the URL."
        )
    else:
        body = redact(_read_body(wire, reply.headers).decode("utf-8", "replace"), *secrets)
    said = "".join(c if c.isprintable() else " " for c in body[:_QUOTED_BODY_CHARS]).strip()
    message = f"{endpoint} answered the upgrade with HTTP {reply.status}. {advice}".strip()
    return kind(
        f"{message} The server says: {said}" if said else message,
        status=reply.status,
        headers=reply.headers,
        body=body[:_KEPT_BODY_CHARS],
        retryable=retryable_status(reply.status),
        retry_after=retry_after(reply.headers, wall_time=time.time()),
    )


def _location(headers: Mapping[str, str]) -> str:
    """Return the host a redirect names: the rest of the address may hold anything."""
    try:
        host = urlsplit(headers.get("location", "")).hostname
    except ValueError:
        host = None
    return host if host and len(host) < 254 and host.isprintable() else "another address"


def _read_body(wire: TimedSocket, headers: Mapping[str, str]) -> bytes:
    wire.deadline.shorten(_BODY_SECONDS)
    with contextlib.suppress(ConnectError):  # What has come is enough.
        while len(wire.inbound) < _BODY_BYTES and not _is_whole(wire.inbound, headers):
            if not wire.fill():
                break
    body = bytes(wire.inbound[:_BODY_BYTES])
    return _unchunked(body)[0] if _is_chunked(headers) else body[: _length(headers)]


def _is_whole(body: bytearray, headers: Mapping[str, str]) -> bool:
    if _is_chunked(headers):
        return _unchunked(bytes(body))[1]
    length = _length(headers)
    return length is not None and len(body) >= length


def _is_chunked(headers: Mapping[str, str]) -> bool:
    return headers.get("transfer-encoding", "").lower().endswith("chunked")


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None


def _unchunked(data: bytes) -> tuple[bytes, bool]:
    """Return the content of the chunks so far, and whether the last one was among them."""
    body, at = b"", 0
    while head := _CHUNK_HEAD.match(data, at):
        size = int(head[1], 16)
        if size == 0:
            return body, True
        at = head.end() + size
        body += data[head.end() : at]
    return body, False
