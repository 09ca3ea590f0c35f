"""One word a reason."""

from __future__ import annotations

from dataclasses import replace

from streamer.telemetry.waiting import (
    INDEXER_REASONS,
    WORKER_LACKS,
    WORKER_REASONS,
    Held,
    Waiting,
    Waits,
    flags,
    joined,
    lacking,
)


def test_every_reason_is_told_of_whether_it_holds_or_not() -> None:
    told = flags(WORKER_REASONS, [Waiting("provider_down", "provider down: no answer"), None])
    assert tuple(told) == WORKER_REASONS
    assert [reason for reason, holds in told.items() if holds] == ["provider_down"]
    assert "restoring" in flags(INDEXER_REASONS, [])


def test_a_full_disk_is_told_from_other_faults_of_a_file() -> None:
    full = (
        "database or disk is full",
        "[Errno 28] No space left on device: 'cache.sqlite'",
        "[Errno 122] Disk quota exceeded",
    )
    assert [lacking("cache", reason).reason for reason in full if lacking("cache", reason)] == ["disk_full"] * 3  # type: ignore[union-attr]
    assert lacking("snapshot", "[Errno 13] Permission denied") == Waiting(
        "snapshot", "snapshot: [Errno 13] Permission denied"
    )
    assert lacking("cache", None) is None
    assert set(flags(WORKER_LACKS, [])) == {"cache", "disk_full", "commit"}


def test_a_reason_holds_since_it_was_first_seen_and_begins_anew_after_its_end() -> None:
    waits, down = Waits(), Waiting("provider_down", "answered 500")
    assert waits.observe([down], 10.0) == [Held("provider_down", "answered 500", 10.0, None)]
    other = Waiting("provider_down", "answered 503", until=30.0)
    slow = Waiting("publishing", "no acknowledgement")
    assert waits.observe([other, slow], 12.0) == [
        Held("provider_down", "answered 503", 10.0, 30.0), Held("publishing", "no acknowledgement", 12.0, None),
    ]  # fmt: skip
    assert waits.observe([], 13.0) == []
    assert [held.since for held in waits.observe([down], 14.0)] == [14.0]
    assert [held.since for held in waits.observe([replace(down, since=3.0)], 15.0)] == [3.0], "it is known better"


def test_several_as_one_end_when_the_first_of_them_may() -> None:
    assert joined([]) is None
    waits = [Waiting("consuming", "a"), Waiting("partition", "b", 9.0), Waiting("partition", "c", 5.0)]
    assert joined(waits) == Waiting("consuming", "a; b; c", 5.0)
