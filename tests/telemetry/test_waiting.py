"""One word a reason."""

from __future__ import annotations

from streamer.telemetry.waiting import INDEXER_REASONS, WORKER_LACKS, WORKER_REASONS, Waiting, flags, lacking


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
    assert set(flags(WORKER_LACKS, [])) == {"cache", "disk_full"}
