"""What a stream will cost and how long its backlog will take, at the rate and price of today."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from streamer.embedding.prices import Price, usd, usd_text

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """`usd_per_day` and `backlog_usd` are None where no price is known; `backlog_seconds` is infinite where more
    arrives than is done, and None where nobody knows how much is done."""

    tokens_per_day: int
    usd_per_day: float | None
    backlog_events: int
    backlog_tokens: int
    backlog_usd: float | None
    backlog_seconds: float | None

    def __str__(self) -> str:
        parts = []
        if self.usd_per_day is not None:
            parts.append(f"at this rate {_rounded(self.usd_per_day)} a day")
        elif self.tokens_per_day:
            parts.append(f"at this rate {self.tokens_per_day:,} tokens a day")
        if self.backlog_events:
            parts.append(f"the backlog of {self.backlog_events:,} events {self._backlog()}")
        return "; ".join(parts)

    def _backlog(self) -> str:
        costs = f"costs {_rounded(self.backlog_usd)}" if self.backlog_usd is not None else ""
        if self.backlog_seconds is None:
            takes = ""
        elif self.backlog_seconds == inf:
            takes = "grows: more arrives than is done"
        else:
            takes = f"takes {duration(self.backlog_seconds)}"
        return " and ".join(filter(None, [costs, takes])) or f"has {self.backlog_tokens:,} tokens"


def outlook(
    *, rate: float, tokens: float, price: Price | None, backlog: int = 0, capacity: float | None = None
) -> Outlook:
    """`rate`: events that arrive in a second; `tokens`: billed for an event in the mean, those that the cache answers
    included; `backlog`: events that wait; `capacity`: events that all workers do in a second, None if unknown."""
    daily, waiting = rate * tokens * DAY_SECONDS, backlog * tokens
    seconds: float | None = None
    if capacity is not None:
        seconds = 0.0 if not backlog else backlog / (capacity - rate) if capacity > rate else inf
    return Outlook(
        tokens_per_day=round(daily),
        usd_per_day=None if price is None else usd(price.cost(daily)),
        backlog_events=backlog,
        backlog_tokens=round(waiting),
        backlog_usd=None if price is None else usd(price.cost(waiting)),
        backlog_seconds=seconds,
    )


def duration(seconds: float) -> str:
    """For a person: `40 s`, `12 min`, `9 h`, `3 days`."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    for unit, size in (("days", DAY_SECONDS), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"


def _rounded(amount: float) -> str:
    return f"{amount:,.0f} USD" if amount >= 10 else usd_text(amount)
