"""The section `[index]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from streamer.settings.base import OptionalPath, Positive, Section


class IndexSettings(Section):
    """What the indexer remembers and how it judges."""

    backend: Literal["memory", "milvus"] = Field(
        "memory", description="where vectors are kept: in the indexer's memory, or in Milvus. Extra: milvus"
    )
    capacity: Positive = Field(200_000, description="vectors that are kept; the oldest are evicted first")
    window_seconds: Annotated[float, Field(gt=0)] | None = Field(
        None, examples=[86_400], description="events expire this long after their record's timestamp; default: never"
    )
    near_duplicate_similarity: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = Field(
        "auto", description="a cosine from 0 to 1, or auto: calibrated on the stream and on the words that texts share"
    )
    near_duplicate_numbers: Literal["matter", "ignore"] = Field(
        "matter", description="ignore: texts that differ in nothing but their numbers are near-duplicates, as log lines"
    )
    false_alarm_rate: Annotated[float, Field(ge=0.0001, le=0.5)] = Field(
        0.01, description="share of ordinary events that may be called anomalies"
    )
    neighbors: Annotated[int, Field(ge=1, le=100)] = Field(5, description="nearest events listed in a verdict")
    snapshot_path: OptionalPath = Field(
        Path("streamer-index.snapshot"), description='a restart resumes from this file; one per indexer; "" for none'
    )
    snapshot_interval_seconds: Annotated[float, Field(ge=1)] = Field(
        300.0, description="between two snapshots; one more is written at a clean stop"
    )
    milvus_uri: str = Field(
        "streamer-index.db",
        examples=["http://milvus.internal:19530"],
        description='with backend = "milvus": the address of a server or cluster, or the path of a file that the '
        "indexer opens itself (Milvus Lite)",
    )
    milvus_token: SecretStr | None = Field(None, description="user:password, or an API key, for Milvus")
    milvus_collection: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")] = Field(
        "streamer", description="how the names of the collections begin; the vector space follows"
    )
    milvus_index_type: Literal["FLAT", "HNSW", "AUTOINDEX"] = Field(
        "FLAT",
        description="of a new collection: FLAT compares with all vectors; HNSW and AUTOINDEX are faster and overlook "
        "some",
    )
    milvus_timeout_ms: Positive = Field(
        10_000, description="how long Milvus may take for one call; a file at least a minute"
    )

    @field_validator("milvus_uri")
    @classmethod
    def _is_a_path_or_an_address(cls, uri: str) -> str:
        parts = urlsplit(uri)
        if "://" in uri:
            if parts.scheme not in ("http", "https", "tcp", "unix") or not (parts.hostname or parts.scheme == "unix"):
                raise ValueError("expected http://host:port, https://host:port, or the path of a file")
        elif not uri.endswith(".db"):
            raise ValueError("the path of a file must end in .db; an address begins with http:// or https://")
        return uri
