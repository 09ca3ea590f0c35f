"""How long to wait before the next attempt."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffPolicy:
    """Exponential delays with equal jitter; all figures are seconds.

    `longest_wish` is the longest wait that the other side may impose. A wish beyond it is no pacing but an outage: it
    is cut to this, so that we notice when the other side changes its mind.
    """

    initial: float = 0.5
    maximum: float = 60.0
    factor: float = 2.0
    longest_wish: float = 120.0

    def __post_init__(self) -> None:
        if not (0 < self.initial <= self.maximum and self.factor >= 1 and self.longest_wish > 0):
            raise ValueError(f"not a backoff policy: {self}")

    def delay(self, attempt: int, *, retry_after: float | None = None, jitter: float) -> float:
        """Seconds to wait after failed attempt number `attempt` (0 for the first). `jitter`: uniform in [0, 1).

        A wish (`retry_after`) wins over the schedule and is never undercut; it is exceeded by up to its double or
        `initial` seconds, whichever is less, because everybody who was told to come back at one moment would otherwise
        do so. Without a positive wish the delay lies in [half, whole) of min(maximum, initial * factor ** attempt).
        """
        if retry_after is not None and retry_after > 0:
            wish = min(retry_after, self.longest_wish)
            return wish + min(self.initial, wish) * jitter
        # The exponent is bounded because a float power overflows long before an outage has to end.
        whole = min(self.maximum, self.initial * self.factor ** min(attempt, 64))
        return whole * (0.5 + jitter / 2)
