"""`streamer index`: the indexer put together."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from math import inf

import anyio
import structlog

from streamer.adapters.kafka.changelog import KafkaChangelog
from streamer.adapters.kafka.sink import KafkaSink
from streamer.adapters.kafka.topics import TopicHome, find_home
from streamer.adapters.snapshot_file import SnapshotFile
from streamer.adapters.worker_pages import WorkerPages
from streamer.app.embedder import EmbeddingStack, open_embedding
from streamer.app.handles import check_file_handles
from streamer.app.http import allowed_hosts, build_info, token_of, warn_if_open, workers_of
from streamer.app.index_store import open_store
from streamer.app.indexer_overview import IndexerOverview
from streamer.app.indexer_state import Surroundings
from streamer.app.kafka import connection_of, ensure_topics, open_changelog, open_sink
from streamer.app.kept_history import KeptHistory
from streamer.app.loop_lag import LoopLag
from streamer.app.outages import problems, watch_outages
from streamer.app.sampling import sample_regularly
from streamer.app.signals import Lifetime, until_signalled
from streamer.app.tracing import find_tracing
from streamer.http.api import create_api
from streamer.http.history import History
from streamer.http.server import serve
from streamer.indexer.indexer import Indexer
from streamer.indexer.settings import IndexerSettings
from streamer.indexer.snapshots.store import Snapshots
from streamer.indexer.verdicts.judge import VerdictPolicy
from streamer.settings import Settings
from streamer.stores import VectorStore
from streamer.telemetry.tracing import ConsumerTracing

log = structlog.get_logger(__name__)


def open_snapshots(settings: Settings, home: TopicHome) -> Snapshots | None:
    """None without `index.snapshot_path`."""
    topic, index = settings.topics.vectors, settings.index
    if index.snapshot_path is None:
        return None
    # It holds what was learned, and the vectors only where they are kept in memory.
    collection = None if index.backend == "memory" else f"{index.milvus_uri} {index.milvus_collection}"
    return Snapshots(
        SnapshotFile(index.snapshot_path),
        {
            "topic": topic,
            "cluster": home.cluster,
            "isolation level": settings.isolation_level,
            "index.backend": collection,
        },
        interval=index.snapshot_interval_seconds,
        tombstones_kept=home.tombstones_kept if collection is None else inf,
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """What outlives the process, beside the topics."""

    snapshots: Snapshots | None
    store: VectorStore | None


async def run_indexer(settings: Settings) -> None:
    """Until a signal; or until a part fails, whose error is raised."""
    check_file_handles()
    async with until_signalled() as lifetime, open_embedding(settings) as embedding:
        await ensure_topics(settings, [settings.topics.vectors, settings.topics.verdicts])
        # Verdict positions are committed under a name of their own: the workers' group must not see this member.
        group_id = f"{settings.kafka.group_id}-verdicts"
        home = await find_home(connection_of(settings), settings.topics.vectors)
        async with (
            open_sink(settings) as sink,
            open_changelog(settings, settings.topics.vectors, group_id) as changelog,
            open_store(settings, embedding.embedder.space, home.cluster) as store,
        ):
            kept = Kept(open_snapshots(settings, home), store)
            await _serve_and_index(settings, embedding, sink, changelog, kept, lifetime)


async def _serve_and_index(
    settings: Settings,
    embedding: EmbeddingStack,
    sink: KafkaSink,
    changelog: KafkaChangelog,
    memory: Kept,
    lifetime: Lifetime,
) -> None:
    index, group_id = settings.index, f"{settings.kafka.group_id}-verdicts"
    window = None if index.window_seconds is None else round(index.window_seconds * 1000)
    policy = VerdictPolicy(index.near_duplicate_similarity, index.neighbors, index.false_alarm_rate, window=window)
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
        memory.snapshots,
        ConsumerTracing(find_tracing(), group_id),
        memory.store,
    )
    loop_lag = LoopLag()
    around = Surroundings(indexer, embedding, sink, changelog, memory.snapshots, loop_lag, group_id)
    states = around.states()
    # An indexer that lost its brokers goes on answering searches: ready, and it says what it does without.
    parts = [*states.values(), *([memory.snapshots.problem] if memory.snapshots else [])]
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
        warn_if_open(settings, "texts, metadata, vectors; searches cost provider calls")
        app = create_api(
            indexer,
            embedding.embedder,
            token=token_of(settings),
            degraded=lambda: problems(parts),
            allowed=allowed_hosts(settings),
            history=history,
            facts=overview.facts,
            more=around.statistics,
            build=build_info("indexer", indexer.space),
            status=around.status,
        )
        port = await tasks.start(serve, app, settings.http.host, settings.http.port)
        log.info("indexer started", space=indexer.space.id, url=f"http://{settings.http.host}:{port}")
        tasks.start_soon(watch_outages, states)
        tasks.start_soon(sample_regularly, history, overview.sample)
        if kept is not None:
            tasks.start_soon(kept.save_regularly)
        tasks.start_soon(loop_lag.watch)
        tasks.start_soon(around.conditions.watch)
        tasks.start_soon(around.lag.watch)
        await indexer.run(lambda: lifetime.works(indexer.stop))
        log.info("indexer stopped", vectors=indexer.statistics().vectors)
        tasks.cancel_scope.cancel()
    if kept is not None:
        await kept.save()
