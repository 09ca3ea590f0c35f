"""The simulation against a worker of real parts in virtual time: the same batches, requests, tokens and seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from streamer.embedding.chunking import typical_tokens
from streamer.forecast.flow_model import Delays, FlowModel, percentile
from streamer.forecast.simulation import Simulation
from streamer.forecast.workload import Arrivals, backlog, steady, text_of
from streamer.worker.batching import BatchPolicy
from tests.embedding.providers import contract, space
from tests.forecast.virtual_worker import run_worker
from tests.support.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


def model(**options: Any) -> FlowModel:
    values: dict[str, Any] = {
        "contract": contract(max_items=64, max_request_tokens=2000),
        "space": space(),
        "batch": BatchPolicy(64, 1_000_000, 0.05),
        "max_batches": 4,
        "calls": 4,
        "max_in_flight": 1000,
        "delays": Delays(answer=0.2, answer_token=0.0001),
    }
    return FlowModel(**values | options)


def texts(count: int) -> list[str]:
    """Of many lengths, some twice."""
    return [text_of(3 + number * 7 % 50, number if number % 5 else number // 2) for number in range(count)]


BACKLOGS: dict[str, Callable[[], tuple[FlowModel, Arrivals]]] = {
    "plain": lambda: (model(), backlog(texts(1000), 4)),
    "requests of few tokens": lambda: (model(contract=contract(max_request_tokens=500)), backlog(texts(600), 2)),
    "two calls at a time": lambda: (model(calls=2), backlog(texts(1000), 1)),
    "requests a minute": lambda: (model(requests_per_minute=60), backlog(texts(700), 4)),
    "tokens a minute": lambda: (model(tokens_per_minute=12_000), backlog(texts(700), 4)),
    "without a cache": lambda: (model(remembers=False), backlog(texts(700), 4)),
    "a small window": lambda: (model(max_in_flight=40), backlog(texts(500), 1)),
    "a tokenizer": lambda: (
        model(count_tokens=lambda many: [typical_tokens(text) for text in many]),
        backlog(texts(500), 4),
    ),
}


@pytest.mark.parametrize("name", BACKLOGS)
async def test_a_backlog_takes_the_same_batches_requests_and_tokens(name: str) -> None:
    wanted, arrivals = BACKLOGS[name]()
    real = await run_worker(wanted, arrivals)
    simulated = Simulation(wanted).run(arrivals)
    assert len(simulated.batches) == real.batches
    assert Counter(simulated.requests) == Counter(real.requests)
    assert simulated.ended == pytest.approx(real.seconds, rel=0.02)


@pytest.mark.parametrize("rate", [*(pytest.param(rate, marks=pytest.mark.slow) for rate in (50, 400)), 2000])
async def test_a_stream_takes_nearly_the_same(rate: int) -> None:
    """Arrivals on the edge of a window may fall to either side."""
    wanted, arrivals = model(), steady(1000, rate, 20, 4, repeats=0.1)
    real = await run_worker(wanted, arrivals)
    simulated = Simulation(wanted).run(arrivals)
    assert len(simulated.batches) == pytest.approx(real.batches, rel=0.05, abs=1)
    assert len(simulated.requests) == pytest.approx(len(real.requests), rel=0.05, abs=1)
    assert simulated.tokens == sum(tokens for _, tokens in real.requests)
    assert simulated.ended == pytest.approx(real.seconds, rel=0.02)


def test_a_processor_does_one_thing_at_a_time() -> None:
    busy = Simulation(model(delays=Delays(intake=0.001, output=0.001))).run(backlog(texts(500)))
    assert busy.ended == pytest.approx(1.0, rel=0.05)
    assert busy.processor_seconds == pytest.approx(1.0)


def test_outcomes_leave_in_the_order_of_their_partition() -> None:
    """The first batch is the slow one: what is done before it waits for it."""
    long = [text_of(400, 0), *(text_of(1, number) for number in range(1, 128))]
    wanted = model(delays=Delays(answer_token=0.01), contract=contract())
    held = Simulation(wanted).run(backlog(long, 1))
    assert min(held.latencies) == max(held.latencies)


def test_what_is_cached_is_not_asked_for() -> None:
    given = texts(100)
    run = Simulation(model(), cached=given[:50]).run(backlog(given))
    assert sum(count for count, _ in run.requests) == len(set(given) - set(given[:50]))
    assert run.hits == 100 - len(set(given) - set(given[:50]))


@pytest.mark.parametrize(("policy", "requests", "rejected"), [("truncate", 2, 0), ("chunk", 2, 0), ("reject", 1, 1)])
def test_texts_that_are_too_long_are_dealt_with_as_the_policy_says(policy: str, requests: int, rejected: int) -> None:
    wanted = model(contract=contract(max_item_tokens=102), space=space(on_too_long=policy))
    run = Simulation(wanted).run(backlog(["short", "word " * 200]))
    assert (len(run.requests), run.rejected) == (requests, rejected)


def test_percentiles() -> None:
    assert percentile([], 0.5) == 0.0
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0
