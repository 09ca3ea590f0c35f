"""What is read while a batch is judged, and what a stop makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from anyio import create_memory_object_stream

from streamer.core.events import Record, TopicPartition
from tests.support.indexing import P0, Running, Topic

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("stops", [False, True])
async def test_where_reading_is_counts_as_judged_unless_it_stops(stops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop leaves what was read unjudged; a commit of the position would lose its verdicts."""
    topic = Topic()
    topic.append("a", 0)
    this = Running(topic)
    reading, changelog = this.indexer._reading, this.changelog
    followed: list[Mapping[TopicPartition, int]] = []

    async def poll() -> Sequence[Record]:
        if stops:
            reading.stop()
        changelog.seek({P0: 1})
        return []

    async def follow(positions: Mapping[TopicPartition, int]) -> None:
        followed.append(positions)
        reading.stop()

    monkeypatch.setattr(reading.polling, "poll", poll)
    monkeypatch.setattr(this.indexer._commits, "follow", follow)
    send, receive = create_memory_object_stream[Sequence[Record]](1)
    async with receive:
        await reading._read(send)
    assert followed == ([] if stops else [{P0: 1}])
