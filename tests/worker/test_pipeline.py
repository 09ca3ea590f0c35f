"""The flow against fakes with random latencies: order, nothing lost, nothing committed early, nothing left behind."""

from __future__ import annotations

import gc
import random
import time
from collections import defaultdict
from collections.abc import Sequence

import anyio
import anyio.lowlevel
import orjson
import pytest
from structlog.testing import capture_logs

from streamer.core.events import Message, Record, TopicPartition
from streamer.core.vectors import Purpose
from streamer.errors import PartitionLost
from streamer.protocols import Acknowledgement, Embedding, Rejection
from streamer.telemetry.commit_health import LASTING_SECONDS
from streamer.testing import HashEmbedder, MemorySink, MemorySource, record, vector_of
from streamer.worker.pipeline import Pipeline
from tests.worker.flows import pipeline, until

pytestmark = pytest.mark.anyio
A, B = TopicPartition("texts", 0), TopicPartition("texts", 1)


def texts(tp: TopicPartition, count: int) -> list[Record]:
    """Every tenth a tombstone, every eleventh not JSON, every thirteenth refused by the provider; offsets with gaps."""
    made = []
    for n in range(count):
        offset = n * 2
        key = f"{tp.partition}-{n}".encode()
        if n % 10 == 9:
            value = None
        elif n % 11 == 10:
            value = b"{broken"
        else:
            value = orjson.dumps({"text": f"text {n} of {tp.partition}" + (" reject" if n % 13 == 12 else "")})
        made.append(record(tp, offset, value, key))
    return made


def outcomes_counted(flow: Pipeline) -> int:
    counts = flow.statistics()
    return counts.embedded_total + counts.tombstones_total + sum(counts.dead_letters_total.values())


def keys(sink: MemorySink, partition: int) -> list[str]:
    return [m.key.decode() for m in sink.sent if m.key and m.key.startswith(f"{partition}-".encode())]


async def test_a_worker_that_only_makes_dead_letters_is_not_ready_and_says_so_once() -> None:
    log = [record(A, n, b'{"id": 1, "body": "x"}', b"k") for n in range(250)]
    good = [record(A, 250 + n, b'{"text": "x"}', b"k") for n in range(50)]
    source, sink = MemorySource({A: log}), MemorySink()
    flow = pipeline(source, HashEmbedder(), sink)
    with capture_logs() as logs:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(flow.run)
            await flow.on_assigned([A])
            await until(lambda: len(sink.acknowledged) == 250)
            assert flow.ready() == (
                "100 of the latest 100 records became dead letters, mostly missing_text: no text at 'text'; "
                "the record has id, body: set input.text_field"
            )
            log += good
            await until(lambda: len(sink.acknowledged) == 300)
            assert flow.ready() is None
            flow.stop()
    told = [entry for entry in logs if entry["event"] != "dead letter" and "assigned" not in entry["event"]]
    assert [(entry["log_level"], entry["event"]) for entry in told] == [
        ("error", "nearly all records end as dead letters"),
        ("info", "records have vectors again"),
    ]
    assert (told[0]["kind"], told[0]["dead_letters"], told[0]["records"]) == ("missing_text", 100, 100)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3, 4))])
