"""Servers of the field: what they answer, and the layers that read it, with waits too short to notice."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import orjson

from streamer.app.providers import open_provider
from streamer.embedding.backoff import BackoffPolicy
from streamer.embedding.dispatcher import Dispatcher
from streamer.protocols import Embedding, Rejection
from streamer.settings import Settings
from tests.support.vendors.misbehaviour import NOTHING, Fault
from tests.support.vendors.openai import FakeOpenAI
from tests.support.vendors.server import FakeVendor, Request
from tests.support.vendors.services import KEY, assert_same

TEXTS = [
    "The parcel is late.",
    "Where is my invoice?",
    "The colour is wrong.",
    "POISON",
    *(f"text {i}" for i in range(4)),
]
POISON = TEXTS.index("POISON")
SHORT = BackoffPolicy(initial=0.001, maximum=0.005)


def settings(server: FakeVendor, name: str = "openai", **provider: Any) -> Settings:
    base_url: str = server.base_url  # type: ignore[attr-defined]
    known = {"name": name, "base_url": base_url, "api_key": KEY}
    return Settings.model_validate({"provider": known | provider, "cache": {"enabled": False}})


@asynccontextmanager
async def dispatching(
    server: FakeVendor,
    name: str = "openai",
    *,
    give_up_after: float | None = None,
    probing: BackoffPolicy = SHORT,
    **provider: Any,
) -> AsyncIterator[Dispatcher]:
    async with open_provider(settings(server, name, **provider)) as opened:
        yield Dispatcher(
            opened.provider,
            opened.contract,
            backoff=SHORT,
            probing=probing,
            give_up_after=give_up_after,
            timeout=opened.timeout,
            random=random.Random(1).random,
        )


def refusing(status: int, body: Any, when: Callable[[Any], bool] = lambda asked: True) -> Callable[[Request], Fault]:
    """Requests whose JSON is like that are answered so; `body` is JSON or text."""
    raw = body.encode() if isinstance(body, str) else orjson.dumps(body)

    def fault(request: Request) -> Fault:
        return Fault(status=status, body=raw) if when(request.json) else NOTHING

    return fault


def assert_only_poison_is_refused(server: Any, outcomes: Sequence[Embedding | Rejection], kind: str) -> None:
    for i, outcome in enumerate(outcomes):
        if i == POISON:
            assert isinstance(outcome, Rejection), outcome
            assert outcome.kind == kind
        else:
            assert isinstance(outcome, Embedding), outcome
            assert_same(outcome.vector[None], server.expected([TEXTS[i]]))


async def blocked_state(server: FakeOpenAI, service: Dispatcher, texts: Sequence[str] = TEXTS) -> str:
    """What is said while nothing of this is embedded or given up, and goes on until the server is mended."""
    outcomes: list[Embedding | Rejection] = []

    async def work() -> None:
        outcomes.extend(await service.embed(texts, "document"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        with anyio.fail_after(20):
            asked = 0
            while not (service.state() or "").startswith("blocked: "):
                asked += 1
                await server.received(asked)
                await anyio.lowlevel.checkpoint()
            asked = len(server.requests)
            await server.received(asked + 3)  # it goes on asking whether it works again
        said = service.state() or ""
        assert outcomes == []
        server.always = NOTHING
        server.edit = None
    assert len(outcomes) == len(texts)
    for text, outcome in zip(texts, outcomes, strict=True):
        assert isinstance(outcome, Embedding), outcome
        assert_same(outcome.vector[None], server.expected([text]))
    return said
