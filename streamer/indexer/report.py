"""Where an indexer stands, gathered from its parts."""

from __future__ import annotations

from collections.abc import Mapping

from streamer.core.events import TopicPartition
from streamer.indexer.broadcast import Broadcast
from streamer.indexer.commits import Commits
from streamer.indexer.progress import Progress
from streamer.indexer.snapshots.store import SnapshotStatistics
from streamer.indexer.state import IndexerState
from streamer.indexer.statistics import IndexerStatistics, IndexerTimes


def gathered(
    memory: IndexerState,
    progress: Progress,
    commits: Commits,
    times: IndexerTimes,
    live: Broadcast,
    *,
    is_ready: bool,
    remaining: int,
    commit_ages: Mapping[TopicPartition, float],
    snapshot: SnapshotStatistics | None,
    clocks: tuple[float, float],
) -> IndexerStatistics:
    """`remaining`: records still to read. `clocks`: that of the loop, and seconds since the epoch."""
    now, wall = clocks
    index = memory.judge.index
    oldest, newest = index.ages(wall)
    return IndexerStatistics(
        ready=is_ready,
        space=memory.space.id,
        dimensions=index.dimensions,
        vectors=len(index),
        capacity=index.capacity,
        vector_bytes=index.nbytes,
        restore_records=progress.restore_records,
        restore_remaining=remaining,
        restore_seconds=times.restore_seconds(now),
        unacknowledged_batches=commits.unacknowledged,
        records_total=memory.records,
        deletions_total=memory.deletions,
        malformed_total=memory.malformed,
        searches_total=memory.searches.total,
        commit_failures_total=commits.failures,
        verdicts_refused_total=commits.refused,
        store_failures_total=memory.patience.failures,
        foreign_total=dict(memory.foreign),
        verdicts_total=dict(memory.verdicts),
        p_value=memory.p_values,
        oldest_event_age_seconds=oldest,
        newest_event_age_seconds=newest,
        end_to_end_seconds=times.end_to_end,
        stage_seconds={**times.stages},
        clock_ahead_seconds=times.clock_ahead.value(now),
        commit_age_seconds={str(tp): age for tp, age in commit_ages.items()},
        live_listeners=len(live),
        live_missed_total=live.missed,
        thresholds=memory.judge.thresholds(),
        snapshot=snapshot,
    )