async def test_every_record_leaves_once_in_order_with_its_own_vector(seed: int) -> None:
    rng = random.Random(seed)
    source = MemorySource({A: texts(A, 300), B: texts(B, 200)})
    embedder, sink = HashEmbedder(rng), MemorySink(rng)
    flow = pipeline(source, embedder, sink)

    # At every commit everything below it must have been acknowledged: checked inside the source.
    original = source.commit

    async def commit(offsets: dict[TopicPartition, int]) -> None:
        done = {m.key for m in sink.acknowledged}
        for tp, offset in offsets.items():
            assert offset > source.committed.get(tp, -1), "commits move forward"
            assert all(r.key in done for r in source.log[tp] if r.offset < offset), "never past unfinished work"
        await original(offsets)

    source.commit = commit  # type: ignore[method-assign, assignment]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A, B])
        await until(lambda: len(sink.acknowledged) == 500)
        flow.stop()

    assert source.committed == {A: 299 * 2 + 1, B: 199 * 2 + 1}
    for tp in (A, B):
        by_topic = defaultdict(list)
        for message in sink.sent:
            assert message.key is not None
            if message.key.startswith(f"{tp.partition}-".encode()):
                by_topic[message.topic].append(int(message.key.split(b"-")[1]))
        assert by_topic["vectors"] == sorted(by_topic["vectors"])
        assert sorted(by_topic["vectors"] + by_topic["dead-letters"]) == list(range(len(source.log[tp])))
    originals = {r.key: r for tp in (A, B) for r in source.log[tp]}
    for message in sink.sent:
        if message.topic == "vectors" and message.value is not None:
            body = orjson.loads(message.value)
            value = originals[message.key].value
            assert value is not None
            assert body["vector"] == pytest.approx(vector_of(orjson.loads(value)["text"]).tolist(), abs=1e-6)
    statistics = flow.statistics()
    assert outcomes_counted(flow) == statistics.records_total == 500
    assert statistics.in_flight == statistics.in_flight_bytes == statistics.batches_in_flight == 0


async def test_a_slow_batch_holds_up_its_own_partition_only() -> None:
    class Slow(HashEmbedder):
        async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:
            if any(text.endswith("of 0") for text in texts):
                await gate.wait()
            return await super().embed(texts, purpose)

    gate = anyio.Event()
    source = MemorySource({A: texts(A, 5), B: []})
    sink = MemorySink()
    flow = pipeline(source, Slow(), sink)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A, B])
        await until(lambda: flow.statistics().batches_total == 1)
        source.log[B].extend(texts(B, 5))  # type: ignore[attr-defined]
        await until(lambda: len(keys(sink, 1)) == 5)
        assert keys(sink, 0) == []
        gate.set()
        await until(lambda: len(keys(sink, 0)) == 5)
        flow.stop()


async def test_a_full_partition_is_not_polled_and_nothing_grows() -> None:
    source = MemorySource({A: texts(A, 1000), B: texts(B, 1000)}, max_records=10)
    embedder, sink = HashEmbedder(), MemorySink()
    embedder.gate = anyio.Event()
    flow = pipeline(source, embedder, sink, max_in_flight=50)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A, B])
        await until(lambda: flow.statistics().in_flight >= 100)
        await anyio.wait_all_tasks_blocked()
        before = len(source.polled)
        assert flow.statistics().in_flight <= 2 * (50 + 10)
        assert embedder.most_in_flight == 4
        await anyio.wait_all_tasks_blocked()
        assert len(source.polled) == before
        embedder.gate.set()
        embedder.gate = None
        await until(lambda: len(sink.acknowledged) == 2000)
        flow.stop()


@pytest.mark.parametrize("words", [1, 4000])
async def test_the_event_loop_is_not_held_up_by_many_long_texts_that_leave_at_once(words: int) -> None:
    class Gated(MemorySink):
        async def send(self, messages: Sequence[Message]) -> Acknowledgement:
            counts.append(len(messages))
            await gate.wait()
            return await super().send(messages)

    counts: list[int] = []
    gate = anyio.Event()
    value = orjson.dumps({"text": "word " * words})  # 20 kB, or a few bytes
    source = MemorySource({A: [record(A, n, value, b"%d" % n) for n in range(47)]})
    sink = Gated()
    flow = pipeline(source, HashEmbedder(), sink)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A])
        await until(lambda: flow.statistics().batches_total == 7 and flow.statistics().batches_in_flight == 0)
        gate.set()
        await until(lambda: len(sink.acknowledged) == 47)
        flow.stop()
    assert (max(counts) <= 13) is (words > 1)  # of 256 KiB


