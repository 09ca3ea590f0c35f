"""Where the cache is: a file, a server, or both; and whose password nobody sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamer.errors import ConfigurationError
from streamer.settings import load_settings


def cache(**values: Any) -> Any:
    return load_settings(None, {}, {f"cache.{name}": value for name, value in values.items()}).cache


def test_a_file_is_the_default_and_stands_beside_a_server_only_where_it_is_named() -> None:
    assert cache().path == Path("streamer-cache.sqlite")
    assert (cache(url="redis://cache:6379/0").path, cache(url="redis://cache").url) == (None, "redis://cache")
    assert cache(url="rediss://cache", path="here.sqlite").path == Path("here.sqlite")
    assert cache(url="redis+sentinel://a:1,b:2/main/0").url == "redis+sentinel://a:1,b:2/main/0"
    assert cache(enabled=False, path="").path is None


def test_what_is_printed_can_be_read_back() -> None:
    printed = load_settings(None, {}, {"cache.url": "redis://cache:6379/0"}).redacted()["cache"]
    assert cache(**printed) == cache(url="redis://cache:6379/0")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"url": "http://cache"}, r"cache\.url = 'http://cache': expected redis://host:port/database"),
        ({"url": "redis://"}, r"cache\.url = 'redis://': expected redis://"),
        ({"url": "cache:6379"}, "expected redis://host:port/database, or rediss:// for TLS"),
        ({"url": "redis+sentinel://a:1,b:2"}, r"expected redis\+sentinel://host:port,host:port/service/database"),
        ({"path": ""}, r"cache: path is empty and there is no url; for no cache, set cache\.enabled = false"),
        ({"password": "s3cret"}, r"cache: password is for cache\.url, which is not set"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        cache(**values)
    assert "s3cret" not in str(caught.value)


def test_passwords_are_known_to_those_who_must_not_print_them() -> None:
    settings = load_settings(
        None, {"STREAMER_CACHE__PASSWORD": "first"}, {"cache.url": "redis://user:wor%40d@cache:6379/0"}
    )
    assert settings.secrets() == ["first", "wor@d"]
    printed = str(settings.redacted())
    assert "redis://***@cache:6379/0" in printed
    assert "first" not in printed
    assert "d@cache" not in printed
    with pytest.raises(ConfigurationError) as caught:
        cache(url="http://user:wor%40d@cache")
    assert "d@cache" not in str(caught.value)
