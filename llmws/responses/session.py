"""What a user opens: configuration, one connection, totals."""

from __future__ import annotations

import os
import ssl
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import attrs

from ..errors import ConfigurationError
from ..secret import Secret
from ..timeouts import Timeouts, seconds
from ..wire.endpoint import Endpoint, proxy_for
from ..wire.process import on_fork
from .connections.core import Core, Parts
from .connections.credentials import AskedHeaders, Credentials, HiddenHeaders
from .connections.stats import Stats, usage_of
from .routing.turn import Turn
from .sending.request import build_create, check_params
from .stream.handlers import Handlers
from .stream.snapshot import Response
from .stream.stream import Stream
from .tools.fields import wire_fields
from .vocabulary.capabilities import Capabilities
from .vocabulary.items import Usage


if TYPE_CHECKING:
    from .conversation.conversation import Conversation

__all__ = ["Session"]

Kind = TypeVar("Kind")

_DEFAULT_BASE_URL = "https://api.openai.com/v1"


class Session:
    """
    A connection to the Responses API in WebSocket mode.

    Nothing is dialled before the first turn. One background thread owns the socket; all methods may be called from any
    thread, and never need asyncio. Close the session when done, or use it in a ``with`` statement, which on leaving
    waits for turns that have callbacks. A session that is merely forgotten is closed too.

    Args:
        model: The model of every turn that names none.
        api_key: The key; or a callable that returns it, asked at each dial; or None for ``OPENAI_API_KEY``. A server on
            this machine needs none.
        base_url: ``https``, ``wss``, or, to this machine, ``http`` or ``ws``; up to and with ``/v1``. None means
            ``OPENAI_BASE_URL``, or OpenAI.
        organization: The ``OpenAI-Organization`` header; None means ``OPENAI_ORG_ID``.
        project: The ``OpenAI-Project`` header; None means ``OPENAI_PROJECT_ID``.
        headers: Further headers of the upgrade request, as a mapping; or a callable that returns one, asked at each
            dial. They go before the session's own, and an ``Authorization`` among them before ``api_key``.
        timeouts: A ``Timeouts``, or a mapping of the limits that differ from its defaults.
        lanes: Whether the server runs turns side by side on one connection; None means as known of the host.
        capabilities: What the server allows; None means as known of the host.
        ssl_context: For TLS; None means the system's certificate authorities.
        allow_insecure: Allow ``ws`` to another machine, where anyone on the way can read the key.
        retry_uncertain: Send a turn once again whose connection broke before the server answered at all, although it
            may then run, and be billed, twice.
        sequence_check: ``warn`` counts and logs gaps in the server's numbering, ``strict`` makes them an error.
        callback_threads: How many threads run callbacks.
        max_connections: How many connections there may be at once.
        warm_window: Conversations that were in use in the last so many seconds are moved to its successor before a
            connection reaches its age limit; 0 moves none.
        defaults: Fields of every request, such as ``instructions`` or ``store``.

    Raises:
        ConfigurationError: An argument cannot be used; nothing was dialled.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        api_key: str | Callable[[], str] | None = None,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        headers: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
        timeouts: Timeouts | Mapping[str, Any] | None = None,
        lanes: bool | None = None,
        capabilities: Capabilities | None = None,
        ssl_context: ssl.SSLContext | None = None,
        allow_insecure: bool = False,
        retry_uncertain: bool = False,
        sequence_check: Literal["warn", "strict"] = "warn",
        callback_threads: int = 4,
        max_connections: int = 8,
        warm_window: float = 60.0,
        **defaults: Any,
    ) -> None:
        # First of all the secrets leave this frame's variables: a traceback may show them.
        try:
            credentials = Credentials(api_key)
            asked = AskedHeaders.of(headers, credentials.given_out)
            given_headers = HiddenHeaders.of(None if asked else headers, organization, project)
            url = Secret(_responses_url(_instance("base_url", base_url, str)))
        finally:
            api_key = headers = organization = project = base_url = None
        own_authorization = given_headers.authorize
        _instance("ssl_context", ssl_context, ssl.SSLContext)
        self._endpoint = Endpoint.build(
            url.reveal(),
            headers=given_headers,
            credentials=None if own_authorization or credentials.missing else credentials,
            ssl_context=ssl_context,
            ask_headers=asked,
            allow_insecure=_flag("allow_insecure", allow_insecure),
        )
        if credentials.missing and not own_authorization and not self._endpoint.is_loopback:
            if asked is None:
                raise ConfigurationError(
                    f"No key for {self._endpoint}: pass api_key (a string, or a callable that returns one), or set "
                    "OPENAI_API_KEY."
                )
            # Each dial finds out whether they hold an Authorization.
            self._endpoint = attrs.evolve(self._endpoint, credentials=credentials.required)
        self._credentials = credentials
        proxy_for(self._endpoint, os.environ)  # Says now what would only be said at the first dial.
        self._capabilities = _allowed(self._endpoint.host, capabilities, lanes)
        self._timeouts = Timeouts().but(timeouts)
        self._retry_uncertain = _flag("retry_uncertain", retry_uncertain)
        self._parts = Parts(
            sequence_check=_choice(sequence_check),
            callback_threads=_at_least_one("callback_threads", callback_threads),
            max_connections=_at_least_one("max_connections", max_connections),
            warm_window=cast(
                float, seconds("warm_window", warm_window, none_ok=False, zero_ok=True)
            ),
        )
        self._set_defaults(_instance("model", model, str), defaults)
        self._start_core()
        on_fork(self, "_restart_core")

    def _set_defaults(self, model: str | None, defaults: dict[str, Any]) -> None:
        check_params(defaults, "Session()")
        # Conversations run tools, so that these stay as they are.
        self._given_defaults = {**defaults, **({"model": model} if model is not None else {})}
        self._defaults = wire_fields(self._given_defaults)
        build_create(
            {"model": "any", **self._defaults},
            None,
            warm_up=False,
            max_frame_bytes=self._capabilities.max_frame_bytes,
        )

    def _start_core(self) -> None:
        """Set up the moving parts; nothing runs before the first turn."""
        self._core = Core(
            self._endpoint,
            self._timeouts,
            self._capabilities,
            self._parts,
            _keys_of(self._credentials, self._endpoint),
        )
        weakref.finalize(self, self._core.stop).atexit = False

    def _restart_core(self) -> None:
        """Replace the moving parts in a forked child; a closed session stays closed."""
        if not self._core.closed:
            self._start_core()

    # Turns.

    def stream(
        self,
        input: str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        timeouts: Timeouts | Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Stream:
        """
        Start a turn; never blocks.

        Turns run side by side, on lanes of one connection or on several, as far as the server and ``max_connections``
        allow; a further one waits, at most ``Timeouts.lane_wait``.

        Args:
            input: What to say: a string, one item (a dict) or a list of items.
            timeouts: Limits of this turn: a ``Timeouts``, or a mapping of those that differ from the session's.
            params: Fields of the request, such as ``instructions``, ``tools`` or ``previous_response_id``; they go
                before the session's defaults.

        Raises:
            ConfigurationError: A field cannot be sent; nothing was.
            SessionClosedError: The session was closed.
            OutboxFullError: Too many bytes of requests wait to be written.
            ConnectError: The system has no thread for the connection.
        """
        return self._begin(input, timeouts, params, warm_up=False)

    def create(
        self,
        input: str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        timeouts: Timeouts | Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Response:
        """
        Run a turn and wait for its response.

        Args:
            input: As for ``stream``.
            timeouts: As for ``stream``.
            params: As for ``stream``.

        Returns:
            The response: completed, incomplete or failed.

        Raises:
            ConfigurationError: As for ``stream``.
            SessionClosedError: As for ``stream``.
            OutboxFullError: As for ``stream``.
            TurnError: The turn ended without a response.
            ConnectError: There was no connection to be had; nothing was sent.
        """
        return self._begin(input, timeouts, params, warm_up=False).response()

    def warm_up(
        self,
        input: str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        timeouts: Timeouts | Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Response:
        """
        Have the server read instructions, tools and input ahead, without an answer, and wait until it has.

        Returns:
            A response without output, whose ``id`` a turn may name as its ``previous_response_id``.

        Raises:
            ConfigurationError: As for ``create``; so are the other errors.
        """
        return self._begin(input, timeouts, params, warm_up=True).response()

    def conversation(self, /, **settings: Any) -> Conversation:
        """
        Return a conversation: turns that follow each other, of which each sends only what the server lacks.

        Nothing is sent before its first turn. It keeps the session alive.

        Args:
            settings: Fields of each of its requests, such as ``instructions``, ``tools``, ``store`` or ``text_format``;
                they go before the session's defaults.

        Raises:
            ConfigurationError: A field cannot be sent, or is the conversation's own.
        """
        # Imported here: a program that only streams should not pay for tools and transcripts.
        from .conversation.conversation import Conversation
        from .conversation.host import Host

        host = Host(
            self,
            lambda: self._core,
            self._endpoint,
            self._timeouts,
            self._capabilities.max_frame_bytes,
            retry_uncertain=self._retry_uncertain,
        )
        return Conversation(host, self._given_defaults, **settings)

    def _begin(
        self,
        given_input: Any,
        timeouts: Timeouts | Mapping[str, Any] | None,
        params: dict[str, Any],
        *,
        warm_up: bool,
    ) -> Stream:
        check_params(params, "stream()")
        payload = build_create(
            {**self._defaults, **wire_fields(params)},
            given_input,
            warm_up=warm_up,
            max_frame_bytes=self._capabilities.max_frame_bytes,
        )
        parent = params.get("previous_response_id")
        turn = Turn(
            payload=payload,
            parent_id=parent if isinstance(parent, str) else None,
            timeouts=self._timeouts.but(timeouts),
            started_at=time.monotonic(),
            warm_up=warm_up,
            retry_uncertain=self._retry_uncertain,
        )
        core = self._core
        stream = Stream(turn, core, self)
        core.submit(turn)
        return stream

    # Totals.

    @property
    def usage(self) -> Usage:
        """The tokens of all turns and compactions, failed and incomplete turns too; warm-ups are in ``stats``."""
        return usage_of(self._core.pool) + self._core.posted_usage

    @property
    def stats(self) -> Stats:
        """What the session did so far."""
        return Stats.of(self._core.pool)

    @property
    def timeouts(self) -> Timeouts:
        """The session's time limits."""
        return self._timeouts

    @property
    def capabilities(self) -> Capabilities:
        """What the server is taken to allow."""
        return self._capabilities

    # Ends.

    def close(self, *, wait: bool = True) -> None:
        """
        Cancel what runs and close the connection; may be repeated, from any thread.

        Args:
            wait: Wait for the end, at most ``Timeouts.close``. In a callback, and on the I/O thread, nothing is ever
                waited for. False also suits a signal handler: no lock is waited for.
        """
        core = self._core
        core.stop()
        if wait and not core.on_own_thread and not core.callbacks.on_own_thread:
            core.join(self._timeouts.close)
            core.callbacks.retire()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            # Each is bounded by its turn's own limits. Callbacks may begin further turns, so this is asked again.
            while error is None and (busy := self._busy()):
                for handlers in busy:
                    handlers.wait(None)
                    self._core.release(handlers)
        finally:
            self.close()

    def _busy(self) -> list[Handlers]:
        """Return what to wait for: a turn whose callback runs this very line cannot be."""
        return [handlers for handlers in self._core.busy() if not handlers.on_own_thread]

    def __repr__(self) -> str:
        if not hasattr(self, "_core"):
            # In a traceback from ``__init__``, where tools look at variables.
            return "<Session not set up>"
        state = " closed" if self._core.closed else ""
        return f"<Session {self._endpoint} model={self._defaults.get('model')!r}{state}>"


