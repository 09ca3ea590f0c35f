"""When the next call to a provider may go out: the one place that all calls to an account pass through.

It knows nothing of texts and vectors. It holds back calls for five reasons: as many are open as the concurrency limit
allows, a limit per minute is used up, the provider asked for a pause, the budget is spent, or the account is blocked.
In the last case one call at a time goes out to see whether a person has mended it, and all others wait for that one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf

import anyio

from streamer.embedding.backoff import BackoffPolicy
from streamer.embedding.budget import Budget, Reservation
from streamer.embedding.quota import Quota, Ticket
from streamer.embedding.rate_limit import AimdLimit
from streamer.errors import ProviderBlocked, RateLimited, RetriableError, SpendLimitReached
from streamer.protocols import SharedQuota, Turn
from streamer.telemetry.waiting import Reason, Waiting

FIRST_GUESS = 10  # open calls, while no limit is known
DOWN_AFTER = 3  # failed calls in a row
PERSISTENT = 2  # refusals in a row, each after a longer pause than the one before
SHORTEST_WAIT = 0.001  # below it a clock may not advance at all
SPEND_LOOK_SECONDS = 4.0  # how often it is seen whether more may be spent: a day may begin, another process may settle


@dataclass(slots=True)
class Call:
    """One call that was let through. `is_probe`: everybody else waits for its outcome. `reservation`: its share of the
    budget, until what it cost is known."""

    ticket: Ticket
    started: float
    is_probe: bool
    reservation: Reservation | None = None
    turn: Turn | None = None


class Gate:
    """Lets calls through one at a time, first come first served, so that large ones are not starved by small ones.

    `backoff`: after a call that failed; `pausing`: of all calls, after one that was refused for its rate, by default
    the same; `probing`: while the account is blocked. With `waits_when_blocked` off, a call to a blocked account is
    refused with ProviderBlocked, but for one that may see whether it has been mended; and with SpendLimitReached where
    the budget is spent.
    """

    def __init__(
        self,
        quota: Quota,
        *,
        concurrency: int,
        backoff: BackoffPolicy,
        pausing: BackoffPolicy | None = None,
        probing: BackoffPolicy,
        random: Callable[[], float],
        waits_when_blocked: bool = True,
        budget: Budget | None = None,
        shared: SharedQuota | None = None,
    ) -> None:
        self._quota = quota
        self._shared = shared
        self._budget = budget
        self._backoff = backoff
        self._pausing = pausing or backoff
        self._probing = probing
        self._random = random
        self._waits_when_blocked = waits_when_blocked
        self._aimd = AimdLimit(concurrency, initial=None if quota.is_known else FIRST_GUESS)
        self._slots = anyio.CapacityLimiter(self._aimd.limit)
        self._turn = anyio.Lock()
        self._news = anyio.Event()
        self._dropped_at = -inf
        self._refusals = 0  # in a row, counting those of calls that were open together once
        self._failures = 0  # in a row
        self._last_error = ""
        self._refused_last = False
        self._blocked: str | None = None
        self._blocked_by: Reason = "provider_blocked"
        self._retry_at = -inf  # when the last call that failed may be made again
        self._probes = 0
        self._probe_at = -inf
        self.in_flight = 0

    def __repr__(self) -> str:
        problem = f"blocked: {self._blocked}" if self._blocked is not None else f"{self._failures} failures in a row"
        return f"<Gate: {self.in_flight} of {self._aimd.limit} calls open, {problem}>"

    def state(self) -> str | None:
        """Why calls are held back, in words for a person; None when all is well."""
        waiting = self.waiting()
        return None if waiting is None else waiting.text

    def waiting(self) -> Waiting | None:
        """The same, with when the next call may go out."""
        if self._blocked is not None:
            return Waiting(self._blocked_by, f"blocked: {self._blocked}", self._wall_time(self._probe_at))
        if self._budget is not None and (spent := self._budget.waiting()) is not None:
            return spent
        paused_until = self._quota.paused_until
        if paused_until > anyio.current_time():
            until = self._wall_time(paused_until) or 0.0
            words = f"{datetime.fromtimestamp(until, UTC):%Y-%m-%dT%H:%M:%SZ}"
            return Waiting("provider_rate_limited", f"rate limited until {words}: {self._last_error}", until)
        if self._failures and self._refused_last:  # the pause is over, but no call has been answered since
            return Waiting("provider_rate_limited", f"rate limited: {self._last_error}")
        if self._failures >= DOWN_AFTER:
            return Waiting("provider_down", f"down: {self._last_error}", self._wall_time(self._retry_at))
        return None

    def _wall_time(self, at: float) -> float | None:
        """Seconds since the epoch of a time to come by the loop's clock; None when it is past."""
        left = at - anyio.current_time()
        return datetime.now(UTC).timestamp() + left if left > 0 else None

    @asynccontextmanager
    async def admit(self, tokens: float, items: int) -> AsyncIterator[Call]:
        """Wait until a call of this size may go out, and count it as open until the block ends."""
        borrower = object()
        await self._slots.acquire_on_behalf_of(borrower)
        try:
            await self._turn.acquire()
            has_turn = True
            try:
                reservation, turn = await self._wait_for_room(tokens, items)
                now = anyio.current_time()
                call = Call(self._quota.take(tokens, items, now), now, self._blocked is not None, reservation, turn)
                if not call.is_probe:  # a probe keeps its turn, and thereby everybody else waiting
                    self._turn.release()
                    has_turn = False
                self.in_flight += 1
                try:
                    yield call
                finally:
                    self.in_flight -= 1
                    if self._budget is not None and call.reservation is not None:
                        self._budget.abandon(call.reservation)
            finally:
                if has_turn:
                    self._turn.release()
        finally:
            self._slots.release_on_behalf_of(borrower)

    async def paid(self, call: Call, tokens: float | None) -> None:
        """What the call was billed for, whatever came of it; None: nobody says, so the estimate counts."""
        reservation, call.reservation = call.reservation, None
        if self._budget is not None and reservation is not None:
            await self._budget.settle(reservation, tokens)
            self._news.set()

    def refused(self) -> None:
        """The provider refused what the call asked for. That shows that it is there, not that a block is over."""
        self._answered()
        self._news.set()

    def answered(self, call: Call, *, tokens: float | None, headers: Mapping[str, str] | None) -> None:
        """The provider took the call; it counted `tokens` (None: did not say)."""
        self._answered()
        if self._blocked is None or call.is_probe:
            self._blocked = None
            self._probes = 0
        if tokens is not None:
            if self._shared is not None and call.turn is not None:
                self._shared.correct(call.turn, (0.0, tokens - call.ticket.costs[1], 0.0), self._quota.limits)
            self._quota.correct(call.ticket, tokens)
        if headers:
            self._quota.observe(call.ticket, headers, anyio.current_time())
        self._news.set()

    def _answered(self) -> None:
        self._failures = self._refusals = 0
        self._quota.accepted(anyio.current_time())
        self._aimd.on_success(self.in_flight)
        self._slots.total_tokens = self._aimd.limit

    async def failed(self, call: Call, error: RetriableError, attempt: int) -> None:
        """The call failed for no fault of its texts. Returns when this caller may queue for attempt `attempt` + 1.

        A pause or a block holds back everybody; any other failure only the caller, who keeps its place among the open
        calls meanwhile: a provider in trouble gets fewer calls, not more.
        """
        now = anyio.current_time()
        self._last_error = str(error)
        self._refused_last = isinstance(error, RateLimited)
        self._failures += 1
        is_first = call.started > self._dropped_at
        wish = error.retry_after
        if isinstance(error, ProviderBlocked) or (wish is not None and wish > self._backoff.longest_wish):
            self._block(call, error, now)
            return
        if is_first:
            self._dropped_at = now
            self._aimd.on_dropped()
            self._slots.total_tokens = self._aimd.limit
        if isinstance(error, RateLimited):
            self._quota.refused(call.ticket, now, persists=self._refusals >= PERSISTENT)
            self._quota.pause(now + self._pausing.delay(self._refusals, retry_after=wish, jitter=self._random()))
            self._refusals += is_first
            self._news.set()
            return
        delay = self._backoff.delay(attempt, retry_after=wish, jitter=self._random())
        self._retry_at = now + delay
        await anyio.sleep(delay)

    def _block(self, call: Call, error: RetriableError, now: float) -> None:
        if self._blocked is not None and not call.is_probe:
            return  # it was open when another call found out
        wish = "" if isinstance(error, ProviderBlocked) else f" (asks to wait {error.retry_after:.0f} s)"
        self._blocked = f"{error}{wish}"
        self._blocked_by = _blocked_by(error)
        self._probe_at = now + self._probing.delay(self._probes, jitter=self._random())
        self._probes += 1
        self._news.set()

    async def _wait_for_room(self, tokens: float, items: int) -> tuple[Reservation | None, Turn | None]:
        """Returns when nothing holds the call back, with its share of the budget and its turn among all processes."""
        reservation: Reservation | None = None
        turn: Turn | None = None
        try:
            while True:
                now = anyio.current_time()
                delay = self._quota.wait(tokens, items, now)
                if self._blocked is not None:
                    if now < self._probe_at and not self._waits_when_blocked:
                        raise ProviderBlocked(self._blocked)
                    delay = max(delay, self._probe_at - now)
                if delay <= 0 and self._budget is not None and reservation is None:
                    reservation = await self._budget.reserve(tokens)
                    if reservation is not None:
                        continue  # that took a moment, in which a pause may have begun
                    if not self._waits_when_blocked and (spent := self._budget.state()) is not None:
                        raise SpendLimitReached(spent)
                    delay = SPEND_LOOK_SECONDS
                elif delay <= 0 and turn is None and self._shared is not None:
                    delay, turn = await self._turn_among_all(self._shared, tokens, items)
                    if delay <= 0:
                        continue
                elif delay <= 0:
                    return reservation, turn
                # A correction may make room earlier than foreseen, and a pause later.
                self._news = anyio.Event()
                with anyio.move_on_after(max(delay, SHORTEST_WAIT)):
                    await self._news.wait()
        except BaseException:
            if self._budget is not None and reservation is not None:
                await self._budget.release(reservation)
            raise

    async def _turn_among_all(self, shared: SharedQuota, tokens: float, items: int) -> tuple[float, Turn | None]:
        """Seconds to wait before asking again, or 0.0 and the turn. A turn of our own while nobody can be asked."""
        limits = self._quota.limits
        if limits == (None, None, None):
            return 0.0, Turn(0.0)
        turn = await shared.reserve((1.0, tokens, float(items)), limits)
        self._quota.keep_to(shared.share)
        if turn is None:
            return 0.0, Turn(0.0)  # its share of the limits may not have room; the caller looks again
        return turn.wait, (None if turn.wait > 0 else turn)


def _blocked_by(error: RetriableError) -> Reason:
    if isinstance(error, ProviderBlocked):
        named: dict[str, Reason] = {"key": "provider_key", "quota": "provider_quota"}
        return named.get(error.cause, "provider_blocked")
    # It asks for a longer wait than any pause: a limit of a day or a month, or a service that is closed for a while.
    return "provider_quota" if isinstance(error, RateLimited) else "provider_down"
