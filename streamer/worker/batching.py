"""When a micro-batch is complete: by count, by bytes, or because its time window ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from streamer.core.events import Event

# What cuts a batch: it is as large as the policy allows, its window has ended, or it did so while no slot was free;
# or a rebalance or a stop takes what there is.
Cut: TypeAlias = Literal["full", "bytes", "window", "slot_free", "drain"]


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """`max_bytes` counts UTF-8 bytes of text; `linger` is the window in seconds, opened by a batch's first event."""

    max_events: int = 512
    max_bytes: int = 1_000_000
    linger: float = 0.025

    def __post_init__(self) -> None:
        if self.max_events < 1 or self.max_bytes < 1 or self.linger < 0:
            raise ValueError(f"a batch needs max_events >= 1, max_bytes >= 1 and linger >= 0, not {self}")


class Batcher:
    """Events waiting for a batch, in arrival order. Never sleeps and never reads a clock.

    A batch is a prefix of the queue that keeps to the policy; its first event may exceed `max_bytes` on its own,
    so that an oversized event still moves. `take` never reorders and never drops.
    """

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        # Of each event that waits: itself, its bytes, and when it arrived. A batch is cut off the front of all three.
        self._events: list[Event] = []
        self._sizes: list[int] = []
        self._arrivals: list[float] = []
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<Batcher: {len(self)} events of {self._bytes} bytes, window ends at {self.deadline:.3f}>"

    def __len__(self) -> int:
        return len(self._events)

    def add(self, event: Event, now: float) -> None:
        """Queue one event that arrived at `now` (seconds, any monotonic clock)."""
        self.add_all([event], now)

    def add_all(self, events: Sequence[Event], now: float) -> None:
        """The same for several."""
        sizes = [len(event.record.value or b"") for event in events]  # the raw value bounds its text, unencoded
        self._events += events
        self._sizes += sizes
        self._arrivals += [now] * len(sizes)
        self._bytes += sum(sizes)

    @property
    def is_full(self) -> bool:
        """Waiting longer would not make the next batch any bigger."""
        return len(self) >= self._policy.max_events or self._bytes >= self._policy.max_bytes

    @property
    def oldest(self) -> float:
        """When the first event arrived; infinity while nothing waits."""
        return self._arrivals[0] if self._arrivals else math.inf

    @property
    def deadline(self) -> float:
        """When the window of the next batch ends; infinity while nothing waits."""
        return self.oldest + self._policy.linger

    def is_due(self, now: float) -> bool:
        return self.is_full or now >= self.deadline

    def cut(self, now: float, slot_free_since: float) -> Cut:
        """What would cut a batch at `now`."""
        if len(self) >= self._policy.max_events:
            return "full"
        if self._bytes >= self._policy.max_bytes:
            return "bytes"
        if now < self.deadline:
            return "drain"
        return "slot_free" if self.deadline < slot_free_since else "window"

    def take(self) -> list[Event]:
        """Remove and return the next batch; empty when nothing waits."""
        sizes = self._sizes[: self._policy.max_events]
        total = sum(sizes)
        while total > self._policy.max_bytes and len(sizes) > 1:
            total -= sizes.pop()
        batch = self._events[: len(sizes)]
        for waiting in (self._events, self._sizes, self._arrivals):
            del waiting[: len(sizes)]
        self._bytes -= total
        return batch
