"""The beginning of a long random run, always the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.scene import scene
from tests.faults.soak import WEIGHTS, torment
from tests.support.brokers import Broker, NewTopicName
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]


@pytest.mark.real_kafka("a broker of our own, to be hurt")
@pytest.mark.parametrize(("guarantee", "seed"), [("exactly-once", 2173)])
async def test_a_quarter_of_a_minute_of_everything(
    stoppable_broker: Broker, kafka_proxy: Proxy, new_topic: NewTopicName, tmp_path: Path, guarantee: str, seed: int
) -> None:
    async with scene(
        stoppable_broker, new_topic, tmp_path, kafka_proxy, hostile=0.05, delivery__guarantee=guarantee
    ) as stage:
        verdict = await torment(stage, kafka_proxy, seed, 15, tuple(WEIGHTS), rate=200)
    assert not verdict.problems, verdict
