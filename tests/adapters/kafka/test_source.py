"""The reading end: nothing skipped whatever the client, the log and the group do; what cannot be helped is told."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import anyio
import pytest
from aiokafka import TopicPartition as ClientPartition
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete
from aiokafka.errors import CorruptRecordException

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.diagnosis import ConsumerTimeouts
from streamer.adapters.kafka.source import KafkaSource
from streamer.core.events import TopicPartition
from streamer.errors import ConfigurationError, PartitionLost, RetriableError, Unreachable
from tests.adapters.kafka.reading import SHORT, Reader, administration, fill, reading
from tests.faults.causes import damaged, log_of
from tests.support.brokers import Broker, NewTopicName
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]


@pytest.mark.parametrize("part", ["fetching", "coordination"])
async def test_a_consumer_whose_task_died_is_replaced(
    bootstrap_servers: str, new_topic: NewTopicName, part: str
) -> None:
    """The client would return nothing for ever, its heartbeats going on."""
    topic = await new_topic("dying", partitions=2)
    await fill(bootstrap_servers, topic, 0, 50)
    async with reading(bootstrap_servers, topic) as reader:
        await reader.read(lambda: len(reader.records) == 50)
        await reader.source.commit({tp: 1 + max(r.offset for r in reader.records if r.tp == tp) for tp in reader.owned})
        consumer = reader.source._membership.consumer
        task = consumer._fetcher._fetch_task if part == "fetching" else consumer._coordinator._coordination_task
        task.cancel()
        await reader.read(lambda: reader.source.statistics().consumers_replaced_total == 1)
        await fill(bootstrap_servers, topic, 50, 50)
        await reader.read(lambda: len(reader.records) == 100)
        assert sorted(reader.values) == list(range(100))
        assert reader.source.statistics().consumers_replaced_total == 1
        assert reader.events.count("assigned") == 2
        assert reader.source.state() is None


async def test_a_consumer_that_is_stuck_is_replaced(
    bootstrap_servers: str, new_topic: NewTopicName, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = await new_topic("stuck")
    async with reading(bootstrap_servers, topic) as reader:
        await fill(bootstrap_servers, topic, 0, 1)
        await reader.read(lambda: len(reader.records) == 1)

        async def nothing(*_: object) -> bool:
            stuck.set()
            await asyncio.sleep(0.05)
            return False

        stuck = asyncio.Event()
        monkeypatch.setattr(reader.source._membership.consumer._fetcher, "_proc_fetch_request", nothing)
        await reader.read(stuck.is_set)  # the last real request is over
        await fill(bootstrap_servers, topic, 1, 5)
        await reader.read(lambda: reader.source.statistics().consumers_replaced_total > 0)
        await reader.read(lambda: set(reader.values) == set(range(6)))


async def test_an_error_on_one_partition_costs_no_record_of_another(
    bootstrap_servers: str, new_topic: NewTopicName
) -> None:
    """The client moves its position past records that it drops when another partition's batch is broken."""
    topic = await new_topic("damaged", partitions=3)
    for partition in range(3):
        await fill(bootstrap_servers, topic, partition * 100, 100, partition=partition)
    async with reading(bootstrap_servers, topic) as reader:
        fetcher = reader.source._membership.consumer._fetcher
        getting = fetcher.fetched_records
        broken = ClientPartition(topic, 1)

        async def damaged(tps: Collection[ClientPartition], timeout: float, max_records: int) -> Any:
            found = await getting(tps, timeout, max_records=max_records)
            if broken in tps and is_damaged:
                raise CorruptRecordException(f"Invalid CRC - {broken}")
            return found

        is_damaged = True
        fetcher.fetched_records = damaged
        await reader.read(lambda: len(reader.records) >= 200)
        await reader.read(lambda: reader.source.statistics().unreadable_partitions == 1)
        assert "cannot be read" in str(reader.source.state())
        assert sorted(reader.values) == [*range(100), *range(200, 300)]
        is_damaged = False
        await reader.read(lambda: len(reader.records) >= 300)
        assert sorted(reader.values) == list(range(300)), "mended, it is read from where it was"
        assert reader.source.statistics().consumers_replaced_total == 0, "which would not mend it"
        assert reader.source.state() is None


