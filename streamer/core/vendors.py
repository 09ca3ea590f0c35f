"""Whose models can be used, as data: one row a vendor.

One more vendor takes a row here and its name in the settings' `ProviderName`, rows of its models in
`embedding/contracts.py`, an adapter, and a branch in `app/providers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

CALLS_AT_ONCE: Final = 8  # open calls to a remote provider that says nothing about it


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorRow:
    """`default_model`: what a user gets who names the vendor and nothing else. `key_variable`: the vendor's own
    environment variable for its key, empty where there is none. `concurrency`: the most calls open at once, unless set
    otherwise.

    `is_local`: the model runs in this process. So it takes any number of texts and groups them itself, and no other way
    leads to it.
    """

    name: str
    default_model: str
    key_variable: str = ""
    concurrency: int = CALLS_AT_ONCE
    is_local: bool = False


_ROWS: Final = (
    VendorRow(name="onnx", default_model="all-MiniLM-L6-v2", concurrency=1, is_local=True),
    VendorRow(name="sentence-transformers", default_model="all-MiniLM-L6-v2", concurrency=1, is_local=True),
    VendorRow(name="openai", default_model="text-embedding-3-small", key_variable="OPENAI_API_KEY"),
    VendorRow(name="cohere", default_model="embed-v4.0", key_variable="COHERE_API_KEY"),
    VendorRow(name="voyage", default_model="voyage-3.5", key_variable="VOYAGE_API_KEY"),
    VendorRow(name="ollama", default_model="nomic-embed-text", key_variable="OLLAMA_API_KEY"),
)
VENDORS: Final[Mapping[str, VendorRow]] = {row.name: row for row in _ROWS}


def calls_at_once(provider: str) -> int:
    """The most calls open at once to a provider of the table, or to a user's own."""
    return VENDORS[provider].concurrency if provider in VENDORS else CALLS_AT_ONCE
