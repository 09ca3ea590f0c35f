"""What one account may send: its limits per minute taken together, the pauses imposed on it, and its own reports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from streamer.embedding.rate_limit import WINDOW, RateLimit, Usage

ENOUGH_TO_LEARN = 20  # requests in the window; a refusal after fewer says more about the moment than about the limit
FEWEST_REQUESTS_A_WINDOW = 64  # requests larger than this share of the token limit would leave too much of it unused

GROWTH_OF_A_GUESS = (
    0.25  # per window, of a ceiling learned from a burst: its first seconds tell less than a whole window
)

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Ticket:
    """One call's share of every limit, in the order requests, tokens, items. `used`: our own usage with it."""

    costs: tuple[float, float, float]
    usages: tuple[Usage, Usage, Usage]
    used: tuple[float, float, float]


class Quota:
    """The limits that all calls to one account share. A call takes its share of each of them, or of none.

    A limit that is None is unknown: it is learned from refusals and from what the vendor announces in its headers.
    """

    def __init__(
        self,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        items_per_minute: float | None = None,
        window: float = WINDOW,
    ) -> None:
        self._window = window
        self._requests = RateLimit(requests_per_minute, window=window)
        self._tokens = RateLimit(tokens_per_minute, window=window)
        self._items = RateLimit(items_per_minute, window=window)
        self._limits = (self._requests, self._tokens, self._items)
        self._paused_until = -inf
        self._lesson: tuple[float, float, float] | None = None  # what was in the window when refusals began
        self._doubted_at = -inf

    @property
    def is_known(self) -> bool:
        """Whether any limit was configured or announced, so that calls are paced rather than feeling their way."""
        return any(limit.limit != inf for limit in self._limits)

    @property
    def limits(self) -> tuple[float | None, float | None, float | None]:
        """As configured or announced, of requests, tokens and items a minute; None while unknown."""
        requests, tokens, items = (None if limit.limit == inf else limit.limit for limit in self._limits)
        return requests, tokens, items

    def keep_to(self, share: float) -> None:
        """From now on this process uses at most this part of each limit."""
        for limit in self._limits:
            limit.share = share

    @property
    def paused_until(self) -> float:
        """The end of the pause that was asked for last; it may lie in the past."""
        return self._paused_until

    def request_tokens(self) -> float:
        """The most tokens that one request should hold so that the token limit can be used up.

        No call is sent in parts, so what is left of the window when the next one does not fit is lost. An even share
        per permitted request is always allowed: smaller ones would run into the request limit.
        """
        tokens = self._tokens.limit
        return tokens if tokens == inf else max(tokens / FEWEST_REQUESTS_A_WINDOW, tokens / self._requests.limit)

    def wait(self, tokens: float, items: int, now: float) -> float:
        """Seconds until a call of this size may go, 0.0 for now. Takes nothing."""
        if now < self._paused_until:
            return self._paused_until - now
        return max(
            self._requests.wait(1.0, now),
            self._tokens.wait(tokens, now),
            self._items.wait(float(items), now),
        )

    def take(self, tokens: float, items: int, now: float) -> Ticket:
        """Spend a call's share. The caller has asked `wait`."""
        costs = (1.0, float(tokens), float(items))
        requests, tokens_, items_ = (limit.take(cost, now) for limit, cost in zip(self._limits, costs, strict=True))
        return Ticket(costs, (requests, tokens_, items_), (self._requests.used, self._tokens.used, self._items.used))

    def correct(self, ticket: Ticket, tokens: float) -> None:
        """The vendor counted `tokens` instead of our estimate."""
        self._tokens.correct(ticket.usages[1], tokens - ticket.costs[1])

    def pause(self, until: float) -> None:
        """Nothing may be sent before `until`; a shorter pause never ends a longer one."""
        self._paused_until = max(self._paused_until, until)

    def refused(self, ticket: Ticket, now: float, *, persists: bool) -> None:
        """The call was over some limit. Nobody says which: a known one that is half used or more is the first suspect,
        else every one learns.

        A server that takes only so many calls at once, or that is overloaded for a moment, refuses in the same words.
        Only a refusal that `persists`, with nothing accepted since the last ones, or one after a whole window of usage
        may say something about a rate. Where none is known, the next call that is `accepted` decides; unless it was
        so a short while ago, and calls are refused again.
        """
        spans = self._requests.spans_window(now)
        teaches = self._requests.used >= ENOUGH_TO_LEARN and (persists or spans)
        suspects = [limit for limit in self._limits if limit.limit != inf and limit.used >= limit.limit / 2]
        believed = suspects or (spans and now - self._doubted_at < self._window)
        for limit, usage, cost in zip(self._limits, ticket.usages, ticket.costs, strict=True):
            limit.correct(usage, -cost)
            if teaches and believed and (not suspects or limit in suspects):
                limit.learn(usage.at)
        if teaches and not believed and self._lesson is None:
            self._lesson = (self._requests.used, self._tokens.used, self._items.used)

    def accepted(self, now: float) -> None:
        """A call was taken. If refusals came before it that a limit per window would explain, then that limit would
        not have let it pass while most of what it had counted still counts."""
        lesson, self._lesson = self._lesson, None
        if lesson is None:
            return
        if self._requests.used_at(now) > lesson[0] / 2:
            self._doubted_at = now
            return
        for limit, used in zip(self._limits, lesson, strict=True):
            limit.learn(now, used, growth=GROWTH_OF_A_GUESS)

    def observe(self, ticket: Ticket, headers: Mapping[str, str], now: float) -> None:
        """Obey `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` of the answer to `ticket`'s call."""
        for index, name in ((0, "requests"), (1, "tokens")):
            remaining = _number(headers.get(f"x-ratelimit-remaining-{name}"))
            if remaining is None:
                continue
            limit = _number(headers.get(f"x-ratelimit-limit-{name}"))
            reset = seconds(headers.get(f"x-ratelimit-reset-{name}"))
            if reset is None:
                reset = self._window
            self._limits[index].observe(limit, remaining, reset, ticket.used[index], now)
            if remaining < 1 and self._limits[index].limit == inf:
                self.pause(now + min(reset, self._window))


def seconds(text: str | None) -> float | None:
    """A duration as vendors write it: `6m0s`, `59.2ms`, `1h2m`, or bare seconds. None for anything else."""
    if text is None:
        return None
    text = text.strip()
    number = _number(text)
    if number is not None:
        return number
    parts = _DURATION.findall(text)
    if not parts or "".join(amount + unit for amount, unit in parts) != text:
        return None
    return sum(float(amount) * _SECONDS[unit] for amount, unit in parts)


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < inf else None
