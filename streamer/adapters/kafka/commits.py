"""Offsets committed within a time, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata

RETRY_PAUSE = 0.1


async def commit_offsets(consumer: Any, offsets: Mapping[ClientPartition, int], timeout: float) -> None:
    """Raises CommitFailedError when the group has moved on, TimeoutError, and other KafkaErrors.

    The client's own `commit` repeats passing errors for ever and cannot be called off. What we have given up would
    still arrive, after a rebalance as from a new member, and undo what was committed in the meantime.
    """
    async with asyncio.timeout(timeout):
        await _commit(consumer, {tp: OffsetAndMetadata(offset, "") for tp, offset in offsets.items()})


async def _commit(consumer: Any, offsets: Mapping[ClientPartition, OffsetAndMetadata]) -> None:
    coordinator = consumer._coordinator  # noqa: SLF001  # as of aiokafka 0.14
    generation = coordinator.generation
    while True:
        await coordinator.ensure_coordinator_known()
        if coordinator.generation != generation:
            raise CommitFailedError("another generation of the group has begun")
        try:
            await coordinator._do_commit_offsets(None, offsets)  # noqa: SLF001
            return
        except (UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError) as exc:
            raise CommitFailedError(repr(exc)) from exc
        except KafkaError as exc:
            if not exc.retriable:
                raise
        await asyncio.sleep(RETRY_PAUSE)