async def test_a_rebalance_drains_and_commits_before_it_lets_go() -> None:
    source = MemorySource({A: texts(A, 200)})
    embedder, sink = HashEmbedder(random.Random(1)), MemorySink(random.Random(2))
    flow = pipeline(source, embedder, sink)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A])
        await until(lambda: len(sink.acknowledged) > 20)
        await flow.on_revoked([A])
        assert flow.statistics().partitions == 0
        last = max(r.offset for r in source.log[A] if r.key in {m.key for m in sink.acknowledged})
        assert source.committed[A] == last + 1
        source.rewind()
        await flow.on_assigned([A])
        await until(lambda: len(sink.acknowledged) >= 200)
        flow.stop()
    assert len(sink.sent) == 200, "a clean rebalance repeats nothing"


@pytest.mark.slow
async def test_batches_are_as_large_as_before_when_a_partition_has_gone_to_another() -> None:
    """A drain cuts them short; it must not go on for what has left."""
    source, embedder = MemorySource({A: [], B: []}), HashEmbedder()
    flow = pipeline(source, embedder, MemorySink(), linger=60.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A, B])
        await flow.on_revoked([A, B])
        await flow.on_assigned([B])
        for count, text in enumerate(texts(B, 7), 1):
            assert embedder.calls == 0
            source.log[B].append(text)  # type: ignore[attr-defined]
            await until(lambda wanted=count: flow.statistics().records_total == wanted)  # type: ignore[misc]
            await anyio.wait_all_tasks_blocked()
        assert embedder.calls == 1
        flow.stop()


async def test_work_that_outlasts_the_drain_is_stale_and_read_again() -> None:
    source = MemorySource({A: texts(A, 5)})
    embedder, sink = HashEmbedder(), MemorySink()
    embedder.gate = gate = anyio.Event()
    flow = pipeline(source, embedder, sink, drain_timeout=0.01)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A])
        await until(lambda: embedder.in_flight == 1)
        await flow.on_revoked([A])
        assert source.committed == {}
        gate.set()
        embedder.gate = None
        await anyio.wait_all_tasks_blocked()
        assert sink.sent == [], "a late result of a lost partition is dropped"
        source.rewind()
        await flow.on_assigned([A])
        await until(lambda: len(sink.acknowledged) == 5)
        flow.stop()
    assert source.committed == {A: 9}


async def test_a_lost_partition_is_read_again_from_where_it_was_committed() -> None:
    """As when its transaction failed: what was published of it will never be seen."""

    class Failing(MemorySink):
        async def send(self, messages: Sequence[Message]) -> Acknowledgement:
            acknowledge = await super().send(messages)

            async def fail() -> None:
                await acknowledge()
                lost = {m.origin.tp for m in messages if m.origin} & {A}
                if lost and not is_well:
                    failed.set()
                    raise PartitionLost("its transaction failed", lost)

            return fail

    is_well, failed = False, anyio.Event()
    source = MemorySource({A: texts(A, 30), B: texts(B, 30)})
    sink = Failing()
    flow = pipeline(source, HashEmbedder(random.Random(1)), sink)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A, B])
        await failed.wait()
        await until(lambda: source.committed == {B: 59})
        await flow.on_lost([A])
        is_well = True
        source.position[A] = 0
        await flow.on_assigned([A])
        await until(lambda: source.committed == {A: 59, B: 59})
        flow.stop()
    assert len(keys(sink, 1)) == 30, "the other partition did not notice"
    assert outcomes_counted(flow) == 60, "what was lost counts when it is published after all"


async def test_stop_finishes_what_is_in_flight_and_reads_nothing_more() -> None:
    source = MemorySource({A: texts(A, 1000)}, max_records=20)
    sink = MemorySink(random.Random(3))
    flow = pipeline(source, HashEmbedder(random.Random(4)), sink)
    source.on_poll = lambda: flow.stop() if len(source.polled) == 5 else None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A])
    assert 0 < len(sink.sent) < 1000
    assert len(sink.acknowledged) == len(sink.sent)
    assert source.committed == {A: (len(sink.sent) - 1) * 2 + 1}


