"""One index with all that belongs to it: what it reads and publishes, how it embeds queries, and what it answers.

An indexer has one, and two while the model changes. They share nothing but the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from math import inf
from typing import Any

import anyio
import structlog
from anyio.abc import TaskStatus
from starlette.types import ASGIApp

from streamer.adapters.kafka.changelog import KafkaChangelog
from streamer.adapters.kafka.sink import KafkaSink
from streamer.adapters.kafka.topics import TopicHome, find_home
from streamer.adapters.snapshot_file import SnapshotFile
from streamer.adapters.worker_pages import WorkerPages
from streamer.app.connection import connection_of
from streamer.app.embedder import EmbeddingStack, open_embedding
from streamer.app.http import allowed_hosts, build_info, token_of, workers_of
from streamer.app.index_store import open_store
from streamer.app.indexer_overview import IndexerOverview
from streamer.app.indexer_state import Surroundings
from streamer.app.kafka import ensure_topics, open_changelog, open_sink
from streamer.app.kept_history import KeptHistory
from streamer.app.loop_lag import LoopLag
from streamer.app.outages import watch_outages
from streamer.app.sampling import sample_regularly
from streamer.app.tracing import find_tracing
from streamer.http.api import create_api
from streamer.http.history import History
from streamer.indexer.indexer import Indexer
from streamer.indexer.settings import IndexerSettings
from streamer.indexer.snapshots.store import Snapshots
from streamer.indexer.verdicts.judge import VerdictPolicy
from streamer.settings import Settings
from streamer.stores import VectorStore
from streamer.telemetry.tracing import ConsumerTracing

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class IndexSide:
    """A running index. `app`: its API; `status`: see Surroundings."""

    group: str
    indexer: Indexer
    app: ASGIApp
    status: Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Kept:
    """What outlives the process, beside the topics."""

    snapshots: Snapshots | None
    store: VectorStore | None


def open_snapshots(settings: Settings, home: TopicHome) -> Snapshots | None:
    """None without `index.snapshot_path`."""
    index = settings.index
    if index.snapshot_path is None:
        return None
    # It holds what was learned, and the vectors only where they are kept in memory.
    collection = None if index.backend == "memory" else f"{index.milvus_uri} {index.milvus_collection}"
    return Snapshots(
        SnapshotFile(index.snapshot_path),
        {
            "topic": settings.topics.vectors,
            "cluster": home.cluster,
            "isolation level": settings.isolation_level,
            "index.backend": collection,
        },
        interval=index.snapshot_interval_seconds,
        tombstones_kept=home.tombstones_kept if collection is None else inf,
        shared=collection is not None,
    )


async def run_side(
    settings: Settings,
    begun: Callable[[], None],
    more_status: Callable[[], Mapping[str, Any]],
    *,
    task_status: TaskStatus[IndexSide],
) -> None:
    """Until its indexer is stopped; or until a part fails, whose error is raised. Reports the side once it can answer.

    `begun`: called when there is something to lose, see Indexer.run. `more_status`: what else its status tells.
    """
    async with open_embedding(settings) as embedding:
        await ensure_topics(settings, [settings.topics.vectors, settings.topics.verdicts])
        # Verdict positions are committed under a name of their own: the workers' group must not see this member.
        group_id = f"{settings.kafka.group_id}-verdicts"
        home = await find_home(connection_of(settings), settings.topics.vectors)
        async with (
            open_sink(settings) as sink,
            open_changelog(
                settings, settings.topics.vectors, group_id, shared=settings.index.backend == "milvus"
            ) as changelog,
            open_store(settings, embedding.embedder.space, home.cluster) as store,
        ):
            memory = Kept(open_snapshots(settings, home), store)
            await _index(settings, embedding, sink, changelog, memory, begun, more_status, task_status)


async def _index(
    settings: Settings,
    embedding: EmbeddingStack,
    sink: KafkaSink,
    changelog: KafkaChangelog,
    memory: Kept,
    begun: Callable[[], None],
    more_status: Callable[[], Mapping[str, Any]],
    task_status: TaskStatus[IndexSide],
) -> None:
    index, group_id = settings.index, f"{settings.kafka.group_id}-verdicts"
    window = None if index.window_seconds is None else round(index.window_seconds * 1000)
    policy = VerdictPolicy(
        index.near_duplicate_similarity,
        index.neighbors,
        index.false_alarm_rate,
        window=window,
        near_duplicate_numbers=index.near_duplicate_numbers,
    )
    snapshots = memory.snapshots
    indexer = Indexer(
        changelog,
        sink,
        embedding.embedder.space,
        IndexerSettings(
            verdict_topic=settings.topics.verdicts,
            capacity=index.capacity,
            policy=policy,
            drain_timeout=settings.delivery.drain_timeout_ms / 1000,
        ),
        snapshots,
        ConsumerTracing(find_tracing(), group_id),
        memory.store,
    )
    loop_lag = LoopLag()
    around = Surroundings(indexer, embedding, sink, changelog, snapshots, loop_lag, group_id)
    states = around.states()
    history = History()
    kept = None
    if (path := index.snapshot_path) is not None:
        file = SnapshotFile(path.with_name(f"{path.name}.history"))
        kept = KeptHistory(file, indexer.space.id, history, indexer.showcase.recent)
        await kept.load()
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        workers = [WorkerPages(url, token) for url, token in workers_of(settings)]
        for worker in workers:
            stack.push_async_callback(worker.aclose)
        overview = IndexerOverview(indexer, workers)
        app = create_api(
            indexer,
            embedding.embedder,
            token=token_of(settings),
            state=around.state,
            allowed=allowed_hosts(settings),
            history=history,
            facts=overview.facts,
            more=around.statistics,
            build=build_info("indexer", indexer.space),
            status=lambda: {**around.status(), **more_status()},
        )
        task_status.started(IndexSide(settings.kafka.group_id, indexer, app, around.status))
        tasks.start_soon(watch_outages, states)
        tasks.start_soon(sample_regularly, history, overview.sample)
        if kept is not None:
            tasks.start_soon(kept.save_regularly)
        tasks.start_soon(loop_lag.watch)
        tasks.start_soon(around.conditions.watch)
        tasks.start_soon(around.lag.watch)
        await indexer.run(begun)
        log.info("indexer stopped", vectors=indexer.statistics().vectors, space=indexer.space.id)
        tasks.cancel_scope.cancel()
    if kept is not None:
        await kept.save()
