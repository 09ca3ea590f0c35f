"""A group seen from outside, on a broker."""

from __future__ import annotations

import time

import pytest

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.groups import Watcher, watching
from streamer.adapters.kafka.source import KafkaSource
from streamer.core.events import TopicPartition
from tests.support.stages import Stage

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]


class Nothing:
    """A flow that takes its partitions and reads none."""

    async def on_assigned(self, tps: object) -> None: ...

    async def on_revoked(self, tps: object) -> None: ...

    async def on_lost(self, tps: object) -> None: ...


async def test_members_lag_and_what_came_lately(stage: Stage) -> None:
    connection = KafkaConnection(bootstrap_servers=stage.bootstrap_servers)
    await stage.produce([(b"k", b"%d" % n) for n in range(30)])
    id = str(stage.settings["kafka.group_id"])
    source = KafkaSource(connection, [stage.texts], id)
    async with watching(connection) as watcher:
        before = await watcher.group(id)
        assert (list(before.members or []), before.lag) == ([], {})
        await source.start(Nothing())
        try:
            tps = await _with_records(watcher, stage.texts)
            tp, count = next(iter(tps.items()))
            await source.commit({tp: count - 1})
            group = await watcher.group(id)
            assert group.lag == {tp: 1}
            assert group.members is None or len(group.members) == 1
            assert sum(tps.values()) == 30
            values = [record.value for record in await watcher.latest(tps, 10)]
            assert values
            assert b"29" in values
            later = int((time.time() + 60) * 1000)
            assert sum((await watcher.since(stage.texts, later)).values()) == 0
            assert await watcher.since("no-such-topic", 0) == {}
        finally:
            await source.aclose()


async def _with_records(watcher: Watcher, topic: str) -> dict[TopicPartition, int]:
    counts = await watcher.since(topic, 0)
    return {tp: count for tp, count in counts.items() if count}
