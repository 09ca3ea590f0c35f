"""The publishing end against a broker that refuses, forgets and goes away: all of it arrives, in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from aiokafka.partitioner import DefaultPartitioner

from streamer.adapters.kafka import sink as sink_module
from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.publisher import HeldBack, Publisher
from streamer.adapters.kafka.refusals import InvalidRecordError
from streamer.adapters.kafka.sink import KafkaSink
from streamer.adapters.kafka.topic_limits import TopicLimits
from streamer.core.events import Message
from streamer.errors import TooLarge, Unreachable
from streamer.protocols import Acknowledgement
from tests.support.brokers import Broker, NewTopicName
from tests.support.mock_cluster import Api, Error, MockCluster, mock_cluster
from tests.support.proxy import Proxy
from tests.support.topics import read_all, read_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    with mock_cluster() as running:
        running.create_topic("vectors", partitions=2)
        yield running


@asynccontextmanager
async def opened(servers: str, **options: Any) -> AsyncIterator[KafkaSink]:
    sink = KafkaSink(KafkaConnection(bootstrap_servers=servers), **options)
    await sink.start()
    try:
        yield sink
    finally:
        await sink.aclose()


def messages(start: int, count: int, topic: str = "vectors", size: int = 10) -> list[Message]:
    return [Message(topic, b"k%d" % (n % 5), b"%d " % n + b"x" * size, ()) for n in range(start, start + count)]


async def finish(acknowledge: Acknowledgement) -> None:
    await acknowledge()


def numbers(records: Sequence[Any]) -> list[int]:
    return [int(record.value.split()[0]) for record in records]


def assert_in_order(records: Sequence[Any], count: int) -> None:
    """Every number is there, and for whoever keeps the last of each it is in order: a mock that accepts what follows a
    refused batch has some of it twice."""
    assert set(numbers(records)) == set(range(count))
    final = {(record.key, int(record.value.split()[0])): place for place, record in enumerate(records)}
    for key in {record.key for record in records}:
        places = [place for (_, _), place in sorted((k, p) for k, p in final.items() if k[0] == key)]
        assert places == sorted(places), f"{key!r} is out of order"


@pytest.mark.parametrize(
    "error",
    [Error.OUT_OF_ORDER_SEQUENCE, Error.TOPIC_AUTHORIZATION_FAILED, Error.INVALID_PRODUCER_EPOCH],
    ids=lambda error: error.name,
)
async def test_after_an_error_for_good_another_producer_sends_it_all_again(cluster: MockCluster, error: Error) -> None:
    async with opened(cluster.bootstrap_servers) as sink:
        cluster.answer_with(Api.PRODUCE, error)
        acknowledged = [await sink.send(messages(n * 20, 20)) for n in range(5)]
        with anyio.fail_after(30):
            for acknowledge in acknowledged:
                await acknowledge()
        assert sink.statistics().producers_replaced_total >= 1
        assert sink.statistics().unacknowledged == 0
        assert sink.state() is None
    assert_in_order(await read_all(cluster.bootstrap_servers, "vectors"), 100)


@pytest.mark.parametrize(
    "error",
    [Error.MESSAGE_TOO_LARGE, Error.INVALID_TIMESTAMP, Error.POLICY_VIOLATION, Error.INVALID_RECORD],
    ids=lambda error: error.name,
)
async def test_what_follows_a_refused_batch_is_not_sent_before_it_nor_twice(cluster: MockCluster, error: Error) -> None:
    async with opened(cluster.bootstrap_servers) as sink:
        await (await sink.send(messages(0, 1)))()
        cluster.answer_with(Api.PRODUCE, error)
        timed = [replace(message, timestamp=1_700_000_000_000) for message in messages(1, 60)]
        acknowledged = [await sink.send(timed[n : n + 20]) for n in range(0, 60, 20)]
        with anyio.fail_after(30):
            for acknowledge in acknowledged:
                await acknowledge()
    records = await read_all(cluster.bootstrap_servers, "vectors")
    assert len(records) == 61
    assert_in_order(records, 61)


@pytest.mark.slow
async def test_what_is_queued_behind_a_batch_that_fails_is_held_back_in_the_same_breath(cluster: MockCluster) -> None:
    """The client may send it before any callback of the failed batch's future runs: to a broker that does not know this
    producer yet it would arrive before what is sent again, and then once more."""
    topic, target = cluster.create_topic("one"), ("one", 0)
    publisher = Publisher(
        KafkaConnection(bootstrap_servers=cluster.bootstrap_servers), "none", TopicLimits(), give_up_after=20.0
    )
    await publisher.start()
    try:
        cluster.set_round_trip(300)
        batches = await publisher.submit(messages(0, 2, topic), [0, 1], singly=True)
        accumulator = publisher.producer._message_accumulator
        (sent,) = accumulator._pending_batches
        assert accumulator._batches[target]
        sent.failure(exception=InvalidRecordError())
        assert target not in accumulator._batches
        cluster.set_round_trip(0)
        with pytest.raises(InvalidRecordError):
            await batches[0].future
        with pytest.raises(HeldBack):
            await batches[1].future
        (late,) = await publisher.submit(messages(2, 1, topic), [0], singly=False)
        with pytest.raises(HeldBack):
            await late.future
    finally:
        await publisher.abandon()


@pytest.mark.slow
async def test_what_is_under_way_to_other_partitions_when_one_refuses_arrives_once(
    cluster: MockCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a broker that takes its time: cut off, it would be sent again."""
    partition_of = partial(DefaultPartitioner(), all_partitions=[0, 1], available=[0, 1])
    shares = [[m for m in messages(0, 20) if partition_of(m.key) == partition] for partition in (0, 1)]
    assert all(shares)
    monkeypatch.setattr(sink_module, "QUIET_DOWN", 0.05)
    async with opened(cluster.bootstrap_servers) as sink:
        for share in shares:
            await (await sink.send(share[:1]))()
        cluster.set_round_trip(200)
        cluster.answer_with(Api.PRODUCE, Error.INVALID_RECORD)
        acknowledged = [await sink.send(share[1:]) for share in shares]
        with anyio.fail_after(60):
            for acknowledge in acknowledged:
                await acknowledge()
        cluster.set_round_trip(0)
    records = await read_all(cluster.bootstrap_servers, "vectors")
    assert sorted(numbers(records)) == list(range(20))