def _keys_of(credentials: Credentials, endpoint: Endpoint) -> Callable[[], tuple[Secret, ...]]:
    """Return what gives the keys used so far; it does not hold the session."""
    return lambda: (*tuple(credentials.given_out), *endpoint.secrets())


def _responses_url(base_url: str | None) -> str:
    """Append the resource to a base URL, before its query; None means as the environment or OpenAI has it."""
    if base_url is None:
        base_url = os.environ.get("OPENAI_BASE_URL") or _DEFAULT_BASE_URL
    head, mark, query = base_url.partition("?")
    return f"{head.rstrip('/')}/responses{mark}{query}"


def _allowed(host: str, capabilities: Capabilities | None, lanes: bool | None) -> Capabilities:
    """Return what a server allows: as told, else as known of its host."""
    known = _instance("capabilities", capabilities, Capabilities) or Capabilities.of(host)
    lanes = _instance("lanes", lanes, bool)
    return known if lanes is None else attrs.evolve(known, lanes=lanes)


def _choice(sequence_check: Literal["warn", "strict"]) -> Literal["warn", "strict"]:
    if sequence_check not in ("warn", "strict"):
        raise ConfigurationError(
            f'sequence_check is {sequence_check!r}: choose "warn" or "strict".'
        )
    return sequence_check


def _at_least_one(name: str, value: int) -> int:
    if value is None or _instance(name, value, int) < 1:
        raise ConfigurationError(f"{name} is {value}: at least 1 is needed.")
    return value


def _flag(name: str, value: bool) -> bool:
    if value is None:
        raise ConfigurationError(f"{name} is None: give True or False.")
    return _instance(name, value, bool)


def _instance(name: str, value: Any, kind: type[Kind]) -> Kind:
    """Refuse an argument of another type; None passes, and is the caller's to understand."""
    if value is not None and not (isinstance(value, kind) and (kind is bool or value is not True)):
        given, value = type(value).__name__, None  # It may hold a key, and this frame may be shown.
        raise ConfigurationError(f"{name} is of type {given}: give {kind.__name__}.")
    return cast(Kind, value)
