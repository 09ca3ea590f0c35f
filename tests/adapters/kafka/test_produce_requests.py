"""What leaves for the broker is what the client would send, to the byte."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.produce import ProduceRequest

from streamer.adapters.kafka.produce_requests import send_in_pieces
from streamer.adapters.kafka.record_batch import Records
from streamer.core.events import Message

pytestmark = pytest.mark.anyio


class Connection:
    """What of the client's connection is used."""

    host, port = "here", 9092
    _client_id, _request_timeout = "c", 5.0

    def __init__(self, version: int, error: OSError | None = None) -> None:
        self._versions = {0: (0, version)}
        self._requests: list[Any] = []
        self._writer: Any = SimpleNamespace(writelines=self._write)
        self._error = error
        self.sent = b""
        self.closed: CloseReason | None = None

    def _next_correlation_id(self) -> int:
        return 7

    def _write(self, pieces: list[bytes]) -> None:
        if self._error:
            raise self._error
        self.sent += b"".join(pieces)

    def close(self, reason: CloseReason) -> None:
        self.closed = reason


def request(acks: int = -1, transactional_id: str | None = None) -> ProduceRequest:
    records = Records.of([Message("t", b"k", b"value", (), 5)])
    batches = [records.batch(0, 1, "none", is_transactional=False)._build() for _ in range(3)]
    topics = [("t", [(0, batches[0]), (1, bytes(batches[1]))]), ("other", [(4, batches[2])]), ("none", [])]
    return ProduceRequest(transactional_id, acks, 1_000, topics)


@pytest.mark.parametrize("version", [3, 5, 7])
@pytest.mark.parametrize("transactional_id", [None, "own"])
async def test_the_bytes_are_those_of_the_client(version: int, transactional_id: str | None) -> None:
    connection = Connection(version)
    answer = send_in_pieces(connection, request(transactional_id=transactional_id))
    prepared = request(transactional_id=transactional_id).prepare(connection._versions)
    expected = prepared.build_request_header(correlation_id=7, client_id="c").encode() + prepared.encode()
    assert connection.sent == struct.pack(">i", len(expected)) + expected
    ((correlation_id, sent, future),) = connection._requests
    assert (correlation_id, sent.API_VERSION) == (7, version)
    future.set_result("answered")
    assert await answer == "answered"


@pytest.mark.parametrize(("version", "acks"), [(2, -1), (8, 0)])
async def test_others_are_left_to_the_client(version: int, acks: int) -> None:
    connection = Connection(version)
    assert send_in_pieces(connection, request(acks)) is None
    assert (connection.sent, connection._requests) == (b"", [])
    connection._writer = None
    assert send_in_pieces(connection, request()) is None


async def test_a_connection_that_breaks_is_closed() -> None:
    connection = Connection(8, OSError("reset"))
    with pytest.raises(KafkaConnectionError, match="here:9092 broken: reset"):
        send_in_pieces(connection, request())
    assert (connection.closed, connection._requests) == (CloseReason.CONNECTION_BROKEN, [])
