"""Transactions against real Kafka: outputs and offsets become visible together or not at all."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from aiokafka import AIOKafkaProducer

from streamer.adapters.kafka import transactions as transactions_module
from streamer.adapters.kafka.changelog import KafkaChangelog
from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.transactions import KafkaTransactions
from streamer.core.events import Message, Origin, TopicPartition
from streamer.errors import PartitionLost
from tests.faults.scene import read_everything
from tests.support.brokers import Broker, NewTopicName
from tests.support.proxy import Proxy
from tests.support.topics import committed, produce

pytestmark = [pytest.mark.anyio, pytest.mark.real_kafka("transactions")]


def outcomes(topic: str, tp: TopicPartition, start: int, count: int, size: int = 10) -> list[Message]:
    return [
        Message(topic, b"k", b"%d " % n + b"x" * size, (), None, Origin(tp, n, 1)) for n in range(start, start + count)
    ]


class Stage:
    """An input partition, an output topic, and what a reader of committed records sees."""

    def __init__(self, servers: str, texts: str, vectors: str) -> None:
        self.servers, self.texts, self.vectors = servers, texts, vectors
        self.tp = TopicPartition(texts, 0)
        self.group = f"group-{texts}"

    def transactions(self, servers: str | None = None) -> KafkaTransactions:
        return KafkaTransactions(KafkaConnection(bootstrap_servers=servers or self.servers), self.group)

    async def visible(self) -> list[int]:
        records = await read_everything(self.servers, self.vectors, "read_committed")
        return [int(record.value.split()[0]) for record in records]

    async def committed(self) -> int:
        return (await committed(self.servers, self.group, self.texts)).get(0, 0)

    async def becomes(self, offset: int, visible: list[int]) -> None:
        """The broker answers a commit before it has marked all partitions, so what it decided shows a moment later."""
        with anyio.fail_after(15):
            while (await self.committed(), await self.visible()) != (offset, visible):
                await anyio.lowlevel.checkpoint()


@pytest.fixture
async def stage(broker: Broker, new_topic: NewTopicName) -> Stage:
    texts = await new_topic("texts")
    await produce(broker.bootstrap_servers, texts, [(None, b"text")] * 100)
    return Stage(broker.bootstrap_servers, texts, await new_topic("vectors", configs={"max.message.bytes": "20000"}))


async def test_outputs_and_offsets_become_visible_together(stage: Stage) -> None:
    publishing = stage.transactions()
    await publishing.begin(stage.tp)
    await (await publishing.send(outcomes(stage.vectors, stage.tp, 0, 10)))()
    assert (await stage.committed(), len(await read_everything(stage.servers, stage.vectors, "read_uncommitted"))) == (
        0,
        10,
    )
    await publishing.commit([stage.tp])
    await stage.becomes(10, list(range(10)))
    await publishing.commit([stage.tp])  # nothing since: nothing to do
    await publishing.end([stage.tp])


async def test_what_was_sent_and_not_yet_acknowledged_is_committed_with_its_offset(stage: Stage) -> None:
    publishing = stage.transactions()
    await publishing.begin(stage.tp)
    await publishing.send(outcomes(stage.vectors, stage.tp, 0, 5))
    await publishing.commit([stage.tp])
    await stage.becomes(5, list(range(5)))
    await publishing.end([stage.tp])


async def test_a_second_owner_fences_the_first(stage: Stage) -> None:
    """As after a long sleep, or when the broker has ended the transaction: the epoch is another's by now."""
    first, second = stage.transactions(), stage.transactions()
    await first.begin(stage.tp)
    await (await first.send(outcomes(stage.vectors, stage.tp, 0, 5)))()
    await second.begin(stage.tp)
    with pytest.raises(PartitionLost):
        await first.commit([stage.tp])
    assert first.broken.keys() == {stage.tp}
    assert "reading again" in str(first.state())
    await (await second.send(outcomes(stage.vectors, stage.tp, 0, 7)))()
    with pytest.raises(PartitionLost) as raised:
        await (await first.send(outcomes(stage.vectors, stage.tp, 5, 5)))()
    assert raised.value.partitions == {stage.tp}
    await second.commit([stage.tp])
    await stage.becomes(7, list(range(7)))
    await first.end([stage.tp])
    await second.end([stage.tp])


