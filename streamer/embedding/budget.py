"""How much may be spent with a provider by day, by month and in all, and how much has been.

What a call may cost is put down before it is made and corrected when its answer says what it did cost. So a process
that is killed has spent too much by what it had in flight, never too little, and processes that share a ledger never
pass a limit together, but for what an answer counts beyond our estimate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf

from streamer.embedding.prices import MILLION, NANO, Price, usd, usd_text
from streamer.protocols import Ceiling, Cost, SpendLedger
from streamer.telemetry.waiting import Waiting

SHARES = 20  # requests larger than this share of a limit would leave too much of it unused
TOTAL = "total"  # a period without end
_SECONDS = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendLimits:
    """The most in a day and in a month, in UTC, and in all; None: any amount. `keeps_total`: whether what it comes to
    in all is counted without a limit, too."""

    usd_per_day: float | None = None
    usd_per_month: float | None = None
    usd_total: float | None = None
    tokens_per_day: int | None = None
    requests_per_day: int | None = None
    keeps_total: bool = False

    @property
    def any(self) -> bool:
        in_usd = (self.usd_per_day, self.usd_per_month, self.usd_total)
        return any(limit is not None for limit in (*in_usd, self.tokens_per_day, self.requests_per_day))

    def ceilings(self, day: str, month: str) -> dict[str, Ceiling]:
        """By period, for a ledger."""
        ceilings = {
            day: Ceiling(self.tokens_per_day, _nano(self.usd_per_day), self.requests_per_day),
            month: Ceiling(None, _nano(self.usd_per_month)),
        }
        if self.usd_total is None and not self.keeps_total:
            return ceilings
        return {**ceilings, TOTAL: Ceiling(None, _nano(self.usd_total))}


@dataclass(frozen=True, slots=True)
class Periods:
    """The day and the month that a moment belongs to, as a ledger names them, and when they end (UTC)."""

    day: str
    month: str
    day_ends: datetime
    month_ends: datetime


def periods_at(now: float) -> Periods:
    """`now`: seconds since the epoch."""
    moment = datetime.fromtimestamp(now, UTC)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    next_month = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    return Periods(f"{moment:%Y-%m-%d}", f"{moment:%Y-%m}", midnight + timedelta(days=1), next_month)


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a call may cost, and where that was put down. `is_booked`: not so while the ledger cannot be used."""

    cost: Cost
    periods: tuple[str, ...]
    is_booked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendStatistics:
    """Of this process since its start, and of all that share its store, as far as this process has seen."""

    usd_total: float | None = field(metadata={"help": "US dollars that calls of this process cost, by list price."})
    day_usd: float | None = field(metadata={"help": "US dollars spent today (UTC) by all processes of the store."})
    month_usd: float | None = field(metadata={"help": "US dollars spent this month (UTC) by all of the store."})
    day_tokens: int = field(metadata={"help": "Tokens billed today (UTC) to all processes of the store."})
    day_requests: int = field(metadata={"help": "Requests sent today (UTC) by all processes of the store."})
    limit_reached: bool = field(metadata={"help": "Whether intake pauses because a spend limit is reached."})


