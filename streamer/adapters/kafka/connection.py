"""How to reach the brokers: what every aiokafka client of this process is built with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import CoordinatorNotAvailableError, KafkaConnectionError, KafkaError
from aiokafka.helpers import create_ssl_context
from aiokafka.protocol.produce import ProduceRequest

from streamer.adapters.kafka.client_log import CLIENT_LOG
from streamer.adapters.kafka.produce_requests import send_in_pieces
from streamer.errors import ConfigurationError, Unreachable


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConnection:
    """Addresses and credentials of the brokers, under Kafka's own names.

    Times in seconds: `connect_timeout` to find a broker at start, `fetch_max_wait` for a broker to hold a fetch that
    finds nothing new, `metadata_max_age` until new partitions are noticed.
    """

    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    connect_timeout: float = 15.0
    fetch_max_wait: float = 0.5
    metadata_max_age: float = 60.0

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments common to producer, consumer and admin client."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": "streamer",
            "security_protocol": self.security_protocol,
            "request_timeout_ms": 40_000,  # must exceed the rebalance timeout: JoinGroup is held that long
            "metadata_max_age_ms": int(self.metadata_max_age * 1000),
        }
        if self.security_protocol.endswith("SSL"):
            try:
                options["ssl_context"] = create_ssl_context(
                    cafile=self.ssl_cafile, certfile=self.ssl_certfile, keyfile=self.ssl_keyfile
                )
            except OSError as exc:
                raise ConfigurationError(
                    f"kafka.ssl_cafile, ssl_certfile or ssl_keyfile cannot be read: {exc}"
                ) from exc
        if self.security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.sasl_mechanism or "PLAIN"
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password
        return options

    def consumer_options(self) -> dict[str, Any]:
        """Keyword arguments of a consumer: the client options and those that every consumer needs."""
        return self.client_options() | {"fetch_max_wait_ms": max(1, int(self.fetch_max_wait * 1000))}

    async def reach(self, starting: Awaitable[None]) -> None:
        """Await a client's start. Raises Unreachable, in one line, when no broker answers in time."""
        refusals = CLIENT_LOG.refusals
        try:
            with CLIENT_LOG.quiet():
                await asyncio.wait_for(starting, self.connect_timeout)
        except (KafkaError, OSError, TimeoutError) as exc:
            if CLIENT_LOG.refusals > refusals:
                whom = f"user {self.sasl_username!r}" if self.sasl_username else "the connection"
                raise Unreachable(f"Kafka at {self.bootstrap_servers} rejected {whom}: {CLIENT_LOG.refusal}") from exc
            raise Unreachable(
                f"Kafka at {self.bootstrap_servers} cannot be reached: {self._absence(exc)}; does it run, and "
                "is kafka.bootstrap_servers (-b) right?"
            ) from exc

    def _absence(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self.connect_timeout:g} s"
        if isinstance(error, KafkaConnectionError):
            return "no broker answers there"  # the client only repeats the addresses, in Python's words
        return str(error) or type(error).__name__


def connection_to(brokers: str | KafkaConnection) -> KafkaConnection:
    """A KafkaConnection as it is, an address as a KafkaConnection without credentials."""
    return brokers if isinstance(brokers, KafkaConnection) else KafkaConnection(bootstrap_servers=brokers)


def _sending(send: Callable[..., Any]) -> Callable[..., Any]:
    """The same, with record batches sent as they are, and for event loops that refuse to write to a connection which
    the other side has just reset.

    uvloop does, with a RuntimeError, until the client has noticed; the client expects an OSError and would let this one
    through, to whoever happened to send.
    """

    def sending(connection: Any, request: Any, *args: Any, **options: Any) -> Any:
        try:
            answer = send_in_pieces(connection, request) if isinstance(request, ProduceRequest) else None
            return answer or send(connection, request, *args, **options)
        except RuntimeError as exc:
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {connection.host}:{connection.port} broken: {exc}") from exc

    return sending


def _looking_up(lookup: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The same, for a client that knows no broker yet: one that has just started may name none, not even itself.

    The client asserts that there are some, and its caller expects errors of Kafka's: this one it tries again.
    """

    async def looking_up(client: Any, *args: Any) -> Any:
        if client.get_random_node() is None:
            raise CoordinatorNotAvailableError("no broker is known yet")
        return await lookup(client, *args)

    return looking_up


AIOKafkaConnection.send = _sending(AIOKafkaConnection.send)
AIOKafkaClient.coordinator_lookup = _looking_up(AIOKafkaClient.coordinator_lookup)
