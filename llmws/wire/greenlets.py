"""
gevent, where a program uses it: a session must not begin with threads and go on with greenlets.

Threads, locks, sockets and selectors are looked up in their modules when they are needed, so a session works with
whatever is there at its first turn: it does not matter whether llmws was imported, or the session made, before gevent
patched these modules. It matters whether its I/O thread was running by then: that one stays a real thread, and what it
starts from then on, a dial or callbacks, would be greenlets that nobody ever switches to.
"""

from __future__ import annotations

import sys

from ..errors import ConfigurationError


__all__ = ["Greenlets"]

# The I/O thread needs them all to be of one kind: a greenlet in a real ``select`` stops every other greenlet, and a
# selector of gevent serves the greenlets of the one thread that made it.
_TOGETHER = ("threading", "socket", "select")


class Greenlets:
    """
    What gevent has done to the process, as one session sees it.

    Costs a look at ``sys.modules`` where gevent is not imported. Safe to call from any thread.
    """

    __slots__ = ("_began_with_threads",)

    def __init__(self) -> None:
        self._began_with_threads = False

    def check(self) -> None:
        """
        Note what the session's threads are, and refuse a turn that could not work.

        Raises:
            ConfigurationError: gevent has patched a part of what it must patch together, or has patched since the
                first call.
        """
        is_patched = getattr(sys.modules.get("gevent.monkey"), "is_module_patched", None)
        patched = [name for name in _TOGETHER if is_patched(name)] if is_patched else []
        if not patched:
            self._began_with_threads = True
        elif len(patched) < len(_TOGETHER):
            missing = ", ".join(name for name in _TOGETHER if name not in patched)
            raise ConfigurationError(
                f"gevent has patched {', '.join(patched)} but not {missing}, and llmws needs them to be of one kind: "
                "call gevent.monkey.patch_all() without leaving any out, before everything else."
            )
        elif self._began_with_threads:
            raise ConfigurationError(
                "gevent has patched this process after the session's first turn, and the threads that it runs on do "
                "not work with greenlets: call gevent.monkey.patch_all() before everything else, or close the session "
                "before it and open a new one after it."
            )
