"""How much may be sent, and how many calls may be open at once. Nothing here reads a clock: `now` is an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf

WINDOW = 60.0  # vendors state their limits per minute
SLACK = 1 / 60  # of a window: calls sent a window apart may arrive closer together, so count each this much longer
RESOLUTION = 1 / 240  # of a window: usage closer together is remembered as one, at its latest moment
BURST = 1 / 60  # of a window's worth may be sent at once: vendors also police spans shorter than the minute
LEARNED_SHARE = 0.97  # of what the last window accepted before a refusal
FIRST_GROWTH = 0.01  # per window without a refusal, doubled each time


@dataclass(slots=True)
class Usage:
    """What was taken between `since` and `at`. `live`: still inside the window."""

    since: float
    at: float
    cost: float
    live: bool = True


class RateLimit:
    """At most `limit` in every window of `window` seconds, wherever it begins, and evenly spread.

    Two conditions guard it. A meter (GCRA with a burst of one second's worth) spreads usage; alone it admits burst +
    rate x window, which is over the limit by the burst. Hence a log of the last window, with a slack for calls that
    the network bunches up: it keeps the limit even where a single cost is worth many seconds. A caller that always has
    work uses at least 97 % of the limit, provided that its costs are small against it.

    `share`: what part of the ceiling to keep to, where other processes use the same account and nobody counts for all.

    `limit` None: unknown. Nothing is held back until `learn` or `observe` sets a ceiling.
    """

    def __init__(self, limit: float | None = None, *, window: float = WINDOW) -> None:
        if limit is not None and limit <= 0:
            raise ValueError(f"a rate limit must be positive, not {limit}")
        self._limit = inf if limit is None else float(limit)
        self._window = window
        self._horizon = window * (1 + SLACK)
        self._log: deque[Usage] = deque()
        self._used = 0.0
        self._next = -inf  # when the meter is level again
        self._learned = inf
        self._growth = FIRST_GROWTH
        self._grown_at = -inf
        self.share = 1.0  # of the limit, for this process
        self._others_used = 0.0  # spent on our account by somebody else, until then
        self._others_until = -inf

    @property
    def limit(self) -> float:
        """As configured or announced; infinite while unknown."""
        return self._limit

    @property
    def ceiling(self) -> float:
        """What is kept to at present: the limit, or less where refusals taught that."""
        return min(self._limit, self._learned)

    @property
    def used(self) -> float:
        """Taken within the last window."""
        return self._used

    def wait(self, cost: float, now: float) -> float:
        """Seconds until `cost` may be taken, 0.0 for now. Takes nothing, so ask again after waiting."""
        self._forget(now)
        ceiling = self.ceiling * self.share
        if ceiling == inf:
            return 0.0
        # More than the ceiling never fits: it goes alone, into an empty window.
        delay = self._until_used(ceiling - min(cost, ceiling), now)
        if now < self._others_until:
            room = self._limit - self._others_used - cost
            delay = max(delay, min(self._others_until - now, self._until_used(room, now)))
        return max(delay, self._next - now - self._window * BURST)

    def _until_used(self, at_most: float, now: float) -> float:
        """Seconds until so much of our usage has left the window that no more than `at_most` remains."""
        excess = self._used - at_most - 1e-9 * self.ceiling
        if excess <= 0:
            return 0.0
        for usage in self._log:
            excess -= usage.cost
            if excess <= 0:
                return usage.at + self._horizon - now
        return inf

    def take(self, cost: float, now: float) -> Usage:
        """Spend `cost`. The caller has asked `wait`; the result is for `correct`."""
        self._forget(now)
        last = self._log[-1] if self._log else None
        if last is not None and now - last.since < self._window * RESOLUTION:
            last.at = now
            last.cost += cost
        else:
            last = Usage(now, now, cost)
            self._log.append(last)
        self._used += cost
        self._meter(max(self._next, now), cost)
        return last

    def reserve(self, cost: float, now: float) -> float:
        """Take `cost` if there is room, returning 0.0; else take nothing and return the seconds to wait."""
        delay = self.wait(cost, now)
        if delay == 0.0:
            self.take(cost, now)
        return delay

    def correct(self, usage: Usage, difference: float) -> None:
        """The cost turned out higher (positive) or lower (negative) than what was taken."""
        self._meter(self._next, difference)
        # Booked where it was taken: anywhere newer, a refund would outlive the usage that it refunds.
        if usage.live:
            usage.cost += difference
            self._used += difference

    def used_at(self, now: float) -> float:
        """Taken within the window that ends now."""
        self._forget(now)
        return self._used

    def spans_window(self, now: float) -> bool:
        """Whether usage goes back about a whole window, so that it tells a rate and not just a beginning."""
        self._forget(now)
        return bool(self._log) and now - self._log[0].since >= 0.9 * self._window

    def learn(self, now: float, used: float | None = None, *, growth: float = FIRST_GROWTH) -> None:
        """The other side refused a call (take its cost back first): what is in the window, or was (`used`), is about
        all that it accepts.

        The ceiling drops to just below that and creeps up again, ever faster, while nothing is refused.
        """
        self._learned = max(min(self.ceiling, LEARNED_SHARE * (self._used if used is None else used)), 1.0)
        self._growth = growth
        self._grown_at = max(now, self._grown_at)

    def observe(self, limit: float | None, remaining: float, reset: float, used_then: float, now: float) -> None:
        """What the other side says about our account; it may lower what we take, never raise it.

        `remaining` of `limit` (None: not said) was left when we had used `used_then` ourselves; all of it is back in
        `reset` seconds. Where we thought that there was more, the difference was spent by others and counts until then.
        """
        if limit is not None and limit > 0:
            self._limit = min(self._limit, limit)
        if self._limit == inf:
            return
        # An account that has more to give than refusals have taught was only crowded then.
        self._learned = max(self._learned, used_then + remaining)
        self._others_used = max(0.0, self._limit - used_then - remaining)
        self._others_until = now + reset if self._others_used else -inf

    def _forget(self, now: float) -> None:
        start = now - self._horizon
        while self._log and self._log[0].at <= start:
            usage = self._log.popleft()
            usage.live = False
            self._used -= usage.cost
        if not self._log:
            self._used = 0.0  # sheds what rounding left behind
        # Grow only when the ceiling was in the way: an idle hour proves nothing about it.
        if self._learned < self._limit and now - self._grown_at >= self._window:
            self._grown_at = now
            if self._used >= 0.9 * self._learned:
                self._learned *= 1 + self._growth
                self._growth = min(1.0, 2 * self._growth)

    def _meter(self, level_at: float, cost: float) -> None:
        if self.ceiling != inf:
            self._next = level_at + cost * self._window / (self.ceiling * self.share)


class AimdLimit:
    """How many calls may be open at once: more after successes, a tenth fewer after a drop, in [1, maximum].

    The cut and the rule that at least half must be in use to grow (a quiet hour would otherwise open it wide) are those
    of Netflix's AIMDLimit. Growth is one per success until the first drop, then one per `limit` successes, as in TCP,
    and ten times slower where the last drop happened, so that looking for more costs few refusals.
    """

    def __init__(self, maximum: int, *, initial: int | None = None, ratio: float = 0.9) -> None:
        if maximum < 1 or not 0 < ratio < 1:
            raise ValueError(f"not a concurrency limit: maximum {maximum}, ratio {ratio}")
        self._maximum = maximum
        self._ratio = ratio
        self._dropped_at = inf
        self._credit = 0.0
        self.limit = max(1, min(maximum, initial if initial is not None else maximum))

    def on_success(self, in_flight: int) -> None:
        """A call was answered while `in_flight` calls were open, itself included."""
        if 2 * in_flight < self.limit:
            return
        if self._dropped_at == inf:
            self._credit = 1.0
        else:
            self._credit += (1.0 if self.limit + 1 < self._dropped_at else 0.1) / self.limit
        if self._credit >= 1:
            self._credit = 0.0
            self.limit = min(self._maximum, self.limit + 1)

    def on_dropped(self) -> None:
        """A call was refused for load or timed out. Calls that were open together make one drop, not one each."""
        self._dropped_at = self.limit
        self._credit = 0.0
        self.limit = max(1, min(self.limit - 1, int(self.limit * self._ratio)))
