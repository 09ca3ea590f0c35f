"""Which workers the dashboard asks."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.app.http import workers_of
from streamer.errors import ConfigurationError
from streamer.settings import load_settings


def workers(**overrides: Any) -> list[tuple[str, str | None]]:
    given = {f"http.{name}": value for name, value in overrides.items()}
    return workers_of(load_settings(environ={}, overrides=given))


def test_by_default_it_is_the_one_on_this_machine_and_it_learns_no_token() -> None:
    assert workers(token="secret") == [("http://127.0.0.1:8081", None)]
    assert workers(worker_port=9000) == [("http://127.0.0.1:9000", None)]
    assert workers(worker_port=0) == [], "its port is not known"


def test_those_that_are_listed_get_the_token() -> None:
    listed = workers(workers="http://a:8081/, https://[::1]:8081", token="secret")
    assert listed == [("http://a:8081", "secret"), ("https://[::1]:8081", "secret")]
    assert workers(workers=[]) == []


@pytest.mark.parametrize(
    "address", ["a:8081", "ftp://a", "http://u:p@a", "http://", "http://a b", "file:///etc", "http://a?x"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="write http://host:port"):
        workers(workers=[address])
