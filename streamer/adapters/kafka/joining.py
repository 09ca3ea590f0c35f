"""Joining a consumer group: it takes as long as the group needs, says what it waits for, and can be called off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.group import LeaveGroupRequest

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.errors import Unreachable

log = structlog.get_logger(__name__)

_LOOK_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 5.0
_TOLD_AFTER: Final = 3.0
_TOLD_EVERY: Final = 10.0
_GOODBYE_SECONDS: Final = 0.7


async def join(connection: KafkaConnection, consumer: Any, tell: Callable[[str | None], None]) -> None:
    """Start a consumer of a group, and wait until it has its partitions. `tell` what is waited for, None when it is
    over.

    Raises Unreachable when no broker answers within the connect timeout, at first or later on. A group that takes its
    time, because it waits for members that were killed, is no broker that does not answer.
    """
    starting = asyncio.ensure_future(consumer.start())
    try:
        await connection.reach(_until_reached(starting, consumer))
        loop = asyncio.get_running_loop()
        began = heard = loop.time()
        telling = began + _TOLD_AFTER
        while not (await asyncio.wait([starting], timeout=_LOOK_SECONDS))[0]:
            now = loop.time()
            state = await _look(consumer)
            heard = heard if state is None else loop.time()
            if loop.time() - heard > connection.connect_timeout:
                raise Unreachable(
                    f"Kafka at {connection.bootstrap_servers} cannot be reached: no answer about the group for "
                    f"{loop.time() - heard:.0f} s"
                )
            waits = f"for {now - began:.0f} s; {state}" if state else f"for {now - began:.0f} s"
            tell(waits)
            if now >= telling:
                telling = now + _TOLD_EVERY
                log.info("waiting for the consumer group", waited=round(now - began), group=state)
        await connection.reach(starting)  # its error, in words
    finally:
        tell(None)
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting])
        if not starting.cancelled():
            starting.exception()


async def _until_reached(starting: asyncio.Future[None], consumer: Any) -> None:
    """Until a broker has answered: from then on the client asks for its place in the group."""
    while not starting.done() and consumer._coordinator is None:  # noqa: SLF001
        await asyncio.wait([starting], timeout=0.02)
    if starting.done():
        await starting


async def _look(consumer: Any) -> str | None:
    """How the group is doing, in words; None without an answer."""
    coordinator = consumer._coordinator  # noqa: SLF001
    try:
        found = await _describe(consumer)
    except (IncompatibleBrokerVersion, NotImplementedError):
        return f"the group {coordinator.group_id!r}"  # this broker cannot tell
    if found is None:
        return None
    state, others = found
    if not others:
        return f"the group {coordinator.group_id!r} is in state {state}"
    seconds = coordinator._session_timeout_ms / 1000  # noqa: SLF001
    return (
        f"the group {coordinator.group_id!r} is in state {state} with {len(others)} other members; a killed one is "
        f"missed {seconds:g} s after its last heartbeat (kafka.session_timeout_ms)"
    )


async def members_of(consumer: Any) -> Sequence[str]:
    """The addresses of the other members of its group; none where the broker does not tell."""
    try:
        found = await _describe(consumer)
    except (IncompatibleBrokerVersion, NotImplementedError):
        return []
    return found[1] if found else []


async def _describe(consumer: Any) -> tuple[str, Sequence[str]] | None:
    """The state of its group, and the addresses of the other members; None without an answer."""
    coordinator, client = consumer._coordinator, consumer._client  # noqa: SLF001
    if coordinator is None or coordinator.coordinator_id is None:
        return None
    request = DescribeGroupsRequest([coordinator.group_id])
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            # Not on the connection where the answer to our join is awaited: a broker answers in order.
            response = await client.send(coordinator.coordinator_id, request)
    except IncompatibleBrokerVersion:
        raise
    except (KafkaError, TimeoutError):
        return None
    for _, _, state, _, _, members, *_ in response.groups:
        others = [str(host).lstrip("/") for id, _, host, *_ in members if id != coordinator.member_id]
        return str(state) or "unknown", others
    return None


async def call_off(consumer: Any) -> None:
    """Take back a join that the group has not answered yet: left alone, it would become a member that is dead. Nothing
    happens when there is none."""
    coordinator = consumer._coordinator  # noqa: SLF001
    waiting = getattr(coordinator, "_performed_join_prepare", False) and coordinator.member_id
    if not waiting or coordinator.coordinator_id is None or coordinator._group_instance_id is not None:  # noqa: SLF001
        return
    request = LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
    with suppress(KafkaError, TimeoutError):
        async with asyncio.timeout(_GOODBYE_SECONDS):
            # On another connection than the join, whose answer would be awaited first. The broker then answers both.
            await consumer._client.send(coordinator.coordinator_id, request)  # noqa: SLF001
