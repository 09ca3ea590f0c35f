"""The numbers of several processes as those of one."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from streamer.http.sums import Readiness, Sums, SumsCollector, readiness_of

PAGE = """\
# HELP streamer_worker_pipeline_records_total Records read.
# TYPE streamer_worker_pipeline_records_total counter
streamer_worker_pipeline_records_total {records}
# HELP streamer_worker_pipeline_dead_letters_total Dead letters.
# TYPE streamer_worker_pipeline_dead_letters_total counter
streamer_worker_pipeline_dead_letters_total{{kind="{kind}"}} 2.0
# HELP streamer_worker_pipeline_in_flight Events.
# TYPE streamer_worker_pipeline_in_flight gauge
streamer_worker_pipeline_in_flight 5.0
# HELP streamer_worker_ready Ready.
# TYPE streamer_worker_ready gauge
streamer_worker_ready {ready}
# HELP streamer_worker_waiting Waits.
# TYPE streamer_worker_waiting gauge
streamer_worker_waiting{{reason="group"}} {waits}
# HELP streamer_worker_commit_age_seconds Age.
# TYPE streamer_worker_commit_age_seconds gauge
streamer_worker_commit_age_seconds{{partition="0",topic="texts"}} {waits}
# HELP streamer_worker_end_to_end_seconds Times.
# TYPE streamer_worker_end_to_end_seconds histogram
streamer_worker_end_to_end_seconds_bucket{{le="1.0"}} 1.0
streamer_worker_end_to_end_seconds_bucket{{le="+Inf"}} 3.0
streamer_worker_end_to_end_seconds_count 3.0
streamer_worker_end_to_end_seconds_sum 12.5
# HELP streamer_worker_spend_day_usd Spend.
# TYPE streamer_worker_spend_day_usd gauge
streamer_worker_spend_day_usd 7.0
# HELP streamer_build_info What is running.
# TYPE streamer_build_info gauge
streamer_build_info{{role="worker"}} 1.0
"""


def page(records: int, *, ready: int = 1, waits: int = 0, kind: str = "too_long") -> str:
    return PAGE.format(records=records, ready=ready, waits=waits, kind=kind)


def totals(sums: Sums) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(SumsCollector(sums))
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_counts_add_up_and_of_the_rest_the_worst_is_shown() -> None:
    sums = Sums()
    sums.seen(1, page(100))
    sums.seen(2, page(40, ready=0, waits=1, kind="rejected"))
    assert totals(sums) == {
        "streamer_worker_pipeline_records_total": 140,
        'streamer_worker_pipeline_dead_letters_total{kind="too_long"}': 2,
        'streamer_worker_pipeline_dead_letters_total{kind="rejected"}': 2,
        "streamer_worker_pipeline_in_flight": 10,
        "streamer_worker_ready": 0,
        'streamer_worker_waiting{reason="group"}': 1,
        'streamer_worker_commit_age_seconds{partition="0",topic="texts"}': 1,
        'streamer_worker_end_to_end_seconds_bucket{le="1.0"}': 2,
        'streamer_worker_end_to_end_seconds_bucket{le="+Inf"}': 6,
        "streamer_worker_end_to_end_seconds_count": 6,
        "streamer_worker_end_to_end_seconds_sum": 25,
        "streamer_worker_spend_day_usd": 7,
        'streamer_build_info{role="worker"}': 1,
    }


def test_what_grows_never_shrinks_when_a_process_ends_and_another_begins_at_zero() -> None:
    sums = Sums()
    sums.seen(1, page(100))
    sums.seen(2, page(40))
    for ends in (60, 15):
        sums.seen(2, page(ends))
        sums.ended(2)
        sums.ended(2)  # it ended before anybody saw it
    found = totals(sums)
    assert found["streamer_worker_pipeline_records_total"] == 175
    assert found["streamer_worker_end_to_end_seconds_sum"] == 37.5
    assert found["streamer_worker_pipeline_in_flight"] == 5
    sums.seen(2, page(1))
    assert totals(sums)["streamer_worker_pipeline_records_total"] == 176


def test_before_anybody_has_answered_there_is_nothing() -> None:
    assert totals(Sums()) == {}


@pytest.mark.parametrize("ends", [1, 2])
def test_all_can_end(ends: int) -> None:
    sums = Sums()
    for process in range(ends):
        sums.seen(process, page(10))
    for process in range(ends):
        sums.ended(process)
    found = totals(sums)
    assert found["streamer_worker_pipeline_records_total"] == 10 * ends
    assert "streamer_worker_ready" not in found


def test_readiness_of_several_is_that_of_each_with_its_number() -> None:
    waits = {"reason": "group", "text": "waiting", "since": "2026-11-28T09:00:00Z", "until": None}
    lack = {**waits, "reason": "cache", "text": "cache: x"}
    now = readiness_of({
        3: "starting",
        2: {"error": "waiting", "waits": [waits], "degraded": [lack]},
        1: {"ready": True, "without": "cache: x", "degraded": [lack]},
    })  # fmt: skip
    assert now.not_ready == "worker 2: waiting; worker 3: starting"
    assert now.without == "worker 1: cache: x"
    assert now.waits == [{"worker": 2, **waits}]
    assert now.degraded == [{"worker": 1, **lack}, {"worker": 2, **lack}]
    assert readiness_of({1: {"ready": True}}) == Readiness(waits=[], degraded=[])