async def test_a_producer_that_learns_by_itself_that_it_is_fenced_loses_its_partition_only(stage: Stage) -> None:
    """After a long sleep. Of the next step the client then says that it makes no sense: nothing to end the worker."""
    first, second = stage.transactions(), stage.transactions()
    await first.begin(stage.tp)
    await second.begin(stage.tp)
    unheard = await first.send(outcomes(stage.vectors, stage.tp, 0, 5))
    with anyio.fail_after(15):
        while not first._producers[stage.tp].publisher.producer._txn_manager.is_fatal_error():
            await anyio.lowlevel.checkpoint()
    with pytest.raises(PartitionLost) as raised:
        await (await first.send(outcomes(stage.vectors, stage.tp, 5, 5)))()
    assert raised.value.partitions == first.broken.keys() == {stage.tp}
    with pytest.raises(PartitionLost):
        await unheard()
    await first.end([stage.tp])
    await second.end([stage.tp])


async def test_a_failed_send_is_not_committed(stage: Stage) -> None:
    """The client would commit what is left of the transaction."""
    publishing = stage.transactions()
    await publishing.begin(stage.tp)
    await publishing.send(outcomes(stage.vectors, stage.tp, 0, 5))
    await publishing.send(outcomes(stage.vectors, stage.tp, 5, 1, size=30_000))
    with pytest.raises(PartitionLost):
        await publishing.commit([stage.tp])
    await publishing.begin(stage.tp)
    assert (await stage.committed(), await stage.visible()) == (0, [])
    await publishing.end([stage.tp])


@pytest.mark.parametrize("lost", ["the request", "the answer"])
async def test_the_answer_to_a_commit_that_never_comes(
    stage: Stage, kafka_proxy: Proxy, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """Committed or not, who takes the partition up next starts where the outputs end."""
    monkeypatch.setattr(transactions_module, "STEP_TIMEOUT", 3.0)
    publishing = stage.transactions(kafka_proxy.address)
    await publishing.begin(stage.tp)
    await (await publishing.send(outcomes(stage.vectors, stage.tp, 0, 5)))()
    (kafka_proxy.up if lost == "the request" else kafka_proxy.down).drop()
    with anyio.fail_after(30), pytest.raises(PartitionLost):
        await publishing.commit([stage.tp])
    kafka_proxy.heal()
    monkeypatch.undo()
    await publishing.begin(stage.tp)
    start = await stage.committed()
    assert await stage.visible() == list(range(start))
    await (await publishing.send(outcomes(stage.vectors, stage.tp, start, 10 - start)))()
    await publishing.commit([stage.tp])
    await stage.becomes(10, list(range(10)))
    await publishing.end([stage.tp])


async def test_positions_pass_what_holds_no_records(stage: Stage) -> None:
    """Aborted batches and the markers of transactions: a reader that waits for a record there waits for ever."""
    async with AIOKafkaProducer(bootstrap_servers=stage.servers, transactional_id=stage.group) as producer:
        for number in range(3):
            await producer.begin_transaction()
            await producer.send_and_wait(stage.vectors, b"%d" % number)
            await (producer.abort_transaction() if number == 2 else producer.commit_transaction())
    changelog = KafkaChangelog(
        KafkaConnection(bootstrap_servers=stage.servers), stage.vectors, None, isolation_level="read_committed"
    )
    await changelog.start()
    try:
        ends = await changelog.end_offsets()
        values: list[bytes | None] = []
        with anyio.fail_after(20):
            while changelog.positions() != ends:
                values += [record.value for record in await changelog.poll(0.1)]
        assert values == [b"0", b"1"]
        assert ends == {TopicPartition(stage.vectors, 0): 6}
    finally:
        await changelog.aclose()