@pytest.mark.parametrize("part", ["embedder", "sink"])
async def test_a_part_that_dies_takes_the_worker_down_and_commits_nothing(part: str) -> None:
    source = MemorySource({A: texts(A, 20)})
    embedder, sink = HashEmbedder(), MemorySink()
    (embedder if part == "embedder" else sink).failure = OSError("gone")
    flow = pipeline(source, embedder, sink)
    await flow.on_assigned([A])
    with anyio.fail_after(60), pytest.raises(ExceptionGroup) as raised:
        await flow.run()
    assert raised.value.split(OSError)[1] is None, "nothing but the error of the part that died"
    assert source.committed == {}


async def test_a_refused_commit_is_survived() -> None:
    source = MemorySource({A: texts(A, 20)})
    source.lost = {A}
    sink = MemorySink()
    flow = pipeline(source, HashEmbedder(), sink)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A])
        await until(lambda: flow.statistics().commit_failures_total > 2)
        source.lost = set()
        await until(lambda: source.committed == {A: 39})
        flow.stop()


async def test_nothing_more_is_read_while_so_much_is_not_committed() -> None:
    source = MemorySource({A: texts(A, 1000), B: texts(B, 40)}, max_records=10)
    source.lost = {A, B}
    later = 0.0
    flow = pipeline(source, HashEmbedder(), MemorySink(), max_in_flight=100, clock=lambda: time.monotonic() + later)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A, B])
        await until(lambda: flow.done() >= 50 + 40 and not flow.statistics().in_flight)
        failures = flow.statistics().commit_failures_total
        done = flow.done()
        await until(lambda: flow.statistics().commit_failures_total > failures + 5)
        assert flow.done() == done
        assert flow.done() - 40 < 50 + 100, "of A what was in flight, too, at the most"
        assert flow.statistics().in_flight == 0
        assert flow.ready() is None, "commits fail now and then"
        later = LASTING_SECONDS
        assert flow.ready() == "commits: another member owns the partition now; nothing more is read until they succeed"
        source.lost = set()
        await until(lambda: source.committed == {A: 2 * 1000 - 1, B: 2 * 40 - 1})
        assert flow.ready() is None
        flow.stop()
    assert flow.done() == 1000 + 40


@pytest.mark.parametrize("repeats", [True, False])
async def test_offsets_are_committed_early_where_a_crash_would_repeat_what_is_not(repeats: bool) -> None:
    source, sink = MemorySource({A: texts(A, 1000)}, max_records=10), MemorySink()
    flow = pipeline(source, HashEmbedder(), sink, max_in_flight=50, commit_interval=3600, repeats_uncommitted=repeats)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A])
        await until(lambda: len(sink.acknowledged) == 1000)
        flow.stop()
    assert (len(source.commits) > 1000 // (25 + 50)) is repeats


async def test_the_smallest_window_flows() -> None:
    source, sink = MemorySource({A: texts(A, 20)}, max_records=1), MemorySink()
    flow = pipeline(source, HashEmbedder(), sink, max_in_flight=1, commit_interval=3600)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A])
        await until(lambda: len(sink.acknowledged) == 20)
        flow.stop()


@pytest.mark.slow
async def test_neither_tasks_nor_objects_grow_with_the_number_of_events() -> None:
    source = MemorySource({A: texts(A, 6000)}, max_records=100)
    sink = MemorySink()
    flow = pipeline(source, HashEmbedder(), sink)
    most_tasks = 0
    sizes = []

    def measure() -> None:
        nonlocal most_tasks
        most_tasks = max(most_tasks, len(anyio.get_running_tasks()))
        if len(source.polled) in (20, 50):
            sink.sent.clear()
            sink.acknowledged.clear()
            gc.collect()
            sizes.append(sum(1 for o in gc.get_objects() if str(type(o).__module__).startswith("streamer.")))

    source.on_poll = measure
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([A])
        await until(lambda: flow.statistics().records_total == 6000 and flow.statistics().in_flight == 0)
        flow.stop()
    assert most_tasks < 15
    assert abs(sizes[1] - sizes[0]) < 1500
