"""
An embedded server in a process of its own: ``python -m tests.life.server [--tls]``.

So it shares neither interpreter lock nor threads nor descriptors with what is tested, and it can be killed. It tells
its addresses and certificate in one line of JSON, its ledger in one line for every line that it is given, and ends with
its input.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import trustme

from llmws.testing import Server
from tests.life.speech import speak


__all__ = ["ServerProcess"]

ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 20.0


class ServerProcess:
    """
    The process, seen from outside.

    Attributes:
        base_url: Its address.
        mute_url: Another one of the same process, where nobody ever answers.
        authority: The certificate to trust, as PEM; None without TLS.
    """

    def __init__(self, *, secure: bool = False) -> None:
        arguments = ["--tls"] if secure else []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  Closed with this object.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.life.server", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        told = self._line()
        self.base_url: str = told["base_url"]
        self.mute_url: str = told["mute_url"]
        self.authority: str | None = told["authority"]

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._errors.close()

    def arguments(self) -> dict[str, Any]:
        """Return what a session needs to reach it."""
        told: dict[str, Any] = {"model": "m", "base_url": self.base_url}
        if self.authority is not None:
            told["ssl_context"] = ssl.create_default_context(cadata=self.authority)
        return told

    def ledger(self) -> list[tuple[str, str | None]]:
        """Return each question in the order of arrival, and how its answer ended."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return [(question, ended) for question, ended in self._line()["ledger"]]

    def kill(self) -> None:
        """End it as the system ends what has too much memory (SIGKILL); may be repeated."""
        self.process.kill()
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.communicate(timeout=_PATIENCE)

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"The server ended: {self._errors.read().decode()}")
        told: dict[str, Any] = json.loads(line)
        return told


def main() -> None:
    """Serve until the input ends."""
    authority = context = None
    if "--tls" in sys.argv[1:]:
        ca = trustme.CA()
        authority = ca.cert_pem.bytes().decode()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        # Two session tickets behind each handshake are the default, and what trips a client of two threads.
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        assert context.num_tickets == 2
        ca.issue_cert("127.0.0.1").configure_cert(context)
    with (
        Server(rule=speak, ssl_context=context) as server,
        socket.create_server(("127.0.0.1", 0)) as mute,
    ):
        mute_url = f"http://127.0.0.1:{mute.getsockname()[1]}/v1"
        tell(base_url=server.base_url, mute_url=mute_url, authority=authority)
        for _ in sys.stdin:
            asked = [(entry.body.get("input"), entry.ended) for entry in server.ledger.requests]
            tell(ledger=asked)


def tell(**facts: Any) -> None:
    """Write one line of JSON."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
