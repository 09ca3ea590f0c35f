"""What both roles serve over HTTP, as the settings want it."""

from __future__ import annotations

import structlog

from streamer.http.callers import AllowedHosts, is_loopback
from streamer.settings import Settings

log = structlog.get_logger(__name__)


def token_of(settings: Settings) -> str | None:
    token = settings.http.token
    return token.get_secret_value() if token else None


def allowed_hosts(settings: Settings) -> AllowedHosts:
    return AllowedHosts(settings.http.host, settings.http.allowed_hosts)


def warn_if_open(settings: Settings, what: str) -> None:
    """Say so where other machines may ask without a token. `what` they get."""
    http = settings.http
    if http.token is None and not is_loopback(http.host):
        log.warning("http.token is not set: whoever reaches this port is let in", host=http.host, shows=what)
