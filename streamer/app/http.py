"""What both roles serve over HTTP, as the settings want it."""

from __future__ import annotations

import structlog

from streamer.core.vectors import Space
from streamer.http.callers import AllowedHosts, is_loopback
from streamer.settings import Settings
from streamer.version import version

log = structlog.get_logger(__name__)


def token_of(settings: Settings) -> str | None:
    token = settings.http.token
    return token.get_secret_value() if token else None


def allowed_hosts(settings: Settings) -> AllowedHosts:
    return AllowedHosts(settings.http.host, settings.http.allowed_hosts)


def workers_of(settings: Settings) -> list[tuple[str, str | None]]:
    """The addresses of the workers to ask, each with the token to send. The one that nobody named gets none: whoever
    else listens there would learn it."""
    http = settings.http
    if http.workers is not None:
        return [(url, token_of(settings)) for url in http.workers]
    return [(f"http://127.0.0.1:{http.worker_port}", None)] if http.worker_port else []


def build_info(role: str, space: Space) -> dict[str, str]:
    """What is running, as the labels of a metric."""
    return {
        "role": role, "version": version(), "provider": space.provider, "model": space.model, "space": space.id,
    }  # fmt: skip


def warn_if_open(settings: Settings, what: str) -> None:
    """Say so where other machines may ask without a token. `what` they get."""
    http = settings.http
    if http.token is None and not is_loopback(http.host):
        log.warning("http.token is not set: whoever reaches this port is let in", host=http.host, shows=what)
