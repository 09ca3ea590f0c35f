"""Whose models can be used, as data: one row a vendor.

One more vendor takes a row here and its name in the settings' `ProviderName`, rows of its models in
`embedding/contracts.py`, an adapter, and a branch in `app/providers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

AZURE_KEY_VARIABLE: Final = "AZURE_OPENAI_API_KEY"
CALLS_AT_ONCE: Final = 8  # open calls to a remote provider that says nothing about it


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorRow:
    """`default_model`: what a user gets who names the vendor and nothing else, empty where a folder must be named.
    `default_url`: where it goes without a `base_url`. `key_variable`: the vendor's own environment variable for its
    key, empty where there is none. That key is meant for `key_hosts` and what is below them, and for no other server.
    `concurrency`: the most calls open at once, unless set otherwise.

    `is_local`: the model runs in this process. So it takes any number of texts and groups them itself, and no other way
    leads to it.
    """

    name: str
    default_model: str
    key_variable: str = ""
    key_hosts: tuple[str, ...] = ()
    default_url: str = ""
    concurrency: int = CALLS_AT_ONCE
    is_local: bool = False


_ROWS: Final = (
    VendorRow(name="onnx", default_model="all-MiniLM-L6-v2", concurrency=1, is_local=True),
    VendorRow(name="sentence-transformers", default_model="all-MiniLM-L6-v2", concurrency=1, is_local=True),
    VendorRow(name="static", default_model="", concurrency=1, is_local=True),
    VendorRow(
        name="openai",
        default_model="text-embedding-3-small",
        key_variable="OPENAI_API_KEY",
        key_hosts=("openai.com",),
        default_url="https://api.openai.com/v1",
    ),
    VendorRow(
        name="cohere",
        default_model="embed-v4.0",
        key_variable="COHERE_API_KEY",
        key_hosts=("cohere.com", "cohere.ai"),
        default_url="https://api.cohere.com",
    ),
    VendorRow(
        name="voyage",
        default_model="voyage-3.5",
        key_variable="VOYAGE_API_KEY",
        key_hosts=("voyageai.com",),
        default_url="https://api.voyageai.com/v1",
    ),
    VendorRow(
        name="ollama",
        default_model="nomic-embed-text",
        key_variable="OLLAMA_API_KEY",
        key_hosts=("ollama.com",),
        default_url="http://localhost:11434",
    ),
)
VENDORS: Final[Mapping[str, VendorRow]] = {row.name: row for row in _ROWS}


def calls_at_once(provider: str) -> int:
    """The most calls open at once to a provider of the table, or to a user's own."""
    return VENDORS[provider].concurrency if provider in VENDORS else CALLS_AT_ONCE


def key_variable(provider: str, base_url: object, *, is_azure: bool = False) -> str | None:
    """The variable whose key is meant for this server without a word about it; None when there is none.

    `base_url` None is the vendor's own address.
    """
    if is_azure:
        return AZURE_KEY_VARIABLE
    row = VENDORS.get(provider)
    if row is None or not row.key_variable:
        return None
    url = base_url if isinstance(base_url, str) else row.default_url
    return row.key_variable if is_of_vendor(provider, url) else None


def is_of_vendor(provider: str, url: str) -> bool:
    """Whether this address belongs to the vendor, so that the key in the vendor's own variable is meant for it."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return False
    hosts = VENDORS[provider].key_hosts if provider in VENDORS else ()
    return parts.scheme == "https" and any(host == own or host.endswith(f".{own}") for own in hosts)
