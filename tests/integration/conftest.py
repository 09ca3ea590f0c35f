"""Fixtures of the tests with real processes on a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.brokers import Broker, NewTopicName
from tests.support.stages import Stage


@pytest.fixture
async def stage(broker: Broker, new_topic: NewTopicName, tmp_path: Path) -> Stage:
    texts, vectors = await new_topic("texts", partitions=3), await new_topic("vectors", partitions=3)
    return Stage(broker, texts, vectors, await new_topic("verdicts", partitions=3), await new_topic("dead"), tmp_path)