@pytest.mark.parametrize(
    "error", [Error.NOT_LEADER, Error.REQUEST_TIMED_OUT, Error.NOT_ENOUGH_REPLICAS], ids=lambda error: error.name
)
async def test_passing_errors_are_repeated_by_the_same_producer(cluster: MockCluster, error: Error) -> None:
    async with opened(cluster.bootstrap_servers) as sink:
        cluster.answer_with(Api.PRODUCE, *[error] * 3)
        acknowledge = await sink.send(messages(0, 20))
        with anyio.fail_after(30):
            await acknowledge()
        assert sink.statistics().producers_replaced_total == 0
    assert sorted(numbers(await read_all(cluster.bootstrap_servers, "vectors"))) == list(range(20))


@pytest.mark.slow
async def test_refusals_that_last_are_told_and_waited_out(cluster: MockCluster) -> None:
    async with opened(cluster.bootstrap_servers) as sink:
        cluster.answer_with(Api.PRODUCE, *[Error.TOPIC_AUTHORIZATION_FAILED] * 4)
        acknowledge = await sink.send(messages(0, 1))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(finish, acknowledge)
            with anyio.fail_after(30):
                while sink.state() is None:  # noqa: ASYNC110 - the state is a plain question
                    await anyio.sleep(0.01)
            assert "TopicAuthorizationFailed" in str(sink.state())
        assert sink.state() is None


