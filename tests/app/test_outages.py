"""What a process does without is told in one sentence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import anyio
import pytest
from structlog.typing import EventDict

from streamer.app.outages import watch_outages
from streamer.telemetry.waiting import Waiting
from tests.worker.flows import until as until_


@pytest.mark.anyio
async def test_an_outage_is_told_with_since_when_and_until_when(logs: list[EventDict]) -> None:
    """First hour D1 and R2."""
    state: Waiting | None = Waiting("provider_quota", "blocked: used up", 2_000_000_000.0)
    async with anyio.create_task_group() as tasks:
        began = datetime.now(UTC)
        tasks.start_soon(partial(watch_outages, {"provider": lambda: state}, settle=0.0))
        await until_(lambda: len(logs) == 1)
        state = None
        await until_(lambda: len(logs) == 2)
        tasks.cancel_scope.cancel()
    assert (logs[0]["event"], logs[0]["until"]) == ("provider unavailable", "2033-05-18T03:33:20Z")
    assert abs(datetime.fromisoformat(logs[0]["since"]) - began) < timedelta(seconds=10)
    assert logs[1]["event"] == "provider available again"
    assert "until" not in logs[1]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("waiting", "until"),
    [
        (Waiting("provider_rate_limited", "rate limited", 1_900_000_000.0), "2030-03-17T17:46:40Z"),
        (Waiting("spend_limit", "spend limit reached", 1_900_000_000.4), "2030-03-17T17:46:40Z"),
        (Waiting("provider_key", "blocked: openai answered 401", None), None),
        ("no answer from Kafka", None),
    ],
    ids=str,
)
async def test_the_next_try_is_told_where_it_is_known(
    waiting: Waiting | str, until: str | None, logs: list[EventDict]
) -> None:
    """First hour R2, D1: each part by itself."""
    states = {"provider": lambda: waiting, "output": lambda: None, "cache": lambda: "cache: disk is full"}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(watch_outages, states, settle=0.0))
        await until_(lambda: len(logs) == 2)
        tasks.cancel_scope.cancel()
    assert [line["event"] for line in logs] == ["provider unavailable", "cache unavailable"]
    assert logs[0].get("until") == until
    assert "until" not in logs[1]
