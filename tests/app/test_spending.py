"""Prices, limits and accounts from the settings; and what processes with one cache spend together at a real socket."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from streamer.adapters.sqlite import SqliteVectorCache
from streamer.app.embedder import open_embedding
from streamer.app.providers import contract_of
from streamer.app.spending import account_of, budget_for, limits_of, price_for
from streamer.core.vectors import Space
from streamer.core.vendors import VENDORS
from streamer.embedding.budget import periods_at
from streamer.embedding.prices import Price
from streamer.errors import ConfigurationError
from streamer.settings import Settings, load_settings
from tests.support.fakes import MemoryLedger
from tests.support.vendors.openai import FakeOpenAI
from tests.support.vendors.services import KEY

pytestmark = pytest.mark.anyio

LIMIT = 60_000
KILLS = 3
CALLS = 4  # open at once, of each process
SPACE = Space(provider="openai", model="text-embedding-3-small", dimensions=16)

# Embeds texts that nobody else has, again and again, until it is told that the limit is reached.
SPENDER = """
import asyncio, itertools, os, sys
sys.path.insert(0, "")
from streamer import EmbeddingService
from streamer.errors import SpendLimitReached

async def main():
    async with EmbeddingService(provider="openai", dimensions=16, max_concurrent_requests=4) as service:
        for number in itertools.count():
            texts = [f"process {os.getpid()} batch {number} text {place}" for place in range(40)]
            try:
                await service.embed_batch(texts)
            except SpendLimitReached as reached:
                print(reached, flush=True)
                return

