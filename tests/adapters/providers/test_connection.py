"""What is refused before a service is called: keys, headers and addresses that cannot work."""

from __future__ import annotations

import pytest

from streamer.adapters.providers.connection import HttpConnection, checked_headers
from streamer.errors import ConfigurationError
from tests.support.vendors.services import KEY


def test_a_missing_or_broken_key_is_refused_without_showing_it():
    assert HttpConnection(api_key=f" {KEY}\n").key("acme", "ACME_API_KEY") == KEY
    for missing in (None, "", " \n"):
        with pytest.raises(ConfigurationError, match="ACME_API_KEY"):
            HttpConnection(api_key=missing).key("acme", "ACME_API_KEY")
    for broken in (f"{KEY}\n{KEY}", f"{KEY} {KEY}", f"{KEY}é", f"{KEY}\0"):
        with pytest.raises(ConfigurationError) as caught:
            HttpConnection(api_key=broken).key("acme", "ACME_API_KEY")
        assert KEY not in str(caught.value)


def test_headers_that_cannot_be_sent():
    assert checked_headers({"x-team": "a"}) == {"x-team": "a"}
    with pytest.raises(ConfigurationError, match="x-team") as caught:
        checked_headers({"x-team": "secret\r\nx-evil: 1"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host", "http://", "http://host:99999", "http://[::1"])
def test_urls_that_cannot_be_opened(url):
    with pytest.raises(ConfigurationError, match="base_url"):
        HttpConnection(base_url=url).url()


def test_a_broken_url_is_shown_without_its_password():
    with pytest.raises(ConfigurationError) as caught:
        HttpConnection(base_url="ftp://user:secret@host").url()
    assert "secret" not in str(caught.value)
