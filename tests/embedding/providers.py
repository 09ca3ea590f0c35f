"""Providers that do what a test tells them. The vector of a text is a function of the text, so a swap is seen."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import numpy as np

from streamer.core.vectors import Matrix, Purpose, Space, Vector
from streamer.embedding.contracts import Contract
from streamer.protocols import Answer

DIMENSIONS = 8


def vector_of(text: str, dimensions: int = DIMENSIONS) -> Vector:
    """A vector that belongs to this text only, of a length other than 1."""
    digest = hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(4 * dimensions)
    return np.frombuffer(digest, "<i4").astype(np.float32) * np.float32(2.0**-29)


def rows(texts: Sequence[str], dimensions: int = DIMENSIONS) -> Matrix:
    return np.array([vector_of(text, dimensions) for text in texts], dtype=np.float32).reshape(-1, dimensions)


def space(**values: Any) -> Space:
    return Space(**{"provider": "fake", "model": "fake", "dimensions": DIMENSIONS, **values})


def contract(**values: Any) -> Contract:
    defaults: dict[str, Any] = {
        "provider": "fake",
        "model": "fake",
        "dimensions": DIMENSIONS,
        "max_item_tokens": 8191,
        "max_items": 2048,
    }
    return Contract(**{**defaults, **values})


@dataclass
class Call:
    """One call as the provider saw it."""

    number: int
    texts: Sequence[str]
    started: float
    open_calls: int


Behaviour = Callable[[Call], Awaitable[Answer | None]]


async def answer(call: Call) -> Answer:
    return Answer(rows(call.texts))


@dataclass
class FakeProvider:
    """Answers through `behave` (which may raise, wait or return None for a correct answer) and keeps the calls."""

    behave: Behaviour = answer
    latency: float = 0.0
    space: Space = field(default_factory=space)
    calls: list[Call] = field(default_factory=list)
    open_calls: int = 0
    most_open_calls: int = 0

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:
        self.open_calls += 1
        self.most_open_calls = max(self.most_open_calls, self.open_calls)
        call = Call(len(self.calls), list(texts), anyio.current_time(), self.open_calls)
        self.calls.append(call)
        try:
            await anyio.sleep(self.latency)
            given = await self.behave(call)
            return given if given is not None else Answer(rows(call.texts, self.space.dimensions))
        finally:
            self.open_calls -= 1

    async def aclose(self) -> None:
        return None
