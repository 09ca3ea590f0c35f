"""Produce requests as the client sends them, but without the eight copies of their record batches that it makes."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.types import Int16, Int32, String
from aiokafka.util import wait_for

from streamer.adapters.kafka.record_batch import EncodedBatch

_TEXT = String("utf-8")
_OLDEST, _NEWEST = 3, 8  # versions of the request that look like this


def send_in_pieces(connection: Any, request: ProduceRequest) -> Any:
    """What `AIOKafkaConnection.send` of aiokafka 0.14 returns for a request that is answered. None: it is none of
    these, and nothing has been sent. Raises KafkaConnectionError."""
    if connection._writer is None or not request.required_acks:  # noqa: SLF001
        return None
    prepared = request.prepare(connection._versions)  # noqa: SLF001
    if not _OLDEST <= prepared.API_VERSION <= _NEWEST:
        return None
    correlation_id = connection._next_correlation_id()  # noqa: SLF001
    header = prepared.build_request_header(correlation_id=correlation_id, client_id=connection._client_id)  # noqa: SLF001
    first, *others = _pieces(prepared)
    first = header.encode() + first
    size = len(first) + sum(map(len, others))
    try:
        connection._writer.writelines([Int32.encode(size) + first, *others])  # noqa: SLF001
    except OSError as exc:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {connection.host}:{connection.port} broken: {exc}") from exc
    answered = asyncio.get_running_loop().create_future()
    connection._requests.append((correlation_id, prepared, answered))  # noqa: SLF001
    return wait_for(answered, connection._request_timeout)  # noqa: SLF001


def _pieces(prepared: Any) -> list[bytes]:
    """The body: bytes, with the record batches as they are among them."""
    pieces: list[bytes] = []
    between = _TEXT.encode(prepared.transactional_id) + Int16.encode(prepared.required_acks)
    between += Int32.encode(prepared.timeout) + Int32.encode(len(prepared.topics))
    for topic, partitions in prepared.topics:
        between += _TEXT.encode(topic) + Int32.encode(len(partitions))
        for partition, records in partitions:
            pieces.append(between + Int32.encode(partition) + Int32.encode(len(records)))
            pieces += (records.preamble, records.body) if isinstance(records, EncodedBatch) else (records,)
            between = b""
    return [*pieces, between] if between else pieces
