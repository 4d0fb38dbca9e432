"""
What a provider's WebSocket mode allows.

Providers speak the same protocol with different limits. What is not known of a host is assumed to be the least that
all of them offer.
"""

from __future__ import annotations

import attrs


__all__ = ["Capabilities"]


@attrs.frozen(kw_only=True)
class Capabilities:
    """
    Limits of one provider.

    Attributes:
        lanes: Whether turns may run side by side on one connection; None if that is not known.
        max_active: Turns that run at once on a connection with lanes.
        max_lanes: Lane names that a connection takes in its life.
        steering: Whether a running response may be steered; None if that is not known.
        max_age: Seconds that a connection may live.
        max_frame_bytes: The longest message that the provider takes; a longer one is refused here, before it is sent.
    """

    lanes: bool | None = None
    max_active: int = 1
    max_lanes: int = 0
    steering: bool | None = None
    max_age: float = 60 * 60.0
    # Measured at OpenAI, to the byte; other hosts are given the same until they are known better (inferred).
    max_frame_bytes: int = 16 * 2**20

    def rotate_after(self, fraction: float) -> float:
        """
        Return the seconds after which a connection is replaced, before the server ends it: 55 minutes of 60.

        Args:
            fraction: A random number from 0 to 1, which takes up to a twentieth off.
        """
        return self.max_age * (11 / 12) * (1 - fraction / 20)

    @classmethod
    def of(cls, host: str) -> Capabilities:
        """Return what is known of a host, such as ``api.openai.com``."""
        host = host.lower().rstrip(".")
        for suffix, known in _KNOWN.items():
            if host == suffix or host.endswith("." + suffix):
                return known
        return cls()


_KNOWN = {
    # Regional hosts too, such as eu.api.openai.com.
    "api.openai.com": Capabilities(lanes=True, max_active=16, max_lanes=32, steering=True),
    # Their pages document one turn at a time.
    "openai.azure.com": Capabilities(lanes=False),
    "api.x.ai": Capabilities(lanes=False, steering=False, max_age=25 * 60.0),
    "ai-gateway.vercel.sh": Capabilities(
        lanes=False, steering=False, max_age=13 * 60.0, max_frame_bytes=4 * 2**20
    ),
}
