"""A server that sentinels name: which one it is may change at any moment, and each new connection asks them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from streamer.errors import MissingExtra

try:
    from redis.asyncio import Redis
    from redis.asyncio.connection import parse_url
    from redis.asyncio.sentinel import Sentinel
except ImportError as exc:
    raise MissingExtra("redis", "redis") from exc

SCHEMES: Final = ("redis+sentinel", "rediss+sentinel")
PORT: Final = 26379


@dataclass(frozen=True, slots=True)
class Sentinels:
    """`addresses`: of the sentinels; `service`: what they call the server. `server`: options of a connection to it."""

    addresses: tuple[tuple[str, int], ...]
    service: str
    server: dict[str, Any]


def is_by_sentinels(url: str) -> bool:
    return urlsplit(url).scheme in SCHEMES


def sentinels_of(url: str) -> Sentinels:
    """Of `redis+sentinel://user:password@host:port,host:port/service/database?options`. Raises ValueError."""
    parts = urlsplit(url)
    account, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    # What redis-py makes of the rest is what it makes of any address.
    plain = f"{parts.scheme.partition('+')[0]}://{account}{at}server/{database}?{parts.query}"
    options: dict[str, Any] = {**parse_url(plain)}
    del options["host"]
    if options.pop("connection_class", None) is not None:
        options["ssl"] = True
    addresses = tuple(_address(host) for host in hosts.split(",") if host)
    return Sentinels(addresses, unquote(service), options)


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    return parts.hostname or "", parts.port or PORT


def server_of(sentinels: Sentinels, options: dict[str, Any], timeout: float) -> tuple[Redis, list[Redis]]:
    """A client of whichever server the sentinels name, and those of the sentinels, which are to be closed after it.
    `options`: as of any client, in the place of the address's."""
    asking = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "protocol": 2}
    sentinel = Sentinel(sentinels.addresses, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    server: Redis = sentinel.master_for(sentinels.service, **{**sentinels.server, **options})
    return server, list(sentinel.sentinels)
