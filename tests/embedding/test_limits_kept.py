"""How much of a provider's limit is used, against a simulated server that enforces it over sliding 60 s windows."""

from __future__ import annotations

import random

import anyio
import pytest

from streamer.embedding.dispatcher import Dispatcher
from streamer.embedding.quota import Quota
from tests.embedding.limited_server import LimitedServer, load
from tests.embedding.providers import contract

pytestmark = pytest.mark.anyio


def service(server: LimitedServer, limits: Quota | None = None) -> Dispatcher:
    terms = contract(max_request_tokens=300_000)
    return Dispatcher(server, terms, limits=limits, concurrency=32, random=random.Random(5).random)


def report(name: str, server: LimitedServer, start: float, end: float) -> tuple[float, float]:
    share, refused = server.share(start, end), server.refusals(start, end)
    print(f"{name}: {share:.2%} used, {refused:.2%} refused; {server.refusals(0, start or end):.2%} in the warm-up")
    return share, refused


@pytest.mark.parametrize("limit", [60, pytest.param(600, marks=pytest.mark.slow)])
async def test_a_known_request_limit_is_used_to_97_percent_without_a_refusal(limit: int) -> None:
    server = LimitedServer(requests=limit)
    await load(service(server, Quota(requests_per_minute=limit)), 180, workers=64, texts_a_batch=2, length=100)
    assert report(f"{limit} requests a minute", server, 0, 180)[0] >= 0.97
    assert server.refused == []


@pytest.mark.parametrize(("limit", "length"), [(200_000, 400), (1_000_000, 4000)])
async def test_a_known_token_limit_is_used_to_97_percent_without_a_refusal(limit: int, length: int) -> None:
    server = LimitedServer(tokens=limit)
    await load(service(server, Quota(tokens_per_minute=limit)), 180, workers=16, texts_a_batch=64, length=length)
    assert report(f"{limit} tokens a minute", server, 0, 180)[0] >= 0.97
    assert server.refused == []


async def test_both_limits_at_once() -> None:
    server = LimitedServer(requests=300, tokens=1_000_000)
    quota = Quota(requests_per_minute=300, tokens_per_minute=1_000_000)
    await load(service(server, quota), 180, workers=16, texts_a_batch=50, length=1000)
    assert server.share(0, 180) >= 0.97
    assert server.refused == []


@pytest.mark.slow
@pytest.mark.parametrize("says_when", [True, False])
@pytest.mark.parametrize("limit", [300])
async def test_an_unknown_request_limit_is_found_and_kept(limit: int, says_when: bool) -> None:
    server = LimitedServer(requests=limit, says_when=says_when)
    await load(service(server), 480, workers=16, texts_a_batch=2, length=100)
    share, refused = report(f"unknown {limit} requests a minute", server, 180, 480)
    assert share >= 0.9
    assert refused < 0.02


@pytest.mark.slow
async def test_an_unknown_token_limit_is_found_and_kept() -> None:
    server = LimitedServer(tokens=1_000_000)
    await load(service(server), 480, workers=16, texts_a_batch=40, length=1000)
    share, refused = report("unknown 1,000,000 tokens a minute", server, 180, 480)
    assert share >= 0.9
    assert refused < 0.02


@pytest.mark.slow
async def test_an_announced_limit_is_kept_from_the_first_answer_on() -> None:
    server = LimitedServer(requests=300, sends_headers=True)
    await load(service(server), 240, workers=16, texts_a_batch=2, length=100)
    assert server.refused == []
    assert server.share(60, 240) >= 0.97


@pytest.mark.slow
async def test_headers_lower_what_we_take_while_others_use_the_account() -> None:
    server = LimitedServer(requests=600, sends_headers=True, others=lambda now: 300.0 if 100 < now < 400 else 0.0)
    await load(service(server, Quota(requests_per_minute=600)), 600, workers=16, texts_a_batch=2, length=100)
    assert server.share(200, 390) == pytest.approx(0.5, abs=0.05)
    assert server.share(480, 600) >= 0.95
    assert server.refusals(0, 600) < 0.02


@pytest.mark.slow
async def test_a_limit_set_too_high_is_corrected_by_refusals() -> None:
    server = LimitedServer(requests=300)
    await load(service(server, Quota(requests_per_minute=600)), 480, workers=16, texts_a_batch=2, length=100)
    assert server.share(180, 480) >= 0.9
    assert server.refusals(180, 480) < 0.02


@pytest.mark.slow
async def test_two_dispatchers_of_one_account_share_its_limit() -> None:
    server, quota = LimitedServer(requests=600), Quota(requests_per_minute=600)
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(lambda: load(service(server, quota), 180, workers=8, texts_a_batch=2, length=100))
    assert server.refused == []
    assert server.share(0, 180) >= 0.97
