"""The arguments of EmbeddingService: what is wrong with them is said in the words of the call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamer import ConfigurationError, EmbeddingService, load_settings
from streamer.testing import HashProvider


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"provider": "opanai"}, "provider='opanai': input should be 'onnx', "),
        ({"dimensions": -1}, "dimensions=-1: input should be greater than 0"),
        ({"requests_per_minute": 0}, "requests_per_minute=0: input should be greater than 0"),
        ({"cache__ttl_seconds": "soon"}, "cache__ttl_seconds='soon': input should be a valid number"),
        ({"cache__pth": "x"}, "cache__pth=...: unknown key cache.pth; known are: enabled, path"),
        ({"modle": "x"}, "modle=...: unknown; known are provider, section__key and"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_error_quotes_the_argument(arguments: dict[str, Any], says: str) -> None:
    """First hour R4."""
    with pytest.raises(ConfigurationError) as caught:
        EmbeddingService(**arguments)
    assert str(caught.value).startswith(says)


def test_an_error_does_not_quote_a_secret() -> None:
    with pytest.raises(ConfigurationError) as caught:
        EmbeddingService(api_key=["of mine"])  # type: ignore[arg-type]
    assert str(caught.value).startswith("api_key=...: ")
    assert "of mine" not in str(caught.value)


def test_settings_that_are_not_arguments_are_quoted_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_BATCH__MAX_EVENTS", "none")
    with pytest.raises(ConfigurationError, match=r"^STREAMER_BATCH__MAX_EVENTS: batch\.max_events = 'none': "):
        EmbeddingService(provider="onnx")
    with pytest.raises(ConfigurationError, match=r"^option for provider\.name: provider\.name = 'opanai': "):
        load_settings(environ={}, overrides={"provider.name": "opanai"})


def test_with_instead_of_async_with_says_what_to_write() -> None:
    """First hour R5."""
    with pytest.raises(TypeError, match=r"async with EmbeddingService.*with SyncEmbeddingService"), EmbeddingService():
        raise AssertionError("entered")


@pytest.mark.anyio
async def test_repr_says_what_it_is() -> None:
    service = EmbeddingService(provider="onnx", model="mine", cache__enabled=False)
    assert repr(service) == "<EmbeddingService onnx mine, closed>"
    own = EmbeddingService(provider=HashProvider(), cache__enabled=False)
    assert repr(own) == "<EmbeddingService fake hash, closed>"
    async with own:
        assert repr(own) == f"<EmbeddingService fake hash, 8 dimensions, space {own.space.id}>"
