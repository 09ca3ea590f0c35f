"""Where the client would end the process: a connection that is reset while somebody sends, and a broker that has just
started and names no broker."""

from __future__ import annotations

from types import SimpleNamespace

import anyio
import pytest
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.conn import create_conn
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import KafkaConnectionError
from aiokafka.producer.sender import Sender
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import BrokerMetadata

import streamer.adapters.kafka.connection  # noqa: F401 - which mends the client
from tests.support.brokers import Broker


@pytest.mark.kafka
def test_what_is_sent_just_after_a_reset_is_an_error_of_the_connection(broker: Broker) -> None:
    async def send_after_reset() -> None:
        host, port = broker.bootstrap_servers.split(":")
        connection = await create_conn(host, int(port))
        assert (await connection.send(MetadataRequest([]))).brokers
        connection._read_task.cancel()  # it has not had its turn yet
        connection._writer.transport.abort()
        await anyio.sleep(0.05)
        with pytest.raises(KafkaConnectionError):
            connection.send(MetadataRequest([]))
        assert not connection.connected()

    anyio.run(send_after_reset, backend_options={"use_uvloop": True})


class JustStarted(AIOKafkaClient):  # type: ignore[misc]  # the client is not typed
    """Of a cluster whose metadata name no broker before the third look."""

    def __init__(self) -> None:
        super().__init__(bootstrap_servers="127.0.0.1:1")
        self.looks = 0

    async def force_metadata_update(self) -> bool:
        self.looks += 1
        if self.looks == 3:
            self.cluster._brokers = {7: BrokerMetadata(7, "127.0.0.1", 1, None)}
        return True

    async def send(self, node_id: int, request: object, **_: object) -> object:
        assert node_id == 7
        return SimpleNamespace(error_code=0, coordinator_id=7)

    async def ready(self, node_id: int, **_: object) -> bool:
        return node_id == 7


@pytest.mark.anyio
@pytest.mark.parametrize("of", ["transactions", "a group"])
async def test_a_coordinator_is_looked_for_until_a_broker_is_known(of: str) -> None:
    """Else a worker that took a partition up just after the restart of a broker ended with an AssertionError."""
    client = JustStarted()
    if of == "transactions":
        sender = Sender(
            client, acks=-1, txn_manager=object(), message_accumulator=None, retry_backoff_ms=1, request_timeout_ms=1000
        )
        assert await sender._find_coordinator(CoordinationType.TRANSACTION, "an id") == 7
    else:
        group = GroupCoordinator(client, SubscriptionState(), group_id="a group", retry_backoff_ms=1)
        await group.ensure_coordinator_known()
        assert group.coordinator_id == 7
        await group.close()
    assert client.looks == 3
    await client.close()
