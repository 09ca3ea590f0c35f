"""Whatever a provider does, in whatever order: each text gets its own vector, or the reason that is its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import anyio
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.embedding.dispatcher import Dispatcher
from streamer.embedding.quota import Quota
from streamer.errors import ProviderBlocked, RateLimited, RejectedError, RetriableError
from streamer.protocols import Answer, Embedding, Rejection
from tests.embedding.providers import Call, FakeProvider, contract, rows, vector_of
from tests.support.examples import examples
from tests.support.virtual_time import VirtualTimeLoop

FAULTS = ("none", "429", "503", "401", "hang", "fewer", "more", "400 for its size", "nan", "slow")


class Moody(FakeProvider):
    """Goes through a list of faults, one a call, then behaves. Texts that begin with `bad` are refused, always."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(self.misbehave, latency=0.1)
        self.faults = faults

    async def misbehave(self, call: Call) -> Answer | None:
        fault = self.faults[call.number] if call.number < len(self.faults) else "none"
        if fault == "429":
            raise RateLimited("too fast", retry_after=[None, 0.0, 2.0, 1e6][call.number % 4])
        if fault == "503":
            raise RetriableError("overloaded")
        if fault == "401":
            raise ProviderBlocked("no credit")
        if fault == "hang":
            await anyio.sleep_forever()
        if fault == "slow":
            await anyio.sleep(20)
        if any(text.startswith("bad") for text in call.texts):
            raise RejectedError("bad text")
        if fault == "400 for its size" and len(call.texts) > 1:
            raise RejectedError("too many")
        if fault == "fewer" and len(call.texts) > 1:
            return Answer(rows(call.texts)[1:])
        if fault == "more":
            return Answer(rows([*call.texts, *call.texts]))
        vectors = rows(call.texts)
        if fault == "nan" and len(call.texts) > 1:
            vectors[:: 1 + call.number % 3] = np.nan
        return Answer(vectors, billed_tokens=sum(map(len, call.texts)))


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(coroutine)


@settings(max_examples=examples(150))
@given(
    batches=st.lists(st.lists(st.sampled_from(["a", "b", "c", "bad"]), max_size=40), min_size=1, max_size=4),
    faults=st.lists(st.sampled_from(FAULTS), max_size=40),
    max_items=st.sampled_from([1, 3, 16, 2048]),
    requests_per_minute=st.sampled_from([None, 30, 6000]),
    seed=st.integers(0, 1000),
)
def test_each_text_gets_its_own_vector_or_its_own_rejection(
    batches: list[list[str]], faults: list[str], max_items: int, requests_per_minute: int | None, seed: int
) -> None:
    provider = Moody(faults)

    async def embed(service: Dispatcher, number: int, words: list[str]) -> None:
        texts = [f"{word} {number} {i}" for i, word in enumerate(words)]
        outcomes = await service.embed(texts, "document")
        assert len(outcomes) == len(texts)
        for text, outcome in zip(texts, outcomes, strict=True):
            if text.startswith("bad"):
                assert isinstance(outcome, Rejection)
                assert (outcome.kind, outcome.reason) == ("rejected", "bad text")
                continue
            # Three wrong answers in a row to a single text are given up; everything else is waited out.
            if isinstance(outcome, Rejection):
                assert outcome.kind == "invalid_vector"
                assert faults.count("more") + faults.count("nan") + faults.count("fewer") >= 3
                continue
            expected = vector_of(text)
            np.testing.assert_allclose(outcome.vector, expected / np.linalg.norm(expected), atol=1e-6)

    async def main() -> None:
        service = Dispatcher(
            provider,
            contract(max_items=max_items),
            limits=Quota(requests_per_minute=requests_per_minute),
            random=random.Random(seed).random,
        )
        async with anyio.create_task_group() as tasks:
            for number, words in enumerate(batches):
                tasks.start_soon(embed, service, number, words)
        assert service.statistics().in_flight == 0
        assert service.statistics().requests_total == len(provider.calls)

    run(main())


@settings(max_examples=examples(60))
@given(
    poison=st.sets(st.integers(0, 199), max_size=6),
    count=st.integers(1, 200),
    fails_with=st.sampled_from(["400", "503", "no vector", "zero vector"]),
)
def test_poison_costs_itself_only(poison: set[int], count: int, fails_with: str) -> None:
    poisonous = {f"text {i}" for i in poison}

    async def behave(call: Call) -> Answer | None:
        bad = [text in poisonous for text in call.texts]
        if any(bad) and fails_with == "400":
            raise RejectedError("bad text")
        if any(bad) and fails_with == "503":
            raise RetriableError("unsupported value: NaN")
        vectors = rows(call.texts)
        if fails_with == "no vector":
            return Answer(vectors[~np.array(bad)])
        vectors[bad] = 0
        return Answer(vectors)

    async def main() -> None:
        provider = FakeProvider(behave)
        service = Dispatcher(provider, contract(), random=random.Random(0).random)
        texts = [f"text {i}" for i in range(count)]
        outcomes = await service.embed(texts, "document")
        assert {i for i, outcome in enumerate(outcomes) if isinstance(outcome, Rejection)} == {
            i for i in poison if i < count
        }
        for text, outcome in zip(texts, outcomes, strict=True):
            if isinstance(outcome, Embedding):
                expected = vector_of(text)
                np.testing.assert_allclose(outcome.vector, expected / np.linalg.norm(expected), atol=1e-6)

    run(main())