@pytest.mark.real_kafka("records in files")
async def test_a_damaged_batch_that_has_been_mended_is_read_at_the_next_try(
    broker: Broker, bootstrap_servers: str, new_topic: NewTopicName
) -> None:
    """The client fetches a partition that is left alone, too, and would hand over what it has from before."""
    topic = await new_topic("mended")
    if (log := log_of(broker, topic, 0)) is None:
        pytest.skip("needs a broker whose files are at hand")
    await fill(bootstrap_servers, topic, 0, 10)
    await fill(bootstrap_servers, topic, 10, 10)
    async with reading(bootstrap_servers, topic, max_poll_records=5) as reader:
        with damaged(log):
            await reader.read(lambda: reader.source.statistics().unreadable_partitions == 1)
            assert reader.values == list(range(10))
            failures = reader.source.statistics().poll_failures_total
            await reader.read(lambda: reader.source.statistics().poll_failures_total > failures)
            [waits] = reader.source.waits()
            assert "damaged batch at or after offset 10" in waits.text
        failures = reader.source.statistics().poll_failures_total
        await reader.read(lambda: len(reader.records) == 20)
        assert reader.values == list(range(20))
        assert reader.source.statistics().poll_failures_total == failures
        assert reader.source.waits() == []


@pytest.mark.real_kafka("deleting records")
async def test_what_retention_deleted_is_counted(bootstrap_servers: str, new_topic: NewTopicName) -> None:
    topic = await new_topic("short-lived")
    tp = ClientPartition(topic, 0)
    await fill(bootstrap_servers, topic, 0, 100)
    async with reading(bootstrap_servers, topic) as reader:
        await reader.read(lambda: len(reader.records) == 100)
        await reader.source.commit({TopicPartition(*tp): 10})
    async with administration(bootstrap_servers) as admin:
        await admin.delete_records({tp: RecordsToDelete(before_offset=60)})
    async with reading(bootstrap_servers, topic) as reader:
        await reader.read(lambda: len(reader.records) == 40)
        assert reader.values == list(range(60, 100))
        assert reader.source.statistics().deleted_offsets_total == 50


@pytest.mark.real_kafka("positions beyond the end of a log")
async def test_a_log_that_ends_before_our_position_is_read_from_its_beginning(
    bootstrap_servers: str, new_topic: NewTopicName
) -> None:
    topic = await new_topic("truncated")
    await fill(bootstrap_servers, topic, 0, 20)
    async with reading(bootstrap_servers, topic) as reader:
        await reader.read(lambda: len(reader.records) == 20)
        await reader.source.commit({TopicPartition(topic, 0): 5000})  # as if there had been more
    async with reading(bootstrap_servers, topic) as reader:
        await reader.read(lambda: len(reader.records) == 20)
        assert reader.values == list(range(20))
        assert reader.source.statistics().truncations_total == 1
        assert reader.events[-3:] == ["assigned", "lost", "assigned"], "the flow starts over with it"


@pytest.mark.real_kafka("adding partitions")
async def test_partitions_added_later_are_read_from_their_beginning(
    bootstrap_servers: str, new_topic: NewTopicName
) -> None:
    topic = await new_topic("growing")
    await fill(bootstrap_servers, topic, 0, 5)
    async with reading(bootstrap_servers, topic) as reader:
        await reader.read(lambda: len(reader.records) == 5)
        await reader.source.commit({TopicPartition(topic, 0): 5})
        async with administration(bootstrap_servers) as admin:
            await admin.create_partitions({topic: NewPartitions(total_count=3)})
        for partition in (1, 2):
            await fill(bootstrap_servers, topic, partition * 10, 5, partition=partition)
        await reader.read(lambda: len(reader.records) >= 15)
        assert sorted(reader.values) == [*range(5), *range(10, 15), *range(20, 25)]


