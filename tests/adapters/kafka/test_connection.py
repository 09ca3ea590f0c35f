"""A connection that is reset while somebody sends, on the event loop that workers run on."""

from __future__ import annotations

import anyio
import pytest
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

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
