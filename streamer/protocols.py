"""What the flow needs from the outside world. Adapters implement these; the flow never sees a vendor.

Each protocol has at least two implementations: a real one in `adapters` and a fake in `streamer/testing.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from streamer.core.events import Message, Record, TopicPartition
from streamer.core.vectors import Matrix, Purpose, Space, Vector
from streamer.errors import DeadLetterKind


class Rebalance(Protocol):
    """Told about partitions coming and going. When `on_revoked` returns, another member may take them over."""

    async def on_assigned(self, tps: Collection[TopicPartition]) -> None: ...

    async def on_revoked(self, tps: Collection[TopicPartition]) -> None: ...

    async def on_lost(self, tps: Collection[TopicPartition]) -> None:
        """Gone without a chance to finish; `on_assigned` may bring them back, from an earlier offset."""
        ...


class Source(Protocol):
    """One member of a consumer group."""

    async def poll(self, tps: Collection[TopicPartition], timeout: float) -> Sequence[Record]:
        """Records of these partitions (at least one), waiting at most `timeout` seconds. Never cancelled."""
        ...

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the next offsets to consume. Raises PartitionLost when the group has moved on, RetriableError when
        the coordinator does not answer in time."""
        ...


Acknowledgement: TypeAlias = Callable[[], Awaitable[None]]


class Sink(Protocol):
    """Publishes messages in the order given, per output partition."""

    async def send(self, messages: Sequence[Message]) -> Acknowledgement:
        """Enqueue, waiting while buffers are full. Call and await the result: it returns when the broker has
        acknowledged every message, or what `instead` of it says where it was refused. It raises Refused when the
        broker took all but some that have no `instead`, and PartitionLost when the inputs of some (or all, if it names
        none) will be read again."""
        ...


@dataclass(slots=True)  # frozen ones take three times as long to make
class Embedding:
    """A text's unit vector, float32 of shape (dimensions,). `tokens` is 0 when the model does not say."""

    vector: Vector
    tokens: int
    truncated: bool
    cache_hit: bool = False


@dataclass(frozen=True, slots=True)
class Rejection:
    """A text that has no vector, for good. `attempts` counts provider calls that included it."""

    kind: DeadLetterKind
    reason: str
    attempts: int = 1


