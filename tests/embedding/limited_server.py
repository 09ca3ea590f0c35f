"""A simulated server that enforces limits over sliding 60 s windows, and callers who always have work."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio
import numpy as np

from streamer.core.vectors import Purpose, Space
from streamer.embedding.dispatcher import Dispatcher
from streamer.errors import RateLimited
from streamer.protocols import Answer
from tests.embedding.providers import DIMENSIONS, space

BYTES_A_TOKEN = 4


@dataclass
class LimitedServer:
    """Accepts at most so many requests and tokens in any 60 s. A call takes up to 50 ms to arrive, as the network has
    it, and `latency` seconds to be answered; what is refused does not count against the limit."""

    requests: float | None = None
    tokens: float | None = None
    latency: float = 0.4
    says_when: bool = False
    sends_headers: bool = False
    others: Callable[[float], float] = lambda now: 0.0
    space: Space = field(default_factory=space)
    accepted: list[tuple[float, int]] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    _window: deque[tuple[float, int]] = field(default_factory=deque)
    _tokens_used: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(7))

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:
        await anyio.sleep(self._random.uniform(0, 0.05))
        now = anyio.current_time()
        tokens = sum(len(text) for text in texts) // BYTES_A_TOKEN
        while self._window and self._window[0][0] <= now - 60:
            self._tokens_used -= self._window.popleft()[1]
        used_requests = len(self._window) + self.others(now)
        if (self.requests is not None and used_requests + 1 > self.requests) or (
            self.tokens is not None and self._tokens_used + tokens > self.tokens
        ):
            self.refused.append(now)
            wish = self._window[0][0] + 60 - now if self.says_when and self._window else None
            raise RateLimited("rate limit reached", retry_after=wish)
        self._window.append((now, tokens))
        self._tokens_used += tokens
        self.accepted.append((now, tokens))
        headers = {}
        if self.sends_headers and self.requests is not None:
            headers = {
                "x-ratelimit-limit-requests": str(int(self.requests)),
                "x-ratelimit-remaining-requests": str(int(self.requests - used_requests - 1)),
                "x-ratelimit-reset-requests": f"{60 - (now - self._window[0][0]):.1f}s",
            }
        await anyio.sleep(self.latency * self._random.uniform(0.5, 1.5))
        return Answer(np.ones((len(texts), DIMENSIONS), dtype=np.float32), billed_tokens=tokens, headers=headers)

    async def aclose(self) -> None:
        return None

    def share(self, start: float, end: float) -> float:
        """What was accepted from `start` to `end`, as a part of the tightest limit."""
        windows = (end - start) / 60
        accepted = [(time, tokens) for time, tokens in self.accepted if start <= time < end]
        of_requests = len(accepted) / (self.requests * windows) if self.requests else 0.0
        of_tokens = sum(tokens for _, tokens in accepted) / (self.tokens * windows) if self.tokens else 0.0
        return max(of_requests, of_tokens)

    def refusals(self, start: float, end: float) -> float:
        """The share of calls that were refused."""
        refused = sum(start <= time < end for time in self.refused)
        return refused / (refused + sum(start <= time < end for time, _ in self.accepted))


async def load(service: Dispatcher, until: float, *, workers: int, texts_a_batch: int, length: int) -> None:
    """As many callers as it takes to always have work."""
    numbers = random.Random(3)

    async def work() -> None:
        while True:
            batch = ["x" * numbers.randint(length // 2, length * 3 // 2) for _ in range(texts_a_batch)]
            await service.embed(batch, "document")

    with anyio.move_on_after(until - anyio.current_time()):
        async with anyio.create_task_group() as tasks:
            for _ in range(workers):
                tasks.start_soon(work)