@pytest.mark.real_kafka("deleting topics")
async def test_a_deleted_topic_is_an_error_that_says_so(bootstrap_servers: str, new_topic: NewTopicName) -> None:
    topic = await new_topic("doomed")
    await fill(bootstrap_servers, topic, 0, 5)

    async def read_on() -> None:
        async with reading(bootstrap_servers, topic) as reader, administration(bootstrap_servers) as admin:
            await reader.read(lambda: len(reader.records) == 5)
            await admin.delete_topics([topic])
            await reader.read(lambda: False)

    with pytest.raises(ExceptionGroup) as raised:
        await read_on()
    (error,) = [e for e in raised.value.exceptions if isinstance(e, Unreachable)]
    assert topic in str(error)
    assert "deleted" in str(error)
    async with administration(bootstrap_servers) as admin:
        await admin.create_topics([NewTopic(topic, 1, 1)])  # for the fixture


@pytest.mark.real_kafka("a second listener")
async def test_a_connection_that_goes_dead_or_is_cut_loses_nothing(
    bootstrap_servers: str, kafka_proxy: Proxy, new_topic: NewTopicName
) -> None:
    topic = await new_topic("far-away", partitions=2)
    timeouts = ConsumerTimeouts(interval=0.1, quiet=0.3, request=1.0, step=1.0)
    async with reading(kafka_proxy.address, topic, timeouts=timeouts) as reader:
        for n in range(3):
            await fill(bootstrap_servers, topic, n * 20, 20)
            await reader.read(lambda wanted=(n + 1) * 20: len(reader.records) >= wanted)  # type: ignore[misc]
            kafka_proxy.cut()
        kafka_proxy.down.drop()
        await fill(bootstrap_servers, topic, 60, 20)
        await reader.read(lambda: "no answer from Kafka" in str(reader.source.state()))
        with pytest.raises((RetriableError, PartitionLost)), anyio.fail_after(15):
            await reader.source.commit(dict.fromkeys(reader.owned, 1))  # bounded, or a rebalance would wait for it
        kafka_proxy.heal()
        kafka_proxy.cut()
        await reader.read(lambda: len(reader.records) >= 80)
        await reader.read(lambda: reader.source.state() is None)
        assert sorted(reader.values) == list(range(80))


async def test_brokers_silent_for_long_are_looked_up_again(
    bootstrap_servers: str, new_topic: NewTopicName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when all of them got new addresses: what a client knows of the cluster is of no use any more."""
    topic = await new_topic("moved")
    await fill(bootstrap_servers, topic, 0, 5)
    timeouts = replace(SHORT, unreachable=0.5, request=0.5, step=0.5)
    async with reading(bootstrap_servers, topic, timeouts=timeouts) as reader:
        await reader.read(lambda: len(reader.records) == 5)
        await reader.source.commit({TopicPartition(topic, 0): 5})
        client = reader.source._membership.consumer._client

        async def nobody(*_: object, **__: object) -> None:
            await asyncio.sleep(0.01)

        await client.close()
        monkeypatch.setattr(client, "_get_conn", nobody)
        await fill(bootstrap_servers, topic, 5, 5)
        await reader.read(lambda: len(reader.records) == 10, timeout=60)
        assert reader.source.statistics().consumers_replaced_total >= 1


async def test_an_error_in_the_flow_at_a_rebalance_ends_it(bootstrap_servers: str, new_topic: NewTopicName) -> None:
    """The client only logs it; half a worker is worse than none."""
    topic = await new_topic("unlucky")

    class Unlucky(Reader):
        async def on_assigned(self, tps: Collection[TopicPartition]) -> None:
            raise ZeroDivisionError

    source = KafkaSource(
        KafkaConnection(bootstrap_servers=bootstrap_servers), [topic], f"group-{topic}", timeouts=SHORT
    )
    try:
        await source.start(Unlucky(source))
        with anyio.fail_after(20), pytest.raises(ZeroDivisionError):
            await source.watch()
    finally:
        await source.aclose()


@pytest.mark.real_kafka("bounds of the session timeout")
async def test_a_session_that_the_brokers_do_not_allow_is_a_setting_to_be_changed(
    bootstrap_servers: str, new_topic: NewTopicName
) -> None:
    topic = await new_topic("strict")
    with pytest.raises(ConfigurationError, match=r"session_timeout_ms = 99000000 .*group\.max\.session"):
        async with reading(bootstrap_servers, topic, session_timeout=99_000.0):
            pass
