"""The limits per minute of one account, kept by all processes together.

One script decides who may call: it has the calls of the last minute, and a line of those who wait. Whoever asks takes
a place at the end of the line unless it has one; the first in line goes when its call fits. So large calls are not
starved by small ones, nor one process by others, and who dies in line is out of it after a moment of silence.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from streamer.adapters.redis.link import RedisLink
from streamer.adapters.redis.workers import Workers
from streamer.protocols import Turn

RATES = b"streamer:rate:"
WINDOW = 60.0
LONGEST_LOOK_SECONDS = 0.4  # a place in line is kept by asking again
RESOLUTION = 1 / 240  # of a window: calls closer together are reported as one
SAFE_SHARE = 0.95  # of the limits, while nobody sees what all processes do together

# Arguments: who asks, now ('' for the server's clock), the window in seconds; what the call costs and the limits, of
# requests, tokens and items (0: unknown); then four for each moment at which calls went out while nobody could be
# asked: how long ago, and what they cost. Answers whether it may go, how long to wait, and where it was noted.
# The rules are those of embedding/rate_limit.py:RateLimit: usage is spread evenly, with a burst of a sixtieth of the
# window, and no window holds more than the limit.
RESERVE = """local who, now, window = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if not now then
  local t = redis.call('TIME')
  now = t[1] + t[2] / 1000000
end
local cost, limit = {}, {}
for i = 1, 3 do
  cost[i], limit[i] = tonumber(ARGV[3 + i]), tonumber(ARGV[6 + i])
end
local raw = redis.call('GET', KEYS[1])
local s = raw and cmsgpack.unpack(raw) or {next = {0, 0, 0}, log = {}, line = {}}
for i = 10, #ARGV, 4 do
  local past = now - tonumber(ARGV[i])
  table.insert(s.log, {past, past, tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])})
end
if #ARGV >= 10 then
  table.sort(s.log, function(a, b) return a[2] < b[2] end)
  for i = 1, 3 do s.next[i] = math.max(s.next[i], now + window / 60) end
