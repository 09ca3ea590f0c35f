"""The table of vendors and what must agree with it."""

from __future__ import annotations

from typing import get_args

import pytest

from streamer.app.providers import batches_at_once, contract_of, make_provider
from streamer.core.vendors import VENDORS
from streamer.embedding.contracts import known_models
from streamer.errors import MissingExtra
from streamer.settings import ProviderName, load_settings


def test_the_settings_take_the_vendors_of_the_table_and_no_others() -> None:
    assert set(get_args(ProviderName)) == set(VENDORS)


@pytest.mark.parametrize("name", [name for name, row in VENDORS.items() if row.default_model])
def test_a_vendor_is_usable_with_its_name_alone(name: str) -> None:
    row = VENDORS[name]
    settings = load_settings(None, {}, {"provider.name": name})
    contract = contract_of(settings)
    assert row.default_model in known_models(name)
    assert (contract.provider, contract.model, contract.is_local) == (name, row.default_model, row.is_local)
    assert (row.concurrency == 1) == row.is_local
    assert batches_at_once(settings, contract) == (2 if row.is_local else row.concurrency)


@pytest.mark.parametrize("name", [name for name, row in VENDORS.items() if row.key_variable])
def test_the_vendors_own_variable_holds_the_key(name: str) -> None:
    environ = {row.key_variable: f"key-of-{row.name}" for row in VENDORS.values() if row.key_variable}
    own = {"provider.base_url": "https://ollama.com"} if name == "ollama" else {}  # usually it is on one's own machine
    key = load_settings(None, environ, {"provider.name": name, **own}).provider.api_key
    assert key is not None
    assert key.get_secret_value() == f"key-of-{name}"


@pytest.mark.anyio
@pytest.mark.parametrize("name", [name for name, row in VENDORS.items() if not row.is_local])
async def test_every_vendor_has_its_adapter(name: str) -> None:
    settings = load_settings(None, {VENDORS[name].key_variable: "key"}, {"provider.name": name})
    try:
        provider = await make_provider(settings, contract_of(settings))
    except MissingExtra as exc:
        pytest.skip(str(exc))
    assert provider.space.provider == name
    await provider.aclose()
