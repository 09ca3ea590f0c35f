"""What an account costs, in Redis: shared by all processes that name the server, kept over their deaths.

While the server is away, each process may spend its part of what was left, and puts that down when the server is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import astuple

from streamer.adapters.redis.client import RedisClient
from streamer.adapters.redis.link import RedisLink
from streamer.adapters.redis.workers import Workers
from streamer.protocols import Booking, Ceiling, Cost

SPENT = b"streamer:spend:"  # a hash for each account: what each period comes to

# Three arguments of a cost: tokens, nano-dollars, requests. Then for each period its name and the same three of what it
# held when it was last seen (for a server that has lost it), of what to add in any case, of the ceilings (-1: none).
# Whole numbers below 2^53 are exact in Lua.
CHANGE = """local names, totals, fits = {' tokens', ' nano_usd', ' requests'}, {}, 1
local function admits(most, before, more)
  return most < 0 or before == 0 or before + more <= most
end
for i = 4, #ARGV, 10 do
  for n = 1, 3 do
    local field = ARGV[i] .. names[n]
    local total = tonumber(redis.call('HGET', KEYS[1], field) or ARGV[i + n]) + tonumber(ARGV[i + 3 + n])
    totals[#totals + 1] = {field, total, tonumber(ARGV[n])}
    if not admits(tonumber(ARGV[i + 6 + n]), total, tonumber(ARGV[n])) then fits = 0 end
  end
end
local answer = {fits}
for _, each in ipairs(totals) do
  local number = string.format('%.0f', each[2] + fits * each[3])
  redis.call('HSET', KEYS[1], each[1], number)
  answer[#answer + 1] = number
end
return answer"""
NAMES = ("tokens", "nano_usd", "requests")

PATIENCE_SECONDS = 2.0


class RedisSpendLedger:
    """A SpendLedger of one account."""

    def __init__(self, link: RedisLink, account: str, workers: Workers) -> None:
        self._link = link
        self._key = SPENT + account.encode()
        self._workers = workers
        self._known: dict[str, Cost] = {}  # as of the last look, of the periods asked for last
        self._owed: dict[str, Cost] = {}  # spent while the server was away

    async def reserve(self, cost: Cost, ceilings: Mapping[str, Ceiling]) -> Booking | None:
        changed = await self._change(cost, ceilings)
        return changed if changed is not None else self._alone(cost, ceilings)

    async def settle(self, difference: Cost, periods: Sequence[str]) -> Mapping[str, Cost] | None:
        # Not cancelled with the caller: what was asked for at the end of a call must not be lost.
        changing = asyncio.create_task(self._change(difference, dict.fromkeys(periods, Ceiling())))
        changed = await asyncio.shield(changing)
        if changed is not None:
            return changed.spent
        self._owe(difference, periods)
        return None

    async def spent(self, periods: Sequence[str]) -> Mapping[str, Cost] | None:
        fields = [f"{period} {what}" for period in periods for what in NAMES]
        found = await self._link.read(lambda client: client.do("HMGET", self._key, *fields))
        if found is None:
            return None
        numbers = [int(number or 0) for number in found]
        return {period: Cost(*numbers[3 * i : 3 * i + 3]) for i, period in enumerate(periods)}

    async def _change(self, cost: Cost, ceilings: Mapping[str, Ceiling]) -> Booking | None:
        owed = {period: self._owed.pop(period, Cost()) for period in ceilings}
        arguments: list[object] = list(astuple(cost))
        for period, most in ceilings.items():
            known, more = self._known.get(period, Cost()), owed[period]
            ceiling = [-1 if number is None else number for number in astuple(most)]
            arguments += [period, *astuple(known), *astuple(more), *ceiling]

        async def change(client: RedisClient) -> list[bytes]:
            changed: list[bytes] = await client.do("EVAL", CHANGE, 1, self._key, *arguments)
            return changed

        answer = await self._link.write(change)
        if answer is None:
            for period, more in owed.items():
                self._owe(more, [period])
            return None
        fits, *numbers = map(int, answer)
        self._known = {period: Cost(*numbers[3 * i : 3 * i + 3]) for i, period in enumerate(ceilings)}
        return Booking(bool(fits), self._known)

    def _alone(self, cost: Cost, ceilings: Mapping[str, Ceiling]) -> Booking | None:
        """As if every process spent what this one does. None for periods of which nothing is known."""
        if not self._workers.is_known or not ceilings.keys() <= self._known.keys():
            return None
        n = self._workers.count
        spent = {period: self._known[period] + self._owed.get(period, Cost()) * n for period in ceilings}
        fits = all(most.admits(spent[period], cost * n) for period, most in ceilings.items())
        if fits:
            self._owe(cost, list(ceilings))
        return Booking(fits, {period: self._known[period] + self._owed.get(period, Cost()) for period in ceilings})

    def _owe(self, cost: Cost, periods: Sequence[str]) -> None:
        for period in periods:
            self._owed[period] = self._owed.get(period, Cost()) + cost
