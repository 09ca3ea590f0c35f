"""A dispatcher in front of a scripted provider, and what its outcomes have to be."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from streamer.embedding.dispatcher import Dispatcher
from streamer.errors import RejectedError
from streamer.protocols import Answer, Embedding, Rejection
from tests.embedding.providers import Behaviour, Call, FakeProvider, contract, vector_of

POISON = "poison"


def dispatcher(provider: FakeProvider, **options: object) -> Dispatcher:
    values = {"random": random.Random(1).random, **options}
    return Dispatcher(provider, values.pop("contract", contract()), **values)  # type: ignore[arg-type]


def texts(count: int, start: int = 0) -> list[str]:
    return [f"text number {i}" for i in range(start, start + count)]


def assert_right(given: Sequence[str], outcomes: Sequence[Embedding | Rejection]) -> None:
    """Each text has its own vector, at unit length."""
    assert len(outcomes) == len(given)
    for text, outcome in zip(given, outcomes, strict=True):
        assert isinstance(outcome, Embedding), (text, outcome)
        expected = vector_of(text)
        np.testing.assert_allclose(outcome.vector, expected / np.linalg.norm(expected), atol=1e-6)
        assert outcome.vector.dtype == np.float32


def failing(times: int, error: Exception) -> Behaviour:
    """The first calls fail."""

    async def behave(call: Call) -> Answer | None:
        if call.number < times:
            raise error
        return None

    return behave


def refusing(*poison: str, error: type[Exception] = RejectedError) -> Behaviour:
    async def behave(call: Call) -> Answer | None:
        if any(text in poison for text in call.texts):
            raise error("bad input")
        return None

    return behave
