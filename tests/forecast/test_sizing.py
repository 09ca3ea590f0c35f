"""What a stream takes, and what runs out first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from streamer.embedding.prices import Price
from streamer.forecast import sizing
from streamer.forecast.flow_model import Delays, FlowModel
from streamer.forecast.sizing import HEADROOM, INDEXER, WORKERS, Demand, Machine, capacity, size
from streamer.worker.batching import BatchPolicy
from tests.embedding.providers import contract, space

MACHINE = Machine(
    worker_bytes=85_000_000, fetched_bytes=2_000_000, window_bytes=16_000_000, is_binary=False, includes_text=True,
    indexed=1000, judged=1e9,
)  # fmt: skip


def model(**options: Any) -> FlowModel:
    values: dict[str, Any] = {
        "contract": contract(max_items=2048, max_request_tokens=300_000),
        "space": space(dimensions=384),
        "batch": BatchPolicy(512, 1_000_000, 0.025),
        "max_batches": 8,
        "calls": 8,
        "max_in_flight": 4000,
        "delays": Delays(intake=2e-5, output=1e-4, call=1e-3, answer=0.3, publish=0.01),
    }
    return FlowModel(**values | options)


@pytest.fixture(autouse=True)
def few_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as it takes to see what there is to see."""
    monkeypatch.setattr(sizing, "FEWEST_EVENTS", 500)
    monkeypatch.setattr(sizing, "MOST_EVENTS", 1500)


def test_a_worker_is_as_fast_as_its_processor_or_its_calls() -> None:
    by_processor = capacity(Demand(rate=1, tokens=60), model())
    assert by_processor == pytest.approx(1 / (2e-5 + 1e-4 + 1e-3 / 512), rel=0.1)
    slow = model(delays=Delays(answer=2.0), max_batches=2, calls=2)
    assert capacity(Demand(rate=1, tokens=60), slow) == pytest.approx(2 * 512 / 2.0, rel=0.1)


def test_workers_partitions_and_memory_grow_with_the_rate_up_to_a_million() -> None:
    small, large = (size(Demand(rate=rate, tokens=60), model(), MACHINE, Price(0.02)) for rate in (100, 1_000_000))
    assert (small.workers, small.partitions) == (1, 2)
    assert large.workers * large.worker_rate * HEADROOM >= 1_000_000
    assert (large.workers - 1) * large.worker_rate * HEADROOM < 1_000_000
    assert large.partitions >= 2 * large.workers
    assert large.output_bytes / large.partitions <= 10_000_000
    assert large.outlook.usd_per_day == pytest.approx(1_000_000 * 60 * 86_400 * 0.02 / 1e6)
    assert small.worker_bytes > MACHINE.worker_bytes
    assert large.keeps_up
    assert large.latency is not None


def test_limits_of_the_account_are_held_against_what_is_needed() -> None:
    limited = model(requests_per_minute=3000, tokens_per_minute=1_000_000)
    found = size(Demand(rate=1000, tokens=60, backlog=1_000_000), limited, MACHINE, None)
    tokens = found.needs["tokens a minute"]
    assert (tokens.needed, tokens.available) == (3_600_000, 1_000_000)
    assert found.bottleneck == "tokens a minute"
    assert not found.keeps_up
    assert found.latency is None
    assert found.outlook.backlog_seconds == float("inf")
    enough = size(Demand(rate=200, tokens=60, backlog=1000), limited, MACHINE, None)
    assert enough.keeps_up
    assert enough.outlook.backlog_seconds == pytest.approx(1000 / (1_000_000 / 3600 - 200))


def test_limits_of_a_day_are_held_against_a_day_of_the_stream() -> None:
    limited = model(requests_per_day=500_000, tokens_per_day=10_000_000)
    found = size(Demand(rate=10, tokens=60), limited, MACHINE, None)
    tokens, requests = found.needs["tokens a day"], found.needs["requests a day"]
    assert (tokens.needed, tokens.available, requests.available) == (10 * 60 * 86_400, 10_000_000, 500_000)
    assert 0 < requests.share < 2  # at most one for each event
    assert (found.bottleneck, found.keeps_up) == ("tokens a day", False)
    assert "tokens a day" not in size(Demand(rate=10, tokens=60), model(), MACHINE, None).needs


def test_only_limits_that_the_account_has_are_named() -> None:
    per_text = model(contract=contract(limits=("items",), max_items=96), items_per_minute=2000)
    needs = size(Demand(rate=10, tokens=60), per_text, MACHINE, None).needs
    assert set(needs) == {"texts a minute", WORKERS, INDEXER}


@pytest.mark.slow
def test_repeats_cost_nothing() -> None:
    all_new, half = (
        size(Demand(rate=500, tokens=60, repeats=share), model(), MACHINE, Price(0.02)) for share in (0, 0.5)
    )
    assert half.outlook.tokens_per_day * 2 == all_new.outlook.tokens_per_day
    assert half.needs["tokens a minute"].needed * 2 == all_new.needs["tokens a minute"].needed
    assert half.request_texts == pytest.approx(all_new.request_texts / 2, rel=0.1)


def test_an_indexer_that_is_too_slow_is_the_bottleneck_of_verdicts_only() -> None:
    found = size(Demand(rate=500, tokens=60), model(), replace(MACHINE, judged=100.0), None)
    assert found.bottleneck == INDEXER
    assert found.keeps_up
    slow = size(Demand(rate=500, tokens=60), model(tokens_per_minute=100_000), replace(MACHINE, judged=1.0), None)
    assert (slow.bottleneck, slow.keeps_up) == ("tokens a minute", False)


def test_a_binary_vector_is_smaller() -> None:
    json, binary = (
        size(Demand(rate=10, tokens=60), model(), replace(MACHINE, is_binary=is_binary), None).output_bytes
        for is_binary in (False, True)
    )
    assert json > 2 * binary
