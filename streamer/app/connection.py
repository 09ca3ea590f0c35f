"""How to reach the brokers, as the settings say."""

from __future__ import annotations

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.settings import Settings


def connection_of(settings: Settings) -> KafkaConnection:
    kafka = settings.kafka
    return KafkaConnection(
        bootstrap_servers=kafka.bootstrap_servers,
        security_protocol=kafka.security_protocol,
        sasl_mechanism=kafka.sasl_mechanism,
        sasl_username=kafka.sasl_username,
        sasl_password=kafka.sasl_password.get_secret_value() if kafka.sasl_password else None,
        ssl_cafile=kafka.ssl_cafile,
        ssl_certfile=kafka.ssl_certfile,
        ssl_keyfile=kafka.ssl_keyfile,
        connect_timeout=kafka.connect_timeout_ms / 1000,
        fetch_max_wait=kafka.fetch_max_wait_ms / 1000,
    )
