"""One state for readiness, status and dashboards."""

from __future__ import annotations

from streamer.http.role_state import RoleState, utc
from streamer.telemetry.waiting import Held

NINE = 1_795_856_400.0
DOWN = Held("provider_down", "provider down: https://me:secret@host/v1 does not answer", NINE, NINE + 4)
CACHE = Held("cache", "cache: file is not a database", NINE, None)


def test_all_that_there_is_to_tell_and_no_credentials() -> None:
    state = RoleState(not_ready=DOWN.text, waits=[DOWN], degraded=[CACHE])
    assert not state.is_ready
    assert state.reason == "provider down: https://***@host/v1 does not answer"
    assert state.without == CACHE.text
    conditions = state.conditions()
    assert conditions["waits"] == [
        {
            "reason": "provider_down",
            "text": state.reason,
            "since": "2026-11-28T09:00:00Z",
            "until": "2026-11-28T09:00:04Z",
        }
    ]
    assert conditions["degraded"][0]["until"] is None


def test_a_role_that_is_ready_though_it_waits_does_without_that() -> None:
    """An indexer answers searches while the provider is away."""
    state = RoleState(not_ready=None, waits=[DOWN], degraded=[CACHE])
    assert state.is_ready
    assert state.reason is None
    assert state.without == f"provider down: https://***@host/v1 does not answer; {CACHE.text}"
    assert RoleState(not_ready=None).without is None


def test_times_are_in_utc() -> None:
    assert utc(NINE) == "2026-11-28T09:00:00Z"
    assert utc(None) is None
