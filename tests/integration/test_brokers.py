"""The broker the other tests stand on: a round trip, and the same data after a stop and after a crash."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from anyio import to_thread

from tests.support import session_broker
from tests.support.brokers import Broker, NewTopicName, Unavailable
from tests.support.proxy import Proxy
from tests.support.session_broker import SharedBroker
from tests.support.topics import produce, read_all

pytestmark = pytest.mark.anyio


@pytest.mark.kafka
async def test_what_is_acknowledged_can_be_read(bootstrap_servers: str, new_topic: NewTopicName) -> None:
    topic = await new_topic("round-trip", partitions=3)
    pairs = [(f"key-{n}".encode(), f"value-{n}".encode()) for n in range(100)]
    await produce(bootstrap_servers, topic, pairs)
    records = await read_all(bootstrap_servers, topic)
    assert sorted((record.key, record.value) for record in records) == sorted(pairs)
    assert {record.partition for record in records} == {0, 1, 2}


@pytest.mark.real_kafka("idempotent producers")
async def test_an_idempotent_producer_is_served(bootstrap_servers: str, new_topic: NewTopicName) -> None:
    topic = await new_topic("idempotent")
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, enable_idempotence=True) as producer:
        sent = [await producer.send_and_wait(topic, str(n).encode()) for n in range(10)]
    assert [metadata.offset for metadata in sent] == list(range(10))
    assert [record.value for record in await read_all(bootstrap_servers, topic)] == [str(n).encode() for n in range(10)]


@pytest.mark.real_kafka("transactions")
async def test_an_aborted_transaction_is_not_seen(bootstrap_servers: str, new_topic: NewTopicName) -> None:
    topic = await new_topic("transactional")
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, transactional_id=topic) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted")
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(topic, b"committed")
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", isolation_level="read_committed"
    ) as consumer:
        record = await consumer.getone()
    assert record.value == b"committed"
    assert record.offset > 0, "the aborted record is there, and hidden"


@pytest.mark.real_kafka("data that outlives it")
@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_it_comes_back_with_its_data(stoppable_broker: Broker, new_topic: NewTopicName, end: str) -> None:
    servers = stoppable_broker.bootstrap_servers
    topic = await new_topic("kept")
    await produce(servers, topic, [(b"k", b"before")])
    await to_thread.run_sync(getattr(stoppable_broker, end))
    await to_thread.run_sync(stoppable_broker.start)
    assert stoppable_broker.bootstrap_servers == servers
    await produce(servers, topic, [(b"k", b"after")])
    assert [record.value for record in await read_all(servers, topic)] == [b"before", b"after"]


@pytest.mark.real_kafka("a second listener")
async def test_clients_stay_behind_the_proxy(
    bootstrap_servers: str, kafka_proxy: Proxy, new_topic: NewTopicName
) -> None:
    topic = await new_topic("proxied")
    value = b"x" * 5000
    await produce(kafka_proxy.address, topic, [(b"k", value)])
    assert kafka_proxy.up.passed > len(value), "not only the first connection, the one that asks for addresses"
    before = kafka_proxy.accepted, kafka_proxy.up.passed
    await produce(bootstrap_servers, topic, [(b"k", value)])
    assert (kafka_proxy.accepted, kafka_proxy.up.passed) == before


class Absent(Broker):
    def __init__(self) -> None:
        raise Unavailable("not here")


class Present(Broker):
    kind = "embedded"

    def __init__(self) -> None:
        super().__init__("127.0.0.1:1")


async def test_the_next_kind_stands_in_for_one_that_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_broker, "KINDS", {"docker": Absent, "java": Absent, "embedded": Present})
    shared = SharedBroker({})
    assert not shared.get().is_real
    assert shared.notes == [
        "no docker broker: not here",
        "no java broker: not here",
        "embedded broker at 127.0.0.1:1, which is not Apache Kafka",
    ]


async def test_a_kind_asked_for_by_name_has_no_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_broker, "KINDS", {"java": Absent, "embedded": Present})
    with pytest.raises(Unavailable, match="not here"):
        SharedBroker({"STREAMER_TEST_BROKER": "java"}).get()
    with pytest.raises(pytest.UsageError, match="expected one of java, embedded"):
        SharedBroker({"STREAMER_TEST_BROKER": "jav"})


async def test_an_address_comes_first() -> None:
    shared = SharedBroker({"STREAMER_KAFKA__BOOTSTRAP_SERVERS": "kafka:1", "STREAMER_TEST_BROKER": "java"})
    assert (shared.get().kind, shared.get().bootstrap_servers) == ("address", "kafka:1")
