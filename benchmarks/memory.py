"""What this process has in memory, in bytes. It imports next to nothing, because that would be measured too."""

from __future__ import annotations

import os
import resource
import sys


__all__ = ["peak_bytes", "resident_bytes"]

_STATUS = "/proc/self/status"


def peak_bytes() -> int:
    """Return the most that was ever resident."""
    # ``ru_maxrss`` would do, but on Linux it begins with what the parent had before this program was loaded.
    return _status("VmHWM:") or _maxrss()


def resident_bytes() -> int:
    """Return what is resident now; where the system does not say, the most that ever was."""
    return _status("VmRSS:") or _maxrss()


def _status(name: str) -> int:
    if not os.path.exists(_STATUS):
        return 0
    with open(_STATUS) as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _maxrss() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