asyncio.run(main())
"""


class Store:
    is_shared = True

    def __init__(self) -> None:
        self.accounts: list[str] = []

    def ledger(self, account: str) -> MemoryLedger:
        self.accounts.append(account)
        return MemoryLedger()


def settings(name: str = "openai", **provider: Any) -> Settings:
    return load_settings(None, {}, {f"provider.{key}": value for key, value in {"name": name, **provider}.items()})


def test_the_price_is_the_users_own_or_that_of_the_list() -> None:
    assert price_for(settings(), contract_of(settings())) == Price(0.02, "2026-11-28")
    own = settings(price_per_million_tokens="0.01")
    assert price_for(own, contract_of(own)) == Price(0.01)


@pytest.mark.parametrize("name", [name for name, vendor in VENDORS.items() if vendor.default_model])
def test_the_default_model_of_each_vendor_has_a_price_with_a_date_or_costs_nothing(name: str) -> None:
    wanted = settings(name)
    price = price_for(wanted, contract_of(wanted))
    assert price is not None
    assert price.as_of.startswith("202") or price.usd_per_million_tokens == 0


@pytest.mark.parametrize("name", ["onnx", "sentence-transformers", "ollama"])
def test_what_nobody_bills_has_no_budget_whatever_the_limits_say(name: str) -> None:
    wanted = settings(name, max_spend_per_day="1")
    assert price_for(wanted, contract_of(wanted)) == Price(0.0)
    assert budget_for(wanted, contract_of(wanted), None) is None


def test_tokens_can_be_limited_where_they_cost_nothing() -> None:
    free = settings(price_per_million_tokens="0", max_tokens_per_day="1000")
    assert budget_for(free, contract_of(free), Store()) is not None
    counted = settings(price_per_million_tokens="0", max_requests_per_day="1000")
    assert budget_for(counted, contract_of(counted), Store()) is not None
    assert budget_for(settings(price_per_million_tokens="0"), contract_of(settings()), Store()) is None


def test_a_limit_in_dollars_needs_a_price() -> None:
    unknown: dict[str, Any] = {
        "name": "openai",
        "model": "mine",
        "dimensions": 8,
        "max_item_tokens": 512,
        "max_items": 32,
    }
    wanted = settings(**unknown, max_spend_per_month="5")
    with pytest.raises(ConfigurationError, match=r"max_spend_per_month: the price of openai mine is not known"):
        budget_for(wanted, contract_of(wanted), Store())
    priced = settings(**unknown, max_spend_per_month="5", price_per_million_tokens="0.1")
    assert budget_for(priced, contract_of(priced), Store()) is not None
    tokens = settings(**unknown, max_tokens_per_day="5")
    assert budget_for(tokens, contract_of(tokens), Store()) is not None


def test_a_limit_needs_a_store_and_a_count_without_a_limit_does_not() -> None:
    with pytest.raises(ConfigurationError, match=r"cache\.enabled = true"):
        budget_for(settings(max_tokens_per_day="5"), contract_of(settings()), None)
    assert budget_for(settings(), contract_of(settings()), None) is not None


def test_limits_are_those_of_the_settings() -> None:
    amounts = {"max_spend_per_day": "2", "max_spend_per_month": "30", "max_spend": "5", "max_tokens_per_day": "1000"}
    limits = limits_of(settings(**amounts, max_requests_per_day="70"))
    assert (limits.usd_per_day, limits.usd_per_month, limits.usd_total, limits.tokens_per_day) == (2.0, 30.0, 5.0, 1000)
    assert limits.requests_per_day == 70
    assert not limits_of(settings()).any


@pytest.mark.parametrize("wrong", [{"max_spend_per_day": "0"}, {"max_tokens_per_day": "-1"}])
def test_limits_that_would_stop_everything_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="greater than 0"):
        settings(**wrong)


def test_an_account_is_a_vendor_at_a_host() -> None:
    assert account_of(settings(), contract_of(settings())) == "openai api.openai.com"
    proxied = settings(base_url="https://user@gateway.example:8443/v1")
    assert account_of(proxied, contract_of(proxied)) == "openai gateway.example"


def test_a_budget_of_its_own_is_counted_by_itself() -> None:
    store = Store()
    wanted = settings(budget="backfill", max_spend="5")
    assert budget_for(wanted, contract_of(wanted), store) is not None
    assert store.accounts == ["openai api.openai.com backfill"]
    assert account_of(wanted, contract_of(wanted)) == "openai api.openai.com", "the vendor's limits are for all"


async def test_an_opened_provider_is_counted(tmp_path: Path) -> None:
    async with FakeOpenAI(key=KEY) as server:
        wanted = settings(base_url=server.base_url, api_key=KEY).model_copy(
            update={"cache": Settings().cache.model_copy(update={"path": tmp_path / "cache.sqlite"})}
        )
        async with open_embedding(wanted) as stack:
            await stack.embedder.embed(["one text", "another text"], "document")
            assert stack.budget is not None
            assert stack.budget.statistics().day_tokens == server.billed_tokens > 0


def spender(path: Path, server: FakeOpenAI) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")} | {
        "STREAMER_CACHE__PATH": str(path),
        "STREAMER_PROVIDER__BASE_URL": server.base_url,
        "STREAMER_PROVIDER__API_KEY": KEY,
        "STREAMER_PROVIDER__MAX_TOKENS_PER_DAY": str(LIMIT),
    }
    return subprocess.Popen(
        [sys.executable, "-c", SPENDER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ, text=True
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="files are shared on Linux only")
async def test_two_processes_and_their_kills_never_spend_more_than_the_limit_and_all_of_it_is_counted(
    tmp_path: Path,
) -> None:
    path, rng = tmp_path / "cache.sqlite", random.Random(5)
    async with FakeOpenAI(key=KEY) as server:
        server.latency = lambda number: 0.01 + 0.03 * random.Random(number).random()
        processes = [spender(path, server), spender(path, server)]
        for kill in range(KILLS):
            while server.billed_tokens < LIMIT * (1 + kill) / (2 * KILLS):
                await server.received(len(server.requests) + 1)
            victim = rng.randrange(2)
            processes[victim].kill()
            await anyio.to_thread.run_sync(processes[victim].communicate)
            processes[victim] = spender(path, server)
        said = [await anyio.to_thread.run_sync(process.communicate) for process in processes]
        billed = server.billed_tokens
        largest = max(sum(len(text.encode()) + 2 for text in request.json["input"]) for request in server.requests)
    for out, err in said:
        assert "spend limit reached since" in out, err[-2000:]
        assert "(provider.max_tokens_per_day)" in out
    async with SqliteVectorCache.open(path, SPACE, ttl_seconds=None, max_bytes=None) as cache:
        [counted] = (await cache.ledger("openai 127.0.0.1").spent([periods_at(time.time()).day]) or {}).values()
    print(f"\nlimit {LIMIT}, billed {billed}, counted {counted.tokens}, {KILLS} kills, largest request {largest}")
    assert billed <= counted.tokens <= LIMIT
    assert counted.tokens - billed <= KILLS * CALLS * largest < LIMIT / 2, "a kill costs what was in flight"
    assert counted.tokens > LIMIT - largest, "the limit is used up"
