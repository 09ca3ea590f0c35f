"""Where vectors are kept: what the settings take for a file, an address, or neither."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from streamer.settings import Settings
from streamer.settings.index import IndexSettings


@pytest.mark.parametrize(
    "uri", ["a.db", "/data/index.db", "http://milvus:19530", "https://m.example/path", "unix:/x.db"]
)
def test_files_and_addresses_are_taken(uri: str) -> None:
    assert IndexSettings(milvus_uri=uri).milvus_uri == uri


@pytest.mark.parametrize(
    ("uri", "reason"),
    [("index", "must end in .db"), ("redis://a:1", "expected http://host:port"), ("http://", "expected http://host")],
)
def test_everything_else_is_refused(uri: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        IndexSettings(milvus_uri=uri)


def test_a_name_that_milvus_would_refuse_is_refused_here() -> None:
    with pytest.raises(ValidationError, match="milvus_collection"):
        IndexSettings(milvus_collection="my-collection")


def test_passwords_are_secrets_wherever_they_stand() -> None:
    settings = Settings(index=IndexSettings(milvus_uri="http://user:hid%40den@milvus:1", milvus_token="tok"))
    assert {"hid@den", "tok"} <= set(settings.secrets())
