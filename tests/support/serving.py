"""An application behind a real socket, and a client in front of it; the API of an index in memory among them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import numpy as np
from starlette.types import ASGIApp

from streamer.core.vectors import Purpose, Space
from streamer.errors import ProviderBlocked
from streamer.http.api import create_api
from streamer.http.server import serve
from streamer.protocols import Embedding, Rejection
from tests.support.indexing import SPACE, Running, Topic


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    async with anyio.create_task_group() as tasks:
        port = await tasks.start(serve, app, "127.0.0.1", 0)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False) as client:
            yield client
        tasks.cancel_scope.cancel()


class DegreesEmbedder:
    """Embeds "90" at 90 degrees; anything else it has no vector for, waits for or fails at."""

    def __init__(self, space: Space = SPACE) -> None:
        self.space = space
        self.purposes: list[Purpose] = []

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:
        self.purposes.append(purpose)
        if texts[0] == "wait":
            await anyio.sleep_forever()
        if texts[0] == "blocked":
            raise ProviderBlocked("the quota is used up")
        if not texts[0].isdigit():
            return [Rejection("rejected", "not a number of degrees")]
        angle = np.radians(int(texts[0]))
        return [Embedding(np.array([np.cos(angle), np.sin(angle)], np.float32), 1, False)]


@asynccontextmanager
async def serving_an_index(
    topic: Topic, embedder: DegreesEmbedder | None = None, **options: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Running]]:
    this = Running(topic)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.settle()
        async with serving(create_api(this.indexer, embedder, **options)) as client:
            yield client, this
        this.indexer.stop()


@asynccontextmanager
async def small_index(embedder: DegreesEmbedder | None = None, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """An index of id-0, a/1 and id-2 at 0, 30 and 60 degrees, caught up."""
    topic = Topic()
    for id, degrees in [("id-0", 0), ("a/1", 30), ("id-2", 60)]:
        topic.append(id, degrees)
    async with serving_an_index(topic, embedder, **options) as (client, _):
        yield client
