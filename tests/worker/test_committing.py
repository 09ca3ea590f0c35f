"""Commits that fail, and what is known of that."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from streamer.core.events import DeadLetter, Record, TopicPartition
from streamer.errors import PartitionLost, RetriableError
from streamer.telemetry.commit_health import CommitFailure
from streamer.testing import MemorySource
from streamer.worker.committing import Committing
from streamer.worker.offsets import OffsetTracker
from streamer.worker.statistics import FlowTimes

pytestmark = pytest.mark.anyio
A = TopicPartition("texts", 0)


class Source(MemorySource):
    """Refuses commits while there is an `error`."""

    error: Exception | None = None

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        if self.error is not None:
            raise self.error


def complete(tracker: OffsetTracker, offset: int) -> None:
    record = Record(A, offset, None, b"", 0)
    (origin,) = tracker.track([record], 0.0)
    assert origin is not None
    letter = DeadLetter(origin, record, "empty_text", "")
    tracker.complete(tracker.settle([letter]))


async def test_why_offsets_are_not_committed_is_known_until_they_are() -> None:
    source, tracker, times = Source({A: []}), OffsetTracker(), FlowTimes()
    committing = Committing(source, tracker, times, lambda: 5.0, lambda: 1005.0)
    tracker.assign([A])
    complete(tracker, 0)
    source.error = RetriableError("no answer to the commit within 4 s")
    await committing.commit([A])
    assert (committing.commits, committing.failures) == (0, 1)
    assert committing.health.failure(5.0) == CommitFailure("no answer to the commit within 4 s", 1005.0)
    source.error = None
    await committing.commit([A])
    assert (committing.commits, committing.failures) == (1, 1)
    assert committing.health.failure(5.0) is None
    assert times.stages["commit"].count == 1


async def test_offsets_of_a_partition_that_others_have_now_fail_no_longer() -> None:
    source, tracker = Source({A: []}), OffsetTracker()
    committing = Committing(source, tracker, FlowTimes(), lambda: 5.0, lambda: 1005.0)
    tracker.assign([A])
    complete(tracker, 0)
    source.error = PartitionLost("the group has moved on")
    await committing.commit([A])
    assert committing.health.failure(5.0) is not None
    tracker.revoke([A])
    await committing.commit(tracker.partitions)
    assert committing.health.failure(5.0) is None
