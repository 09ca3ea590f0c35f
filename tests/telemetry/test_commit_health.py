"""Since when commits fail, and why."""

from __future__ import annotations

from streamer.telemetry.commit_health import LASTING_SECONDS, UNANSWERED, CommitFailure, CommitHealth
from streamer.telemetry.waiting import Waiting


def test_a_failure_is_known_at_once_and_is_a_lack_once_it_lasts() -> None:
    health = CommitHealth()
    health.begins(1.0, 1001.0)
    assert health.failure(1.0) is None, "it is not answered yet"
    health.failed("too large")
    assert health.failure(1.0) == CommitFailure("too large", 1001.0)
    assert health.lack(1.0) is None
    health.begins(6.0, 1006.0)
    health.failed("no answer")
    assert health.failure(6.0) == CommitFailure("no answer", 1001.0), "since the first, for the reason of the last"
    lasting = 1.0 + LASTING_SECONDS
    assert health.lack(lasting) == Waiting("commit", "commits: no answer", since=1001.0)
    health.succeeded()
    assert health.failure(lasting) is None
    assert health.lack(lasting) is None


def test_one_that_nobody_answers_is_a_failure_once_it_lasts() -> None:
    health = CommitHealth()
    assert health.lack(100.0) is None
    health.begins(1.0, 1001.0)
    assert health.failure(0.9 + LASTING_SECONDS) is None
    assert health.failure(1.0 + LASTING_SECONDS) == CommitFailure(UNANSWERED, 1001.0)
    assert health.lack(1.0 + LASTING_SECONDS) == Waiting("commit", f"commits: {UNANSWERED}", since=1001.0)
