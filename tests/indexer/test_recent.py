"""What is kept of the latest verdicts."""

from __future__ import annotations

from typing import Any

import orjson

from streamer.indexer.recent import KINDS, RecentVerdicts
from tests.indexer.verdict_samples import verdict


def ids(recent: RecentVerdicts, after: int = 0, kinds: Any = KINDS, limit: int = 100) -> list[str]:
    return [each.verdict.id for each in recent.after(after, kinds, limit)]


def test_the_newest_come_first_and_only_those_after_a_number() -> None:
    recent = RecentVerdicts(first=10)
    recent.add([verdict("a"), verdict("b", "anomaly"), verdict("c")], now=5)
    assert [each.number for each in recent.after(0, KINDS, 9)] == [12, 11, 10]
    assert recent.latest == 12
    assert ids(recent) == ["c", "b", "a"]
    assert ids(recent, after=11) == ["c"]
    assert ids(recent, kinds=["anomaly"]) == ["b"]
    assert ids(recent, limit=2) == ["c", "b"]


def test_a_flood_of_one_kind_leaves_the_others_in_place() -> None:
    recent = RecentVerdicts(most=3)
    recent.add([verdict("strange", "anomaly")], now=0)
    recent.add([verdict(f"{number}") for number in range(100)], now=0)
    assert ids(recent) == ["99", "98", "97", "strange"]


def test_the_delay_is_the_median_of_the_latest() -> None:
    recent = RecentVerdicts()
    assert recent.delay(0) is None
    recent.add([verdict("old", at=1_000)], now=100_000)
    recent.add([verdict(str(ms), at=200_000 - ms) for ms in (100, 300, 9_000)], now=200_000)
    assert recent.delay(since=100_000) == 0.3
    assert recent.delay(since=200_000) is None
    recent.add([verdict("of a clock ahead of ours", at=400_000)], now=300_000)
    assert recent.delay(since=200_000) == 0.0


def test_what_an_earlier_one_kept_comes_before_what_is_new() -> None:
    earlier = RecentVerdicts(first=1)
    earlier.add([verdict("a", "near_duplicate"), verdict("foreign", space="other"), verdict("b")], now=5)
    state = orjson.loads(orjson.dumps(earlier.state()))
    later = RecentVerdicts(first=1_000)
    later.add([verdict("c")], now=9)
    later.resume([*state, [7, {"id": "no verdict"}], ["no time", state[0][1]]], "s")
    assert ids(later) == ["c", "b", "a"]
    assert [each.at for each in later.after(0, KINDS, 9)] == [9, 5, 5]
    assert min(each.number for each in later.after(0, KINDS, 9)) > 3, "whoever saw the earlier ones gets these again"
