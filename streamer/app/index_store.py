"""The database that the settings want vectors to be kept in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from anyio.to_thread import run_sync

from streamer.core.vectors import Space
from streamer.errors import without_credentials
from streamer.settings import Settings

if TYPE_CHECKING:
    from streamer.adapters.milvus.store import MilvusStore


@asynccontextmanager
async def open_store(settings: Settings, space: Space, cluster: str | None) -> AsyncIterator[MilvusStore | None]:
    """None with `index.backend = "memory"`. Raises MissingExtra, Unreachable, and ConfigurationError where the
    collection is of another topic. `cluster`: the id of the Kafka cluster, for there are topics of one name in many."""
    index = settings.index
    if index.backend == "memory":
        yield None
        return
    from streamer.adapters.milvus.store import MilvusStore

    store = MilvusStore(
        index.milvus_uri,
        space,
        {"topic": settings.topics.vectors, "cluster": cluster or ""},
        name=index.milvus_collection,
        token=index.milvus_token.get_secret_value() if index.milvus_token else "",
        index_type=index.milvus_index_type,
        timeout=index.milvus_timeout_ms / 1000,
    )
    await run_sync(store.open)
    try:
        yield store
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(store.close)


async def look_at_store(settings: Settings) -> str:
    """What there is of ours, in words; creates nothing. A file is not opened, because an indexer may have it. Raises
    MissingExtra, and Unreachable where a server does not answer."""
    from streamer.adapters.milvus.client import collections, is_file

    index = settings.index
    if is_file(index.milvus_uri):
        is_there = await anyio.Path(index.milvus_uri).exists()
        return f"{index.milvus_uri} {'is there' if is_there else 'will be created'}"
    token = index.milvus_token.get_secret_value() if index.milvus_token else ""
    found = await run_sync(collections, index.milvus_uri, token, index.milvus_timeout_ms / 1000)
    ours = sorted(name for name in found if name.startswith(f"{index.milvus_collection}_"))
    what = f"collections {', '.join(ours)}" if ours else "no collection yet; the indexer creates it"
    return f"Milvus at {without_credentials(index.milvus_uri)}: {what}"