class Budget:
    """Asked before each call and told after it. `price` None: unknown, so only tokens are counted. `ledger` None:
    nothing is kept over a restart, and there may be no limits. `clock`: seconds since the epoch."""

    def __init__(
        self,
        ledger: SpendLedger | None,
        *,
        price: Price | None,
        limits: SpendLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._price = price
        self._limits = limits or SpendLimits()
        self._clock = clock
        self._spent: Mapping[str, Cost] = {}
        self._own = Cost()
        self._open = 0  # reservations
        self._refused: str | None = None
        self._refused_since = 0.0
        self._refused_until = inf

    @property
    def price(self) -> Price | None:
        return self._price

    def request_tokens(self) -> float:
        """The most tokens that one request should hold, so that nearly all of a limit can be used."""
        limits, price = self._limits, self._price
        usd_per_token = price.usd_per_million_tokens / MILLION if price is not None else 0.0
        amounts = [limits.usd_per_day, limits.usd_per_month, limits.usd_total] if usd_per_token > 0 else []
        most = [amount / usd_per_token for amount in amounts if amount is not None]
        return max(1.0, min([*most, limits.tokens_per_day or inf]) / SHARES)

    async def reserve(self, tokens: float) -> Reservation | None:
        """Put down what a call of so many tokens may cost; None when that is not allowed now, and `state` tells why."""
        cost, periods = self._cost(tokens), periods_at(self._clock())
        ceilings = self._limits.ceilings(periods.day, periods.month)
        booking = None
        if self._ledger is not None:
            booking = await self._ledger.reserve(cost, ceilings)
        if booking is not None:
            self._spent = booking.spent
        elif self._limits.any:
            self._refuse("spend cannot be counted since <since>: the store of the cache cannot be written", inf)
            return None
        if booking is None or booking.is_booked:
            self._refused = None
            self._open += 1
            return Reservation(cost, tuple(ceilings), booking is not None)
        if not self._open:  # what is in flight may turn out to cost less
            self._refuse(*self._reached(cost, periods))
        return None

    def abandon(self, reservation: Reservation) -> None:
        """The call ended without a word, as when its caller was cancelled: its estimate counts."""
        self._open -= 1
        self._own += reservation.cost

    async def settle(self, reservation: Reservation, tokens: float | None) -> None:
        """The call is over; it was billed for `tokens` (None: nobody says, so the estimate counts)."""
        await self._settle(reservation, reservation.cost if tokens is None else self._cost(tokens))

    async def release(self, reservation: Reservation) -> None:
        """The call was not made."""
        await self._settle(reservation, Cost())

    async def _settle(self, reservation: Reservation, cost: Cost) -> None:
        self._open -= 1
        self._own += cost
        difference = cost - reservation.cost if reservation.is_booked else cost
        if self._ledger is not None and difference != Cost():
            spent = await self._ledger.settle(difference, reservation.periods)
            self._spent = spent or self._spent

    def state(self) -> str | None:
        """Why no call may be made now; None when one may."""
        if self._refused is None or self._clock() >= self._refused_until:
            return None
        since = f"{datetime.fromtimestamp(self._refused_since, UTC):{_SECONDS}}"
        return self._refused.replace("<since>", since)

    def waiting(self) -> Waiting | None:
        """The same, as one word and with its end."""
        text, until = self.state(), self._refused_until
        return None if text is None else Waiting("spend_limit", text, None if until == inf else until)

    def statistics(self) -> SpendStatistics:
        periods = periods_at(self._clock())
        day, month = (self._spent.get(name, Cost()) for name in (periods.day, periods.month))
        has_price = self._price is not None
        return SpendStatistics(
            usd_total=usd(self._own) if has_price else None,
            day_usd=usd(day) if has_price else None,
            month_usd=usd(month) if has_price else None,
            day_tokens=day.tokens,
            day_requests=day.requests,
            limit_reached=self.state() is not None,
        )

    def _cost(self, tokens: float) -> Cost:
        return (self._price or Price(0.0)).cost(tokens) + Cost(requests=1)

    def _refuse(self, reason: str, until: float) -> None:
        if self.state() is None:
            self._refused_since = self._clock()
        self._refused, self._refused_until = reason, until

    def _reached(self, cost: Cost, periods: Periods) -> tuple[str, float]:
        """Which limit does not admit this cost, and until when; the one that is longest in the way, if several."""
        limits = self._limits
        day, month, total = (self._spent.get(name, Cost()) for name in (periods.day, periods.month, TOTAL))
        if limits.usd_total is not None and not Ceiling(None, _nano(limits.usd_total)).admits(total, cost):
            what = f"{usd_text(usd(total))} of {usd_text(limits.usd_total)} in all"
            return f"spend limit reached since <since>: {what} (provider.max_spend)", inf
        if limits.usd_per_month is not None and not Ceiling(None, _nano(limits.usd_per_month)).admits(month, cost):
            what = f"{usd_text(usd(month))} of {usd_text(limits.usd_per_month)} a month"
            return _sentence(what, "max_spend_per_month", periods.month_ends)
        if limits.usd_per_day is not None and not Ceiling(None, _nano(limits.usd_per_day)).admits(day, cost):
            what = f"{usd_text(usd(day))} of {usd_text(limits.usd_per_day)} a day"
            return _sentence(what, "max_spend_per_day", periods.day_ends)
        if limits.tokens_per_day is not None and not Ceiling(limits.tokens_per_day).admits(day, cost):
            what = f"{day.tokens:,} of {limits.tokens_per_day:,} tokens a day"
            return _sentence(what, "max_tokens_per_day", periods.day_ends)
        what = f"{day.requests:,} of {limits.requests_per_day:,} requests a day"
        return _sentence(what, "max_requests_per_day", periods.day_ends)


def _sentence(what: str, setting: str, until: datetime) -> tuple[str, float]:
    said = f"spend limit reached since <since>, until {until:{_SECONDS}}: {what} (provider.{setting})"
    return said, until.timestamp()


def _nano(amount: float | None) -> int | None:
    return None if amount is None else round(amount * NANO)
