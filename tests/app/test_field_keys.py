"""Row 33: a key goes to the server that it is meant for, and to no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamer.app.providers import open_provider
from streamer.core.vendors import VENDORS, key_variable
from streamer.errors import ConfigurationError, ProviderBlocked
from streamer.service import EmbeddingService
from streamer.settings import Settings, load_settings
from tests.support.vendors.ollama import FakeOllama
from tests.support.vendors.openai import FakeOpenAI
from tests.support.vendors.services import KEY

pytestmark = pytest.mark.anyio

SECRETS = {
    "OPENAI_API_KEY": KEY,
    "OPENAI_ORG_ID": "org-of-mine",
    "OPENAI_PROJECT_ID": "proj-of-mine",
    "OPENAI_CUSTOM_HEADERS": "x-secret: of-mine\nAuthorization: Bearer of-mine-too",
    "OLLAMA_API_KEY": KEY,
    "COHERE_API_KEY": KEY,
    "VOYAGE_API_KEY": KEY,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def settings(**values: Any) -> Settings:
    return load_settings(overrides={f"provider.{name}": value for name, value in values.items()})


async def sent(server: Any, given: Settings) -> dict[str, str]:
    async with open_provider(given) as opened:
        await opened.provider.embed(["a"], "document")
    return dict(server.requests[-1].headers)


async def test_row_33_nothing_of_openais_goes_to_another_server() -> None:
    async with FakeOpenAI() as server:
        headers = await sent(server, settings(name="openai", base_url=server.base_url))
    assert headers["authorization"] == "Bearer none"
    assert not {"openai-organization", "openai-project", "x-secret"} & set(headers)
    assert KEY not in str(headers)
    assert "of-mine" not in str(headers)


async def test_row_33_nor_ollamas() -> None:
    async with FakeOllama() as server:
        headers = await sent(server, settings(name="ollama", base_url=server.base_url))
    assert "authorization" not in headers


@pytest.mark.parametrize("name", ["cohere", "voyage"])
async def test_row_33_nor_anothers_and_the_way_is_named(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        async with open_provider(settings(name=name, base_url="http://127.0.0.1:1/v1")):
            pass
    assert f'provider.api_key_env = "{name.upper()}_API_KEY"' in str(caught.value)
    assert "STREAMER_PROVIDER__API_KEY" in str(caught.value)


async def test_row_33_a_key_is_sent_where_the_settings_say_so(capsys: Any) -> None:
    async with FakeOpenAI(key=KEY) as server:
        headers = await sent(
            server,
            settings(name="openai", base_url=server.base_url, api_key_env="OPENAI_API_KEY", headers={"x-a": "b"}),
        )
        assert headers["authorization"] == f"Bearer {KEY}"
        assert headers["x-a"] == "b"
        assert "openai-organization" not in headers
        await sent(server, settings(name="openai", base_url=server.base_url, api_key=KEY))
    assert "a key is not sent" not in "".join(capsys.readouterr())


async def test_row_33_a_server_that_wants_a_key_says_how_to_give_one(capsys: Any) -> None:
    async with FakeOpenAI(key=KEY) as server:
        with pytest.raises(ProviderBlocked, match=r'check the API key \(OPENAI_API_KEY is .*api_key_env = "OPENAI_API'):
            await sent(server, settings(name="openai", base_url=server.base_url))
    assert "a key is not sent to this server" in "".join(capsys.readouterr())


def test_row_33_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"provider\.api_key_env = 'MY_KEY': this variable is not set"):
        settings(name="openai", base_url="https://mine.example", api_key_env="MY_KEY")


async def test_row_33_an_address_that_only_the_client_would_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    with pytest.raises(ConfigurationError, match=r"OPENAI_BASE_URL is set.* set provider\.base_url"):
        async with open_provider(settings(name="openai")):
            pass


@pytest.mark.parametrize(
    ("name", "url", "is_meant"),
    [
        ("openai", None, True),
        ("openai", "https://api.openai.com/v1", True),
        ("openai", "https://eu.api.openai.com/v1", True),
        ("openai", "http://api.openai.com/v1", False),  # readable on the way
        ("openai", "https://api.openai.com.evil.example/v1", False),
        ("openai", "https://evilopenai.com/v1", False),
        ("openai", "https://api.openai.com@evil.example/v1", False),
        ("openai", "https://my.openai.azure.com", False),
        ("ollama", None, False),
        ("ollama", "https://ollama.com", True),
        ("cohere", "https://api.cohere.com", True),
        ("cohere", "https://api.voyageai.com", False),
        ("voyage", "http://localhost:1", False),
    ],
)
def test_row_33_whom_a_vendors_variable_is_meant_for(name: str, url: str | None, is_meant: bool) -> None:
    assert key_variable(name, url) == (VENDORS[name].key_variable if is_meant else None)
    key = settings(name=name, base_url=url).provider.api_key
    assert (key is not None) == is_meant


def test_row_33_azure_has_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    azure = {"name": "openai", "base_url": "https://my.openai.azure.com", "azure_api_version": "2024-10-21"}
    assert settings(**azure).provider.api_key is None
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "of azure")
    key = settings(**azure).provider.api_key
    assert key is not None
    assert key.get_secret_value() == "of azure"


def test_row_33_a_key_does_not_follow_a_changed_address() -> None:
    base = settings(name="openai", api_key="of the first", base_url="https://first.example", headers={"x-token": "t"})
    service = EmbeddingService(base, base_url="https://second.example")
    assert service.settings.provider.api_key is None
    assert service.settings.provider.headers == {}
    same = EmbeddingService(base, base_url="https://first.example", model="m").settings.provider
    assert same.api_key is not None
    given = EmbeddingService(base, base_url="https://second.example", api_key="of the second").settings.provider
    assert given.api_key is not None
    assert given.api_key.get_secret_value() == "of the second"


@pytest.mark.parametrize("name", ["ollama", "cohere", "voyage", "onnx", "sentence-transformers"])
@pytest.mark.parametrize(
    "option",
    [
        {"headers": {"x-token": "t"}},
        {"azure_api_version": "1"},
        {"azure_deployment": "d"},
        {"encoding_format": "float"},
        {"fallback": [{"base_url": "https://a.example", "headers": {"x-token": "t"}}]},
    ],
    ids=lambda option: next(iter(option)),
)
def test_row_33_an_option_that_would_not_be_used_is_refused(name: str, option: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"is for provider\.name = 'openai'|runs in this process") as caught:
        settings(name=name, **option)
    assert "x-token" not in str(caught.value)
