"""What the client says in its log only: refusals are counted and kept in words, and a start can be quiet."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from aiokafka.errors import KafkaConnectionError, SaslAuthenticationFailed

from streamer.adapters.kafka.client_log import ClientLog

CLIENT = logging.getLogger("aiokafka")


@pytest.fixture
def heard() -> Iterator[ClientLog]:
    handler = ClientLog()
    yield handler
    CLIENT.removeHandler(handler)


def test_only_refusals_are_counted_and_the_last_one_is_told(heard: ClientLog) -> None:
    log = logging.getLogger("aiokafka.conn")
    log.error("Unable connect to node with id %s: %s", 1, KafkaConnectionError("nobody there"))
    log.error("no arguments at all")
    assert (heard.refusals, heard.refusal) == (0, "")
    log.error("Unable connect to node with id %s: %s", 1, SaslAuthenticationFailed("wrong password"))
    log.warning("Unable connect to node with id %s: %s", 1, SaslAuthenticationFailed("a warning is no error"))
    assert heard.refusals == 1
    assert "wrong password" in heard.refusal


def test_the_client_is_quiet_until_the_last_of_several_starts_is_over(
    heard: ClientLog, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = heard.quiet(), heard.quiet()
    first.__enter__()
    second.__enter__()
    CLIENT.error("one")
    first.__exit__(None, None, None)
    CLIENT.error("two")
    second.__exit__(None, None, None)
    CLIENT.error("three")
    assert [record.message for record in caplog.records] == ["three"]