end
local horizon, used, log = window * (1 + 1 / 60), {0, 0, 0}, {}
for _, e in ipairs(s.log) do
  if e[2] > now - horizon then
    log[#log + 1] = e
    for i = 1, 3 do used[i] = used[i] + e[2 + i] end
  end
end
local line, mine = {}, nil
for _, w in ipairs(s.line) do
  if w[1] == who then
    w = {who, now + window / 40, cost[1], cost[2], cost[3]}
    mine = #line + 1
  end
  if w[2] > now then line[#line + 1] = w end
end
if not mine then
  mine = #line + 1
  line[mine] = {who, now + window / 40, cost[1], cost[2], cost[3]}
end
-- When those ahead and then this one may go.
local level, ahead, at = {s.next[1], s.next[2], s.next[3]}, {0, 0, 0}, now
for k = 1, mine do
  local w = line[k]
  for i = 1, 3 do
    if limit[i] > 0 then at = math.max(at, level[i] - window / 60) end
  end
  if k == mine then
    for i = 1, 3 do
      if limit[i] > 0 then
        local excess = used[i] + ahead[i] - (limit[i] - math.min(cost[i], limit[i])) - 1e-9 * limit[i]
        local j = 0
        while excess > 0 and j < #log do
          j = j + 1
          excess = excess - log[j][2 + i]
          if excess <= 0 then at = math.max(at, log[j][2] + horizon) end
        end
        if excess > 0 then at = math.max(at, now + window / 60) end
      end
    end
  else
    for i = 1, 3 do
      if limit[i] > 0 then
        level[i] = math.max(level[i], at) + w[2 + i] * window / limit[i]
        ahead[i] = ahead[i] + w[2 + i]
      end
    end
  end
end
local wait = at - now
local noted = 0
if mine == 1 and wait <= 0 then
  table.remove(line, 1)
  local last = log[#log]
  if last and now - last[1] < window / 240 then
    last[2] = now
    for i = 1, 3 do last[2 + i] = last[2 + i] + cost[i] end
  else
    last = {now, now, cost[1], cost[2], cost[3]}
    log[#log + 1] = last
  end
  noted = last[1]
  for i = 1, 3 do
    if limit[i] > 0 then s.next[i] = math.max(s.next[i], now) + cost[i] * window / limit[i] end
  end
end
s.log, s.line = log, line
redis.call('SET', KEYS[1], cmsgpack.pack(s), 'PX', math.ceil(2000 * window))
return {noted > 0 and 1 or 0, string.format('%.6f', wait), string.format('%.17g', noted)}"""

# What a call cost more or less than was noted for it: where it was noted, the window, the differences, the limits.
CORRECT = """local raw = redis.call('GET', KEYS[1])
if not raw then return 0 end
local s, window, found = cmsgpack.unpack(raw), tonumber(ARGV[2]), 0
for _, e in ipairs(s.log) do
  if string.format('%.17g', e[1]) == ARGV[1] then
    for i = 1, 3 do e[2 + i] = e[2 + i] + tonumber(ARGV[2 + i]) end
    found = 1
  end
end
for i = 1, 3 do
  local limit = tonumber(ARGV[5 + i])
  if limit > 0 then s.next[i] = s.next[i] + tonumber(ARGV[2 + i]) * window / limit end
end
redis.call('SET', KEYS[1], cmsgpack.pack(s), 'PX', math.ceil(2000 * window))
return found"""


class RedisQuota:
    """A SharedQuota, made by `open`. While the server is away, each process keeps to its share of the limits."""

    def __init__(self, link: RedisLink, account: str, workers: Workers, window: float) -> None:
        self._link = link
        self._key = RATES + account.encode()
        self._workers = workers
        self._window = window
        self._corrections: set[asyncio.Task[None]] = set()
        self._alone: deque[tuple[float, list[float]]] = deque()
        self.share = 1.0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, link: RedisLink, account: str, workers: Workers, *, window: float = WINDOW
    ) -> AsyncIterator[RedisQuota]:
        quota = cls(link, account, workers, window)
        try:
            yield quota
        finally:
            if quota._corrections:
                with anyio.CancelScope(shield=True):
                    await asyncio.wait(quota._corrections)

    async def reserve(self, costs: Sequence[float], limits: Sequence[float | None]) -> Turn | None:
        now = asyncio.get_running_loop().time()
        arguments = [self._workers.token, "", self._window, *costs, *(limit or 0 for limit in limits)]
        while self._alone and self._alone[0][0] < now - 2 * self._window:
            self._alone.popleft()
        for then, sums in self._alone:
            arguments += [now - then, *sums]
        answer = await self._link.write(lambda client: client.do("EVAL", RESERVE, 1, self._key, *arguments))
        if answer is None:
            self.share = SAFE_SHARE / self._workers.count
            self._note_alone(now, costs)
            return None
        self.share = 1.0
        self._alone.clear()
        is_taken, wait, noted = answer
        if is_taken:
            return Turn(0.0, noted.decode())
        return Turn(min(max(float(wait), 0.005), LONGEST_LOOK_SECONDS))

    def _note_alone(self, now: float, costs: Sequence[float]) -> None:
        """For those who count again later."""
        if self._alone and now - self._alone[-1][0] < self._window * RESOLUTION:
            sums = self._alone[-1][1]
            sums[:] = [had + more for had, more in zip(sums, costs, strict=True)]
        else:
            self._alone.append((now, list(costs)))

    def correct(self, turn: Turn, differences: Sequence[float], limits: Sequence[float | None]) -> None:
        if turn.noted is None or not any(differences):
            return
        arguments = [turn.noted, self._window, *differences, *(limit or 0 for limit in limits)]

        async def send() -> None:
            await self._link.write(lambda client: client.do("EVAL", CORRECT, 1, self._key, *arguments))

        task = asyncio.create_task(send())
        self._corrections.add(task)
        task.add_done_callback(self._corrections.discard)