class Embedder(Protocol):
    """Texts to vectors; result i belongs to texts[i]. Outages are waited out inside; only a fatal error is raised."""

    @property
    def space(self) -> Space: ...

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What one provider call returned, unchecked: row i claims to belong to texts[i].

    `vectors`: float32 (n, dimensions), any length per row. `tokens` and `truncated`: per text, if the provider tells.
    `billed_tokens`: the sum the provider charges for, None when it does not say. `model`: whose vectors these are, as
    the service says.
    """

    vectors: Matrix
    tokens: Sequence[int] | None = None
    truncated: Sequence[bool] | None = None
    billed_tokens: int | None = None
    headers: Mapping[str, str] | None = None
    model: str | None = None


class Provider(Protocol):
    """One vendor's embedding call: no retries, no splitting, no normalising.

    Any object with these three members is one. Calls may overlap.
    """

    @property
    def space(self) -> Space:
        """The vector space: constant, and the same for every process that shares vectors. Its prefixes are put in
        front of the texts before `embed` sees them."""
        ...

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:
        """One vector per text, in order, of `space.dimensions` numbers; `purpose`: "document" or "query".

        Raises RejectedError when these texts can never succeed, RateLimited, ProviderBlocked or another RetriableError
        when the call may succeed later, and nothing else: any other exception ends the caller.
        """
        ...

    async def aclose(self) -> None:
        """Release connections and memory. Called once, after the last call of `embed`."""
        ...


class VectorCache(Protocol):
    """Remembers embeddings by key within one space. Never raises: a broken cache is an empty one."""

    async def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, Embedding]: ...

    async def put_many(self, entries: Mapping[bytes, Embedding]) -> None: ...


class Claims(Protocol):
    """Keeps processes that share a cache from asking the provider for one text at the same moment. Never raises, and
    waits for no other process."""

    async def claim(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        """Those that no other process has claimed: they are ours until `unclaim`, or until this process ends."""
        ...

    def unclaim(self, keys: Sequence[bytes]) -> None:
        """Keys that are not claimed do no harm."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """What a SharedQuota says to a call. `wait`: 0.0 when it may go, else seconds until it is worth asking again.
    `noted`: where a call that may go was put down, for `correct`."""

    wait: float
    noted: str | None = None


class SharedQuota(Protocol):
    """The limits per minute of one account, kept by all processes together. Costs and limits: of requests, tokens and
    items; None is an unknown limit. Nothing here raises."""

    @property
    def share(self) -> float:
        """What part of each limit this process may use by itself: 1.0 while all of them are kept together."""
        ...

    async def reserve(self, costs: Sequence[float], limits: Sequence[float | None]) -> Turn | None:
        """Put the call down if it fits and it is this process's turn. None: nobody can be asked now, and `share` holds.
        Who waits asks again, or loses its place in line."""
        ...

    def correct(self, turn: Turn, differences: Sequence[float], limits: Sequence[float | None]) -> None:
        """The call cost more (less, if negative) than was put down for it."""
        ...


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens, billionths of a US dollar, and requests: whole numbers, so that sums are exact in every store."""

    tokens: int = 0
    nano_usd: int = 0
    requests: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.tokens + other.tokens, self.nano_usd + other.nano_usd, self.requests + other.requests)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.tokens - other.tokens, self.nano_usd - other.nano_usd, self.requests - other.requests)

    def __mul__(self, times: int) -> Cost:
        return Cost(self.tokens * times, self.nano_usd * times, self.requests * times)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that may be spent in a period; None: any amount."""

    tokens: int | None = None
    nano_usd: int | None = None
    requests: int | None = None

    def admits(self, spent: Cost, cost: Cost) -> bool:
        """Whether `cost` still fits. What is more than the ceiling by itself goes alone, into an empty period."""
        return all(
            most is None or not before or before + more <= most
            for most, before, more in (
                (self.tokens, spent.tokens, cost.tokens),
                (self.nano_usd, spent.nano_usd, cost.nano_usd),
                (self.requests, spent.requests, cost.requests),
            )
        )


@dataclass(frozen=True, slots=True)
class Booking:
    """`spent`: by period, with the booked cost if `is_booked`."""

    is_booked: bool
    spent: Mapping[str, Cost]


class SpendLedger(Protocol):
    """Counts what one account costs, by period, for all processes that share the store. It survives their deaths.

    A period is a day or a month in UTC: "2026-11-28", "2026-11". Nothing here raises or waits for long; None is
    returned while the store cannot be used.
    """

    async def reserve(self, cost: Cost, ceilings: Mapping[str, Ceiling]) -> Booking | None:
        """Add `cost` to each of these periods if every ceiling admits it, else to none: one atomic step among all
        processes. A caller that dies afterwards has spent it."""
        ...

    async def settle(self, difference: Cost, periods: Sequence[str]) -> Mapping[str, Cost] | None:
        """Add what a call cost more (less, if negative) than was reserved for it; the totals afterwards. A caller that
        is cancelled meanwhile has settled all the same."""
        ...

    async def spent(self, periods: Sequence[str]) -> Mapping[str, Cost] | None:
        """The totals; zero for a period without any."""
        ...


class Changelog(Protocol):
    """A topic read from the beginning: whole, or those of its partitions that a group leaves to this reader.

    `is_changing`: the group gives partitions to others, or gives others. Whoever reads is to finish what was begun, and
    then to `change`.
    """

    @property
    def is_changing(self) -> bool: ...

    async def change(self) -> None:
        """Go on with the partitions that the group leaves to this reader from now on, from their beginning."""
        ...

    async def end_offsets(self) -> Mapping[TopicPartition, int]: ...

    async def poll(self, timeout: float) -> Sequence[Record]: ...

    def paused(self) -> AbstractContextManager[None]:
        """Nothing is fetched meanwhile. For right after a poll, and not for a poll."""
        ...

    def positions(self) -> Mapping[TopicPartition, int]: ...

    def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Read on from there; partitions that are not named go on where they are."""
        ...

    async def committed(self) -> Mapping[TopicPartition, int]:
        """The offsets up to which verdicts were published by an earlier run; a partition without one is left out."""
        ...

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None: ...
