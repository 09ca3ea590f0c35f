"""Where limits and costs of an account are kept, as the settings want it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamer.app.accounts import limited_name, open_account
from streamer.app.caches import open_caches
from streamer.app.providers import contract_of
from streamer.protocols import Ceiling, Cost
from streamer.settings import Settings, load_settings
from tests.adapters.sqlite.cached_entries import SPACE
from tests.support.redis_server import redis_server

pytestmark = pytest.mark.anyio

DAY = "2026-11-28"


def settings(provider: str = "openai", key: str = "sk-a", **values: Any) -> Settings:
    changes = {"provider.name": provider} | {name.replace("__", "."): value for name, value in values.items()}
    return load_settings(None, {"OPENAI_API_KEY": key}, changes)


async def test_on_a_server_all_processes_keep_them_together(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        wanted = settings(cache__url=server.url)
        contract = contract_of(wanted)
        async with (
            open_caches(wanted, SPACE) as caches,
            open_account(wanted, contract, caches) as first,
            open_account(wanted, contract, caches) as second,
        ):
            assert first.quota is not None
            assert second.quota is not None
            limits = (6.0, None, None)
            turns = [
                await account.quota.reserve((1.0, 1.0, 1.0), limits) for account in (first, second) if account.quota
            ]
            assert [turn and turn.wait > 0 for turn in turns] == [False, True]
            assert first.ledgers is not None
            assert second.ledgers is not None
            assert first.ledgers.is_shared
            await first.ledgers.ledger("openai").reserve(Cost(5), {DAY: Ceiling()})
            assert await second.ledgers.ledger("openai").spent([DAY]) == {DAY: Cost(5)}
        assert not [key for key in server.client.keys(b"*") if b"sk-a" in key]


async def test_without_a_server_costs_are_counted_in_the_file_and_limits_are_each_process_s_own(tmp_path: Path) -> None:
    wanted = settings(cache__path=str(tmp_path / "cache.sqlite"))
    async with open_caches(wanted, SPACE) as caches, open_account(wanted, contract_of(wanted), caches) as account:
        assert account.quota is None
        assert account.ledgers is caches.file


async def test_a_model_of_this_process_has_no_account(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        wanted = settings("onnx", cache__url=server.url)
        async with open_caches(wanted, SPACE) as caches, open_account(wanted, contract_of(wanted), caches) as account:
            assert account.quota is None


def test_a_limit_is_for_a_model_and_a_key_and_tells_neither_key_nor_address() -> None:
    def name(**values: Any) -> str:
        wanted = settings(**values)
        return limited_name(wanted, contract_of(wanted))

    assert name() == name()
    others = [name(key="sk-b"), name(provider__model="text-embedding-3-large"), name(key="")]
    assert len({name(), *others}) == 4
    assert name().startswith("openai api.openai.com text-embedding-3-small ")
    assert "sk-" not in name()
