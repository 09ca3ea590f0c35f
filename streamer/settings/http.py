"""The section [http]: where the roles listen, and who may call."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from streamer.settings.base import Section

_HOST = re.compile(r"\*|(\.?[^\s:/?#@\[\]\\,*]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?")

_URL = re.compile(r"https?://([^\s:/?#@\[\]\\]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?(/[^\s?#]*)?")


def _listed(value: Any) -> Any:
    """One value, or several separated by commas, as a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class HttpSettings(Section):
    """Where the indexer and the worker listen, and who may call."""

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all, then set a token as well")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="port of the indexer; 0 takes a free one")
    worker_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8081, description="port of the worker's /healthz, /readyz and /metrics; 0 takes a free one"
    )
    token: SecretStr | None = Field(
        None,
        description="everything but /healthz and the status of /readyz needs it as Authorization: Bearer; set it in "
        "the environment",
    )
    allowed_hosts: Annotated[list[str], BeforeValidator(_listed)] = Field(
        [],
        examples=[["search.example.com"]],
        description="names, besides localhost and http.host, that may call the indexer: host, host:port, .domain, *",
    )

    workers: Annotated[list[str] | None, BeforeValidator(_listed)] = Field(
        None,
        examples=[["http://10.0.0.5:8081", "http://10.0.0.6:8081"]],
        description="addresses of the workers whose numbers the indexer's dashboard shows; default: the one on this "
        "machine, at http.worker_port. The token is sent only to workers that are listed",
    )

    @field_validator("workers")
    @classmethod
    def _workers_have_addresses(cls, workers: list[str] | None) -> list[str] | None:
        for worker in workers or ():
            if not _URL.fullmatch(worker):
                raise ValueError(f"{worker!r} is no address; write http://host:port, without user and password")
        return None if workers is None else [worker.rstrip("/") for worker in workers]

    @field_validator("token")
    @classmethod
    def _token_can_be_sent(cls, token: SecretStr | None) -> SecretStr | None:
        value = "" if token is None else token.get_secret_value()
        if token is not None and not value.strip():
            raise ValueError("an empty token would let everybody in; leave it out, or set one")
        if value != value.strip() or not value.isprintable():
            raise ValueError("a token must not begin or end with white space, nor contain control characters")
        return token

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts_are_hosts(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            if not _HOST.fullmatch(host):
                raise ValueError(
                    f"{host!r} is no host; write search.example.com, search.example.com:8443, .example.com for all "
                    "names below it, or * for every name"
                )
        return hosts
