"""Who may call: programs, and pages of this server. A page of another site must neither read the index nor search it.

Two attacks are refused. A page of a foreign site sends a request to this server from its visitor's browser: the browser
names the page in `Origin`. A page lets its own host name point to this server (DNS rebinding), which makes it the same
origin: the browser names the page's host in `Host`. No page chooses these two headers. Besides, JSON is a content type
that a page cannot send to another site without asking first.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from streamer.http.answers import json_response

# Probes and scrapers come by the address of a pod, by the name of a service, or by whatever their cluster calls it.
# These answers hold neither texts nor ids, and cost nothing.
FOR_PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})

_AUTHORITY: Final = re.compile(r"(?P<host>\[[0-9a-f:.]+(?:%[\w.~%-]+)?\]|[^\s:/?#@\[\]\\,]+)(?::(?P<port>\d{1,5}))?")
_ORIGIN: Final = re.compile(r"(?P<scheme>https?)://(?P<authority>\S+)")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class Authority:
    """A host in lower case, without brackets and trailing dot, and a port where one was given."""

    host: str
    port: str | None

    @property
    def is_address(self) -> bool:
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True


def parse_authority(text: str) -> Authority | None:
    """`host` or `host:port` as in a Host header; None for anything else."""
    found = _AUTHORITY.fullmatch(text.lower())
    if found is None:
        return None
    return Authority(found["host"].removesuffix(".").strip("[]"), found["port"])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class AllowedHosts:
    """What this server may be called: addresses, loopback's names, the name that it is bound to, and `more`.

    An address needs no permission: a browser that sends one has connected to it, so no name was rebound. `more`:
    `host`, `host:port`, `.domain` for every name below a domain, or `*`.
    """

    def __init__(self, bound: str, more: Collection[str] = ()) -> None:
        self._any = "*" in more
        self._domains = tuple(name.lower() for name in more if name.startswith("."))
        names = [parse_authority(name) for name in more if name != "*" and not name.startswith(".")]
        self._named = [Authority("localhost", None), Authority(bound.lower().removesuffix("."), None)]
        self._added = [name for name in names if name is not None]

    def is_host(self, given: Authority) -> bool:
        """Whether a Host header may name it."""
        return (
            self._any
            or given.is_address
            or given.host.endswith(".localhost")  # browsers never look these names up
            or any(given.host == name.host for name in self._named)
            or self._is_added(given)
        )

    def is_origin(self, origin: str, host: Authority) -> bool:
        """Whether pages of `origin` may send requests to `host`: its own, and those of added hosts."""
        found = _ORIGIN.fullmatch(origin.lower())
        page = parse_authority(found["authority"]) if found else None
        if found is None or page is None:
            return False  # "null", as of a file or a sandboxed frame, is everybody's
        port = page.port or _DEFAULT_PORTS[found["scheme"]]
        # The scheme is not compared: behind a proxy that ends TLS, the page is of https and this server of http.
        return self._any or self._is_added(page) or (page.host == host.host and port in _ports(host))

    def _is_added(self, given: Authority) -> bool:
        return given.host.endswith(self._domains or ("\0",)) or any(
            given.host == name.host and name.port in (None, given.port) for name in self._added
        )


def _ports(host: Authority) -> Collection[str]:
    return (host.port,) if host.port else tuple(_DEFAULT_PORTS.values())


class Callers:
    """Refuses requests that a foreign page may have made, with 403, except to FOR_PROBES."""

    def __init__(self, app: ASGIApp, allowed: AllowedHosts) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in FOR_PROBES:
            reason = self._refusal(Headers(scope=scope))
            if reason is not None:
                await json_response({"error": reason}, 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> str | None:
        named = headers.getlist("host")
        host = parse_authority(named[0]) if len(named) == 1 else None
        if host is None or not self._allowed.is_host(host):
            shown = ", ".join(named)[:100]
            return (
                f"this server is not known as {shown!r} (the request's Host): a page of another site may have sent "
                "this. Where the name is right, add it to http.allowed_hosts"
            )
        for origin in headers.getlist("origin"):
            if not self._allowed.is_origin(origin, host):
                return (
                    f"pages of {origin[:100]!r} (the request's Origin) may not call this server. Where they should, "
                    "add their host to http.allowed_hosts"
                )
        return None


def is_json(content_type: str) -> bool:
    """Whether it is JSON's media type. Anything else, and nothing, is what any page can send to any server."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))
