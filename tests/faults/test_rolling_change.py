"""Members of one group that do not agree, as while one after the other is replaced by another version or settings."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.faults.scene import scene
from tests.support.brokers import Broker, NewTopicName
from tests.support.topics import read_all

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


@pytest.mark.kafka
async def test_another_model_comes_into_the_group(broker: Broker, new_topic: NewTopicName, tmp_path: Path) -> None:
    """Each event is done once, by one of the two, and names the space it is of; none is mixed."""
    async with scene(broker, new_topic, tmp_path) as stage:
        old, new = stage.add_member(), stage.add_member(provider__model="text-embedding-3-large")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(stage.produce, rate=500))
            await stage.start()
            await stage.reader.has_seen(stage.reader.count + 1000)
            await old.stop_orderly()
            await stage.reader.has_seen(stage.reader.count + 500)
            tasks.cancel_scope.cancel()
        await stage.all_committed()
        assert await new.stop() == 0
        verdict = await stage.verdict(0)  # which knows the right vector of each model
        assert not verdict.problems, verdict
        records = await read_all(broker.bootstrap_servers, stage.vectors)
        spaces = {(dict(r.headers)["streamer-model"], dict(r.headers)["streamer-space"]) for r in records}
        assert {model for model, _ in spaces} == {b"text-embedding-3-small", b"text-embedding-3-large"}
        assert len({space for _, space in spaces}) == 2
