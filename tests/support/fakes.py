"""Stand-ins for the outside world that only our own tests need; the others are `streamer.testing`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from typing import BinaryIO

import anyio

from streamer.protocols import Booking, Ceiling, Cost


class MemoryLedger:
    """A SpendLedger. While `is_usable` is off, it can be neither read nor written."""

    def __init__(self) -> None:
        self.costs: dict[str, Cost] = {}
        self.is_usable = True

    async def reserve(self, cost: Cost, ceilings: Mapping[str, Ceiling]) -> Booking | None:
        if not self.is_usable:
            return None
        spent = {period: self.costs.get(period, Cost()) for period in ceilings}
        booked = all(ceiling.admits(spent[period], cost) for period, ceiling in ceilings.items())
        if booked:
            spent = {period: total + cost for period, total in spent.items()}
            self.costs |= spent
        return Booking(booked, spent)

    async def settle(self, difference: Cost, periods: Sequence[str]) -> Mapping[str, Cost] | None:
        if not self.is_usable:
            return None
        self.costs |= {period: self.costs.get(period, Cost()) + difference for period in periods}
        return {period: self.costs[period] for period in periods}

    async def spent(self, periods: Sequence[str]) -> Mapping[str, Cost] | None:
        return {period: self.costs.get(period, Cost()) for period in periods} if self.is_usable else None


class MemoryFile:
    """A ReplaceableFile. While `open_gate` is not set, writing waits before each piece."""

    def __init__(self, content: bytes | None = None) -> None:
        self.content = content
        self.error: OSError | None = None
        self.open_gate = anyio.Event()
        self.open_gate.set()
        self.attempts = self.replaced = 0

    def __str__(self) -> str:
        return "a file in memory"

    def open(self) -> BinaryIO:
        if self.content is None:
            raise FileNotFoundError
        return BytesIO(self.content)

    @asynccontextmanager
    async def replacing(self) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
        self.attempts += 1
        pieces: list[bytes] = []

        async def write(piece: bytes) -> None:
            await self.open_gate.wait()
            if self.error:
                raise self.error
            pieces.append(piece)

        yield write
        self.content = b"".join(pieces)
        self.replaced += 1
