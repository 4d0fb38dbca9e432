"""
The ``llmws`` command: ``demo``, ``serve`` and ``chat``.

Exit codes: 0 for success, 1 for a failure, 2 for arguments or surroundings that cannot be used, 130 for Ctrl-C, and 141
if nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

from . import chat, demo
from .errors import ConfigurationError, LLMWSError, RecordingError
from .terminal import complain, discard_output, prepare, show
from .testing import Server
from .version import __version__


__all__ = ["main"]

_INTERRUPTED = 128 + signal.SIGINT
_BROKEN_PIPE = 128 + 13  # SIGPIPE, which Windows does not have.

_HOW_TO_USE = """\
Serving the Responses API at {url}
over WebSocket, and over POST with SSE. {answer} No key is needed.

  llmws chat --base-url {url}
  OPENAI_BASE_URL={url} python your_program.py

Ctrl-C ends it."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    For a process's main thread, as it deals with signals.

    Args:
        argv: The arguments without the program's name; None takes the process's.

    Returns:
        The exit code; see the module.

    Raises:
        SystemExit: The arguments cannot be understood, or asked for help or the version.
    """
    prepare()
    # Without any handler Python would print the library's log records; errors are told in the command line's own words.
    logging.getLogger("llmws").addHandler(logging.NullHandler())
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        if arguments.command is None:
            show(parser.format_help(), end="")
            return 0
        return _run(arguments)
    except (ConfigurationError, RecordingError) as exc:
        complain(exc)
        return 2
    except LLMWSError as exc:
        complain(exc)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        discard_output()
        return _BROKEN_PIPE
    except OSError as exc:  # Such as a full disk behind stdout.
        discard_output()
        complain(exc)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "demo":
        # It talks to itself alone, whatever proxy the environment names.
        os.environ["no_proxy"] = "127.0.0.1"
        with Server(rule=demo.rule(), delay=demo.SECONDS_BETWEEN_EVENTS) as server:
            return demo.play(server)
    if arguments.command == "serve":
        _serve(arguments.recording, arguments.port)
        return 0
    return chat.run(arguments.model, arguments.base_url)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llmws",
        description="The OpenAI Responses API over one WebSocket, in plain synchronous Python.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"llmws {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    commands.add_parser(
        "demo",
        help="stream an answer and a tool conversation from an embedded server; no key needed",
        description="Stream an answer and a tool conversation of three turns over one connection to an embedded "
        "server, and check what was seen against the server's ledger.",
    )
    serve = commands.add_parser(
        "serve",
        help="run the embedded server until Ctrl-C",
        description="Run the embedded server on 127.0.0.1 until Ctrl-C. It plays a recording, or says what it is told.",
        allow_abbrev=False,
    )
    serve.add_argument("--recording", metavar="FILE", help="the recording to play (JSON Lines)")
    serve.add_argument(
        "--port", type=_port, default=0, help="the port to listen on (default: any that is free)"
    )
    talk = commands.add_parser(
        "chat",
        help="talk to a model in the terminal",
        description="Talk to a model, in the terminal or with questions on standard input, one a line. Ctrl-C stops an "
        "answer, Ctrl-D leaves. The key is taken from OPENAI_API_KEY.",
        allow_abbrev=False,
    )
    talk.add_argument(
        "--base-url", metavar="URL", help="up to and with /v1 (default: OPENAI_BASE_URL, or OpenAI)"
    )
    talk.add_argument("--model", default=chat.MODEL, help="the model (default: %(default)s)")
    return parser


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 0 to 65535")
    return port


def _serve(recording: str | None, port: int) -> None:
    # Whoever ends a service sends SIGTERM; it means the same as Ctrl-C.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _server(recording, port) as server:
            answer = (
                "It repeats what it is told." if recording is None else f"It plays {recording}."
            )
            show(_HOW_TO_USE.format(url=server.base_url, answer=answer))
            _wait_for_interrupt()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, previous)


def _server(recording: str | None, port: int) -> Server:
    try:
        return Server(recording, port=port)
    except OSError as exc:
        reason = exc.strerror or exc
        raise ConfigurationError(
            f"Cannot serve on port {port}: {reason}. Choose another one, or leave --port out."
        ) from exc


def _wait_for_interrupt() -> None:
    never = threading.Event()
    # Windows does not interrupt a wait without a limit.
    while not never.wait(0.2 if sys.platform == "win32" else None):
        pass
