"""Field case R5: addresses in text, without what nobody else may know."""

from __future__ import annotations

import pytest

from streamer.errors import redacted, without_credentials


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:secret@host:8443/v1", "https://***@host:8443/v1"),
        ("http://secret@host", "http://***@host"),
        ("http://user:s:ec@ret@host/a@b", "http://***@host/a@b"),
        ("redis://:secret@host:6379/0", "redis://***@host:6379/0"),
        (
            "proxy http://u:secret@p:3128 refused, and HTTPS://u:secret@q",
            "proxy http://***@p:3128 refused, and HTTPS://***@q",
        ),
        ("https://host/v1?api_key=secret&version=2", "https://host/v1?api_key=***&version=2"),
        ("https://host/?x=1&X-Amz-Signature=secret#top", "https://host/?x=1&X-Amz-Signature=***#top"),
        ("('https://u:secret@host/v1',)", "('https://***@host/v1',)"),
    ],
)
def test_r5_what_is_secret_in_an_address_is_stars(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
    assert redacted({"a": [text, {"b": text}], "c": 1}) == {"a": [shown, {"b": shown}], "c": 1}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://host:8443/v1",
        "mail@example.com",
        "a@b: c://d",
        "https://host/a@b",
        "id=topic-1",
        "x?y=1",
        "50% = half",
    ],
)
def test_r5_other_text_stays_as_it_is(text: str) -> None:
    assert without_credentials(text) == text