@pytest.mark.real_kafka("limits on the size of a message")
async def test_what_the_broker_finds_too_large_is_named_and_the_rest_arrives(
    bootstrap_servers: str, new_topic: NewTopicName
) -> None:
    topic = await new_topic("small", configs={"max.message.bytes": "20000"})
    async with opened(bootstrap_servers) as sink:
        batch = messages(0, 40, topic, size=100)
        batch[7] = Message(topic, b"k2", b"7 " + b"x" * 30_000, ())
        first, second = await sink.send(batch), await sink.send(messages(40, 10, topic))
        with anyio.fail_after(60), pytest.raises(TooLarge) as raised:
            await first()
        assert raised.value.positions == {7}
        await second()
    records = await read_all(bootstrap_servers, topic)
    assert set(numbers(records)) == set(range(50)) - {7}


@pytest.mark.slow
async def test_brokers_that_go_away_are_waited_for(cluster: MockCluster) -> None:
    async with opened(cluster.bootstrap_servers, delivery_timeout=0.5) as sink:
        await (await sink.send(messages(0, 5)))()
        cluster.set_down()
        acknowledge = await sink.send(messages(5, 5))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(finish, acknowledge)
            with anyio.fail_after(30):
                while sink.statistics().producers_replaced_total < 2:  # noqa: ASYNC110 - the number is a plain question
                    await anyio.sleep(0.01)
            assert sink.state() is not None
            cluster.set_up()
        assert sink.state() is None
    assert set(numbers(await read_until(cluster.bootstrap_servers, "vectors", lambda r: len(r) >= 10))) == set(
        range(10)
    )


async def test_a_command_line_gives_up_where_a_worker_waits(cluster: MockCluster) -> None:
    async with opened(cluster.bootstrap_servers, give_up_after=0.5) as sink:
        cluster.set_down()
        with anyio.fail_after(60), pytest.raises(Unreachable, match="publishing failed"):
            await (await sink.send(messages(0, 5)))()


@pytest.mark.real_kafka("idempotent producers")
async def test_a_lost_acknowledgement_makes_no_duplicate(
    broker: Broker, kafka_proxy: Proxy, new_topic: NewTopicName
) -> None:
    """The broker has it and says so, and the answer never arrives."""
    topic = await new_topic("unheard")
    async with opened(kafka_proxy.address) as sink:
        await (await sink.send(messages(0, 1, topic)))()
        kafka_proxy.down.drop()
        acknowledge = await sink.send(messages(1, 9, topic))
        await read_until(broker.bootstrap_servers, topic, lambda records: len(records) == 10)
        kafka_proxy.heal()
        kafka_proxy.cut()
        with anyio.fail_after(60):
            await acknowledge()
        assert sink.statistics().producers_replaced_total == 0
    assert numbers(await read_all(broker.bootstrap_servers, topic)) == list(range(10))


@pytest.mark.real_kafka("a broker that can be stopped")
@pytest.mark.timeout(240)
async def test_a_broker_that_is_killed_again_and_again(stoppable_broker: Broker, new_topic: NewTopicName) -> None:
    topic = await new_topic("battered", partitions=2)
    sent = 0

    async def send() -> None:
        nonlocal sent
        start, sent = sent, sent + 20
        await (await sink.send(messages(start, 20, topic)))()

    async with opened(stoppable_broker.bootstrap_servers) as sink, anyio.create_task_group() as tasks:
        for _ in range(2):
            for moment in ("before", "meanwhile"):
                for _ in range(5):
                    tasks.start_soon(send, name=moment)
                    await anyio.lowlevel.checkpoint()
                if moment == "before":
                    await anyio.to_thread.run_sync(stoppable_broker.kill)
            await anyio.to_thread.run_sync(stoppable_broker.start)
    records = await read_all(stoppable_broker.bootstrap_servers, topic)
    assert_in_order(records, sent)
    assert len(records) == sent, "an idempotent producer repeats nothing, a broker that forgets nothing has it"
