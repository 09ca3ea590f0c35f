"""Where the time of a batch goes, and how long events were on their way."""

from __future__ import annotations

import anyio
import pytest

from streamer.core.events import Event, Origin, Record, Tombstone, TopicPartition
from streamer.telemetry.histogram import Histogram
from streamer.testing import HashEmbedder, MemorySink, MemorySource, record
from streamer.worker.batching import Batcher, BatchPolicy
from streamer.worker.statistics import FlowTimes
from tests.worker.flows import pipeline, until

A = TopicPartition("texts", 0)


def event(n: int) -> Event:
    return Event(Origin(A, n, 1), record(A, n, b"x" * 10, b"k"), "k", "x")


def tombstone(timestamp: int) -> Tombstone:
    return Tombstone(Origin(A, 0, 1), Record(A, 0, b"k", None, timestamp), "k")


def only(histogram: Histogram) -> float:
    assert histogram.count == 1
    return histogram.sum


def test_a_batch_waits_for_a_slot_and_then_for_more_events() -> None:
    times = FlowTimes()
    times.cut("window", 5, oldest=10.0, slot_free_since=12.0, now=12.5)
    assert only(times.stages["queue"]) == 2.0
    assert only(times.stages["window"]) == 0.5
    assert only(times.batch_size["window"]) == 5


def test_with_a_free_slot_it_only_waits_for_more() -> None:
    times = FlowTimes()
    times.cut("full", 7, oldest=10.0, slot_free_since=1.0, now=10.25)
    assert only(times.stages["queue"]) == 0.0
    assert only(times.stages["window"]) == 0.25


def test_the_way_of_an_event_begins_with_its_time_and_ends_with_the_acknowledgement() -> None:
    times = FlowTimes()
    times.published([tombstone(1000), tombstone(3000), tombstone(99_000), tombstone(-1)], 0.5, wall=4.0)
    assert only(times.stages["publish"]) == 0.5
    # One from the future takes no time, and one without a time is left out.
    assert (times.end_to_end.count, times.end_to_end.sum) == (3, 3.0 + 1.0 + 0.0)


@pytest.mark.parametrize(
    ("events", "now", "slot_free_since", "cut"),
    [(3, 0.5, 0.0, "full"), (1, 0.5, 0.0, "drain"), (1, 1.0, 0.0, "window"), (1, 5.0, 4.0, "slot_free")],
)
def test_what_cuts_a_batch(events: int, now: float, slot_free_since: float, cut: str) -> None:
    batcher = Batcher(BatchPolicy(max_events=3, max_bytes=1000, linger=1.0))
    for n in range(events):
        batcher.add(event(n), 0.0)
    assert batcher.cut(now, slot_free_since) == cut


def test_bytes_cut_a_batch() -> None:
    batcher = Batcher(BatchPolicy(max_events=3, max_bytes=15, linger=1.0))
    batcher.add(event(0), 0.0)
    batcher.add(event(1), 0.0)
    assert batcher.cut(0.1, 0.0) == "bytes"


@pytest.mark.anyio
async def test_a_flow_measures_every_stage_and_the_age_of_what_is_unfinished() -> None:
    now, wall = 100.0, 1_700_000_060.0
    log = [record(A, n, b'{"text": "x"}' if n % 2 else b"{broken", b"k") for n in range(20)]
    source, sink = MemorySource({A: log}), MemorySink()
    flow = pipeline(source, HashEmbedder(), sink, linger=0, clock=lambda: now, wall_clock=lambda: wall)
    commit = source.commit
    committing = anyio.Event()

    async def held_back(offsets: dict[TopicPartition, int]) -> None:
        await committing.wait()
        await commit(offsets)

    source.commit = held_back  # type: ignore[method-assign, assignment]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A])
        await until(lambda: len(sink.acknowledged) == 20)
        await until(lambda: flow.statistics().in_flight == 0)
        now = 107.0
        assert flow.offsets().oldest_age == {A: 0.0}
        assert flow.offsets().commit_age == {A: 7.0}, "acknowledged, and not committed"
        committing.set()
        await until(lambda: flow.statistics().commits_total > 0)
        assert flow.offsets().commit_age == {A: 0.0}
        flow.stop()
    assert flow.statistics().dead_letters_total["undecodable"] == 10
    assert flow.times.end_to_end.count == 20
    assert all(histogram.count for histogram in flow.times.stages.values())
    assert sum(histogram.sum for histogram in flow.times.batch_size.values()) == 10
    assert flow.tracker.committed_offsets() == {A: 20}


@pytest.mark.anyio
async def test_a_record_from_the_future_shows_for_a_minute() -> None:
    now = 100.0
    source, sink = MemorySource({A: [record(A, 0, b'{"text": "x"}', b"k")]}), MemorySink()
    flow = pipeline(source, HashEmbedder(), sink, linger=0, clock=lambda: now, wall_clock=lambda: 1_699_999_400.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A])
        await until(lambda: len(sink.acknowledged) == 1)
        assert flow.times.clock_ahead.value(now) == 600.0
        now = 170.0
        assert flow.times.clock_ahead.value(now) == 0.0
        flow.stop()
