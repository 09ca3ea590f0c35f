"""The section `[cache]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from streamer.settings.base import OptionalPath, Positive, Section


class CacheSettings(Section):
    """Vectors that are kept: what was embedded once is not paid for again."""

    enabled: bool = Field(True, description="keep vectors, so that no text is paid for twice")
    path: OptionalPath = Field(
        Path("streamer-cache.sqlite"),
        description="the cache file, in the working directory unless it is a full path; the processes on one machine "
        "share it. With cache.url there is a file only where this is set",
    )
    url: str | None = Field(
        None,
        examples=["redis://cache.internal:6379/0"],
        description="a Redis or Valkey server or cluster that the workers of all machines share, for vectors and for "
        "the limits of the provider; rediss:// for TLS, redis+sentinel://host:port,host:port/service/database for a "
        "server that sentinels name. Extra: redis",
    )
    password: SecretStr | None = Field(None, description="password for cache.url; set it in the environment")
    ttl_seconds: Annotated[float, Field(gt=0)] | None = Field(
        None, examples=[2_592_000], description="entries expire after this time; default: never"
    )
    max_bytes: Positive | None = Field(
        10_000_000_000,
        description="size cap of the file; the least recently used entries are evicted first. A server of cache.url "
        "has its own: maxmemory",
    )

    memory_bytes: Annotated[int, Field(ge=0)] = Field(
        64_000_000,
        description="vectors that were used in the last minute are kept in memory as well, in so many bytes at most; "
        "0: none",
    )

    @model_validator(mode="before")
    @classmethod
    def _a_file_beside_a_server_is_asked_for(cls, values: Any) -> Any:
        return {"path": None, **values} if isinstance(values, dict) and values.get("url") else values

    @field_validator("url")
    @classmethod
    def _url_is_of_a_server(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme in ("redis+sentinel", "rediss+sentinel"):
            if not parts.hostname or not parts.path.strip("/"):
                raise ValueError("expected redis+sentinel://host:port,host:port/service/database")
        elif parts.scheme not in ("redis", "rediss", "unix") or not (parts.hostname or parts.scheme == "unix"):
            raise ValueError("expected redis://host:port/database, or rediss:// for TLS")
        return url

    @model_validator(mode="after")
    def _there_is_a_place(self) -> CacheSettings:
        if self.enabled and self.path is None and self.url is None:
            raise ValueError("path is empty and there is no url; for no cache, set cache.enabled = false")
        if self.password is not None and self.url is None:
            raise ValueError("password is for cache.url, which is not set")
        return self


def password_in(url: str | None) -> set[str]:
    """The password that an address holds, if it holds one."""
    password = urlsplit(url).password if url else None
    return {unquote(password)} if password else set()
