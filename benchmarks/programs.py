"""Whole programs, as a user would write them, timed from outside: what a fresh process costs."""

from __future__ import annotations


__all__ = ["EMPTY", "IMPORTS", "TURNS", "without"]

EMPTY = "pass"

IMPORTS: dict[str, str] = {
    "llmws-fast": "import llmws",
    "llmws-stdlib": "import llmws",
    "openai": "import openai",
}

_LLMWS = """\
import sys
import llmws
with llmws.Session(model="benchmark", base_url=sys.argv[1]) as session:
    for event in session.stream("short").events():
        event.type
"""
_OPENAI = """\
import sys
import openai
client = openai.OpenAI(api_key="none", base_url=sys.argv[1])
with client.responses.connect() as connection:
    connection.send({"type": "response.create", "model": "benchmark", "input": "short"})
    for event in connection:
        if event.type == "response.completed":
            break
"""
_OPENAI_SSE = """\
import sys
import openai
client = openai.OpenAI(api_key="none", base_url=sys.argv[1])
for event in client.responses.create(model="benchmark", input="short", stream=True):
    event.type
"""
# The peak is told by the process itself: what the parent learns of it begins with the parent's own.
_PEAK = """\
from benchmarks.memory import peak_bytes
print(peak_bytes())
"""

TURNS: dict[str, str] = {
    "llmws-fast": _LLMWS + _PEAK,
    "llmws-stdlib": _LLMWS + _PEAK,
    "openai": _OPENAI + _PEAK,
    "openai-sse": _OPENAI_SSE + _PEAK,
}


def without(packages: tuple[str, ...], program: str) -> str:
    """Return a program in which some packages cannot be imported."""
    blocked = "".join(f"sys.modules[{package!r}] = None\n" for package in packages)
    return f"import sys\n{blocked}{program}" if blocked else program
