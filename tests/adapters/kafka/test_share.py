"""Several indexers divide the partitions of one topic: each hears of a change before it happens, and has its say."""

from __future__ import annotations

import anyio
import pytest

from streamer.adapters.kafka.changelog import KafkaChangelog
from streamer.adapters.kafka.connection import KafkaConnection
from streamer.core.events import TopicPartition
from tests.support.brokers import Broker, NewTopicName
from tests.support.topics import produce

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180), pytest.mark.real_kafka("a consumer group of two")]


def member(broker: Broker, topic: str) -> KafkaChangelog:
    connection = KafkaConnection(bootstrap_servers=broker.bootstrap_servers)
    return KafkaChangelog(connection, topic, f"{topic}-verdicts", session_timeout=6.0, shared=True)


async def until_changing(changelog: KafkaChangelog) -> None:
    with anyio.fail_after(60):
        while not changelog.is_changing:
            await changelog.poll(0.05)


async def test_partitions_are_divided_once_everybody_has_let_go(broker: Broker, new_topic: NewTopicName) -> None:
    topic = await new_topic("vectors", partitions=4)
    everything = {TopicPartition(topic, partition) for partition in range(4)}
    await produce(broker.bootstrap_servers, topic, [(b"a", b"1"), (b"b", b"2"), (b"c", b"3"), (b"d", b"4")])
    first, second = member(broker, topic), member(broker, topic)
    await first.start()
    assert first.positions().keys() == everything
    assert not first.is_changing
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(second.start)
        await until_changing(first)
        assert first.positions().keys() == everything, "until it lets go"
        assert second.positions() == {}
        await first.change()
    with anyio.fail_after(60):
        while len(first.positions()) != 2 or first.is_changing:  # the group may settle in two steps
            await until_changing(first)
            await first.change()
        while second.is_changing:
            await second.change()
    assert len(second.positions()) == 2
    assert first.positions().keys() | second.positions().keys() == everything
    read = 0
    with anyio.fail_after(60):
        while read < 4:
            read += sum([len(await changelog.poll(0.05)) for changelog in (first, second)])
    assert read == 4

    mine = dict.fromkeys(first.positions(), 1)
    await first.commit(mine | dict.fromkeys(second.positions(), 7))
    assert await first.committed() == mine
    assert await second.committed() == {}, "nobody commits for another"

    await second.aclose()
    await until_changing(first)
    await first.change()
    assert first.positions().keys() == everything
    assert await first.committed() == mine, "what is committed is the group's, not the member's"
    await first.aclose()


async def test_more_members_than_partitions(broker: Broker, new_topic: NewTopicName) -> None:
    topic = await new_topic("small")
    busy, idle = member(broker, topic), member(broker, topic)
    await busy.start()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(idle.start)
        await until_changing(busy)
        await busy.change()
    with anyio.fail_after(60):
        for changelog in (busy, idle):
            while changelog.is_changing:
                await changelog.change()
    assert sorted([len(busy.positions()), len(idle.positions())]) == [0, 1]
    (empty,) = (each for each in (busy, idle) if not each.positions())
    assert await empty.poll(0.01) == []
    assert await empty.end_offsets() == {}
    assert await empty.committed() == {}
    for changelog in (busy, idle):
        await changelog.aclose()
