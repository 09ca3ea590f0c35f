"""How a service is reached: where, with which key, for how long. What a person got wrong about it is said at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import httpx

from streamer.adapters.providers.answer_size import ask_for_zlib, bounding
from streamer.core.vendors import CALLS_AT_ONCE, VENDORS, is_of_vendor
from streamer.errors import ConfigurationError

CONNECT_SECONDS = 5.0

# Vendors' clients hide responses. A hook of their HTTP client leaves them here, in the context of the task that calls.
_RESPONSES: ContextVar[list[httpx.Response]] = ContextVar("responses")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConnection:
    """`base_url` None is the vendor's own address. `timeout_seconds` bounds one call, its whole answer included."""

    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    timeout_seconds: float = 60.0
    max_connections: int = CALLS_AT_ONCE

    def key(self, vendor: str, variable: str) -> str:
        """The key without surrounding white space. ConfigurationError when it is missing or no header could carry it.

        Checked here because an HTTP library that refuses a header quotes it. `variable`: where a key for the vendor's
        own address comes from.
        """
        key = (self.api_key or "").strip()
        if not key and self.is_of(vendor):
            raise ConfigurationError(f"{vendor} needs an API key: set {variable} in the environment")
        if not key:
            raise ConfigurationError(f"{vendor} needs an API key; {how_to_give_a_key(vendor)}")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigurationError(f"the API key for {vendor} ({variable}) holds characters that no key has")
        return key

    def is_of(self, vendor: str) -> bool:
        """Whether it is the vendor's own address."""
        return self.base_url is None or is_of_vendor(vendor, self.base_url)

    def url(self, default: str = "") -> str:
        """The address as it is. ConfigurationError when it is not one that an HTTP client can open."""
        url = default if self.base_url is None else self.base_url
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            shown = url.rpartition("@")[2]  # without a user and password
            raise ConfigurationError(f"base_url must look like https://host:port/path, not {shown!r}")
        return url

    def bounds(
        self, library: ModuleType, *, request: Sequence[Any] = (), response: Sequence[Any] = ()
    ) -> dict[str, Any]:
        """`timeout`, `limits` and `event_hooks`, which bound answers, for a client of `library`: httpx, or the
        continuation that openai uses. `request` and `response`: hooks of its own."""
        return {
            "event_hooks": {"request": [ask_for_zlib, *request], "response": [bounding(library), *response]},
            "timeout": library.Timeout(self.timeout_seconds, connect=min(CONNECT_SECONDS, self.timeout_seconds)),
            "limits": library.Limits(
                max_connections=self.max_connections, max_keepalive_connections=self.max_connections
            ),
        }


def how_to_give_a_key(vendor: str) -> str:
    """What a person may do for a server that is not the vendor's own."""
    variable = VENDORS[vendor].key_variable
    return (
        f"{variable} is for {VENDORS[vendor].key_hosts[0]} alone; for this base_url set STREAMER_PROVIDER__API_KEY, or "
        f'name a variable: provider.api_key_env = "{variable}"'
    )


def checked_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """The extra headers. ConfigurationError when one cannot be sent; its value, perhaps a secret, is not quoted."""
    for name, value in (headers or {}).items():
        if not value.isascii() or not value.isprintable():
            raise ConfigurationError(f"the value of the header {name} holds characters that a header cannot carry")
    return dict(headers or {})


def kept_responses() -> list[httpx.Response]:
    """A list that holds the responses to what this task asks for from now on, where `keep_response` is the hook."""
    responses: list[httpx.Response] = []
    _RESPONSES.set(responses)
    return responses


async def keep_response(response: httpx.Response) -> None:
    _RESPONSES.get().append(response)
