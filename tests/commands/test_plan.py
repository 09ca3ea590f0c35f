"""`streamer plan`: from a rate to workers and a bill, without any connection."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from streamer.commands.plan import rate_of
from streamer.errors import ConfigurationError
from streamer.forecast import sizing
from tests.commands.in_process import empty_folder, streamer  # noqa: F401  a fixture for all tests here

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def few_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as it takes to see what there is to see."""
    monkeypatch.setattr(sizing, "FEWEST_EVENTS", 500)
    monkeypatch.setattr(sizing, "MOST_EVENTS", 1500)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("5000", 5000), ("5000/s", 5000), ("10k/s", 10_000), ("300/min", 5), ("8.64M/day", 100), ("1,000,000/s", 1e6)],
)
def test_rates_as_people_write_them(text: str, rate: float) -> None:
    assert rate_of(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "fast", "0/s", "5/week", "-1", "1.2.3"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="as in 5000/s"):
        rate_of(text)


async def document(*arguments: str) -> dict[str, Any]:
    done = await streamer("plan", "--json", *arguments)
    assert done.code == 0, done.stderr
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found


async def test_a_plan_names_workers_limits_cost_and_bottleneck() -> None:
    small = ["--rate", "10000/s", "--provider", "openai", "--tokens", "60", "--set", "index.capacity=1000"]
    plan = await document(*small, "--set", "provider.tokens_per_minute=40000000")
    assert plan["workers"] >= 2
    assert plan["outlook"]["usd_per_day"] == pytest.approx(10_000 * 60 * 86_400 * 0.02 / 1e6)
    assert plan["needs"]["tokens a minute"] == {"needed": 36_000_000, "available": 40_000_000}
    assert (plan["keeps_up"], plan["bottleneck"]) == (True, "tokens a minute")
    assert plan["price_as_of"] == "2026-11-28"
    tight = await document(*small, "--set", "provider.tokens_per_minute=1000000", "--backlog", "1000")
    assert (tight["keeps_up"], tight["outlook"]["backlog_seconds"]) == (False, None)


async def test_a_million_events_a_second_can_be_planned_on_paper() -> None:
    done = await streamer("plan", "--rate", "1M/s", "--provider", "openai", "--tokens", "60")
    assert done.code == 0, done.stderr
    for words in ("1,000,000 events/s of 60 tokens", "103,680 USD a day", "bottleneck", "(assumed: --latency-ms)"):
        assert words in done.stdout


async def test_an_unknown_model_has_no_price_until_the_user_sets_one() -> None:
    given = ["plan", "--rate", "100/s", "--provider", "openai", "--tokens", "60", "--set", "index.capacity=1000"]
    for setting in ("model=mine", "dimensions=8", "max_item_tokens=512", "max_items=32"):
        given += ["--set", f"provider.{setting}"]
    done = await streamer(*given)
    assert "in US dollars unknown: set provider.price_per_million_tokens" in done.stdout
    priced = await streamer(*given, "--set", "provider.price_per_million_tokens=0.5")
    assert "at 0.5 USD a million tokens (your price)" in priced.stdout


async def test_a_local_model_costs_nothing_and_is_its_own_bottleneck() -> None:
    plan = await document("--rate", "200/s", "--set", "index.capacity=1000")
    assert plan["provider"] == "onnx"
    assert plan["usd_per_million_tokens"] == 0.0
    assert plan["bottleneck"] == "events a second of the workers"


async def test_a_slower_provider_takes_more_time_and_not_more_requests_than_it_must() -> None:
    quick, slow = [
        await document("--rate", "500/s", "--provider", "openai", "--latency-ms", latency)
        for latency in ("100", "2000")
    ]
    assert slow["latency_seconds"]["p50"] > 10 * quick["latency_seconds"]["p50"]
    assert slow["request_texts"] > quick["request_texts"]


async def test_a_model_without_a_price_says_so() -> None:
    done = await streamer("plan", "--rate", "5/s", "--provider", "cohere", "--model", "embed-english-v3.0")
    assert "432" not in done.stdout or "tokens a day" in done.stdout
    assert "USD" not in done.stdout


async def test_an_unknown_local_model_cannot_be_planned_for() -> None:
    done = await streamer("plan", "--rate", "5/s", "--model", "/models/mine")
    assert done.code == 2
    assert "known only once it is loaded" in done.stderr
