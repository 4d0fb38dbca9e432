"""Where a run took place: machine, system and versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import ssl
import sys
from pathlib import Path
from typing import Any


__all__ = ["describe"]

_PACKAGES = (
    "llmws",
    "msgspec",
    "attrs",
    "openai",
    "pydantic",
    "httpx2",
    "websockets",
    "websocket-client",
    "requests",
    "sseclient-py",
    "trustme",
)


def describe() -> dict[str, Any]:
    """Return what a reader has to know to judge figures."""
    return {
        "Python": f"{platform.python_implementation()} {platform.python_version()} ({sys.platform})",
        "OpenSSL": ssl.OPENSSL_VERSION,
        "CPU": _cpu(),
        "cores": os.cpu_count(),
        "memory MiB": _memory_mib(),
        "kernel": platform.release(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _memory_mib() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (ValueError, OSError):
        return None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
