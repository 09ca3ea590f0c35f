"""What can be set: sections, keys, defaults and what excludes what."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from streamer.errors import redacted
from streamer.settings.base import Positive, Section
from streamer.settings.cache import CacheSettings, password_in
from streamer.settings.http import HttpSettings
from streamer.settings.index import IndexSettings
from streamer.settings.provider import ProviderSettings


class KafkaSettings(Section):
    """The brokers and what is common to all clients."""

    bootstrap_servers: str = Field("127.0.0.1:9092", description="brokers as host:port, several separated by commas")
    group_id: str = Field("streamer", description="consumer group of the workers; the indexer adds '-verdicts'")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how clients connect; the SASL ones need sasl_username and sasl_password"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, examples=["SCRAM-SHA-512"], description="how clients log in, with a SASL security_protocol"
    )
    sasl_username: str | None = Field(None, examples=["streamer"], description="user name for SASL")
    sasl_password: SecretStr | None = Field(None, description="password for SASL; set it in the environment")
    ssl_cafile: str | None = Field(
        None, examples=["/etc/kafka/ca.pem"], description="PEM file with the CA that signed the brokers' certificates"
    )
    ssl_certfile: str | None = Field(
        None, examples=["/etc/kafka/client.pem"], description="PEM file with this client's certificate, for mutual TLS"
    )
    ssl_keyfile: str | None = Field(
        None, examples=["/etc/kafka/client.key"], description="PEM file with the key of ssl_certfile"
    )
    create_topics: bool = Field(
        True, description="create missing output topics at start; for input topics: streamer topics --create"
    )
    partitions: Positive = Field(4, description="partitions of each topic that streamer creates; dead letters get one")
    replication_factor: Positive = Field(1, description="copies of each topic that streamer creates")
    idempotent: bool = Field(True, description="use the idempotent producer; the embedded broker has none")
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        "none", description="compression of what streamer publishes"
    )
    max_message_bytes: Positive = Field(
        1_000_000, description="largest message to publish; keep it below max.message.bytes of the topics"
    )
    session_timeout_ms: Annotated[int, Field(ge=1_000, le=300_000)] = Field(
        45_000, description="the group gives up a silent worker after this time; most brokers allow 6 s to 30 min"
    )
    fetch_max_wait_ms: Positive = Field(500, description="how long the broker may hold a fetch that finds nothing new")
    connect_timeout_ms: Positive = Field(15_000, description="how long to look for a broker at start (exit code 3)")
    isolation_level: Literal["read_uncommitted", "read_committed"] | None = Field(
        None,
        examples=["read_committed"],
        description="for everything that is read; default: read_committed with delivery.guarantee = exactly-once, "
        "else read_uncommitted",
    )
    group_instance_id: str | None = Field(
        None,
        min_length=1,
        examples=["worker-1"],
        description="static membership: a restart within session_timeout_ms moves no partition, but the partitions of "
        "a worker that stays away wait that long. One id per process: two of the same evict each other in turn",
    )

    @field_validator("bootstrap_servers")
    @classmethod
    def _brokers_have_no_scheme(cls, servers: str) -> str:
        if "@" in servers or "/" in servers:
            raise ValueError(
                "write host:port, several separated by commas; user and password are sasl_username and sasl_password"
            )
        return servers

    @model_validator(mode="after")
    def _sasl_is_complete(self) -> KafkaSettings:
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise ValueError(f"security_protocol {self.security_protocol} needs sasl_username and sasl_password")
        return self


class TopicSettings(Section):
    """Topic names. Vectors, verdicts and dead letters are three topics, none of them an input."""

    input: str | list[str] = Field(
        "texts",
        description="where texts come from: a topic, a list of topics, or a regular expression that begins with ^",
    )
    vectors: str = Field("vectors", description="where workers publish vectors, and what the indexer reads")
    verdicts: str = Field("verdicts", description="where the indexer publishes verdicts")
    dead_letters: str = Field("dead-letters", description="where workers publish what cannot become a vector")
    migrations: str = Field(
        "streamer-migrations", description="where changes of the model are written down; see streamer migrate"
    )

    @model_validator(mode="after")
    def _outputs_are_not_inputs(self) -> TopicSettings:
        outputs = [self.vectors, self.verdicts, self.dead_letters]
        if len(set(outputs)) < len(outputs):
            raise ValueError(f"vectors, verdicts and dead_letters must be three topics, not {outputs}")
        outputs.append(self.migrations)
        pattern = self.pattern
        if pattern:
            clash = [name for name in outputs if pattern.match(name)]
        else:
            clash = [name for name in outputs if name in self.inputs]
        if clash:
            raise ValueError(f"input would read its own output topic {clash[0]!r}")
        return self

    @property
    def pattern(self) -> re.Pattern[str] | None:
        if not (isinstance(self.input, str) and self.input.startswith("^")):
            return None
        try:
            return re.compile(self.input)
        except re.error as exc:
            raise ValueError(f"input is not a regular expression: {exc}") from exc

    @property
    def inputs(self) -> list[str]:
        """The input topics by name; empty for a pattern."""
        if isinstance(self.input, list):
            return self.input
        return [] if self.pattern else [self.input]


class InputSettings(Section):
    """Where the text is in a record, and what to do with one that is too long."""

    format: Literal["auto", "json", "text"] = Field(
        "auto", description="what values are: auto tells JSON objects from plain text; json and text insist"
    )
    text_field: str = Field(
        "text", min_length=1, description="path of the text in a JSON object; dots reach inside, as in body.text"
    )
    id_field: str | None = Field(
        None,
        min_length=1,
        examples=["id"],
        description="path of the event id in a JSON object; default: the record key, else topic-partition-offset",
    )
    key_field: str | None = Field(
        None,
        min_length=1,
        examples=["payload.id"],
        description="path of the event id inside a JSON record key, so that a tombstone, which has nothing else, finds "
        "its event; default: the whole key",
    )
    on_too_long: Literal["truncate", "chunk", "reject"] = Field(
        "truncate",
        description="a text longer than the model reads is cut and flagged, embedded in pieces (one vector, their "
        "mean), or dead-lettered",
    )


class BatchSettings(Section):
    """How events are gathered into micro-batches, and how many may be in flight."""

    max_events: Positive = Field(512, description="a micro-batch is cut at so many events")
    max_bytes: Positive = Field(1_000_000, description="a micro-batch is cut at so many bytes of input")
    linger_ms: Annotated[float, Field(ge=0, le=60_000)] = Field(
        25, description="a micro-batch is cut so long after its first event; longer means fewer, larger requests"
    )
    max_in_flight_events: Positive = Field(
        4_000,
        description="events per partition between read and acknowledged; at the limit intake pauses, as it does at "
        "half of it between acknowledged and committed (at least once)",
    )
    max_in_flight_bytes: Positive = Field(
        16_000_000, description="bytes per partition between read and acknowledged; at the limit intake pauses"
    )


class OutputSettings(Section):
    """What vector events look like."""

    format: Literal["json", "binary"] = Field(
        "json", description="vector events as JSON, or as bare float32 with everything else in headers"
    )
    include_text: bool = Field(
        True,
        description="send the text along, so that search and tail can show it; it is then in the vector topic and in "
        "the index's memory and snapshot. A text is left out where the event would be too large with it",
    )
    include_metadata: bool = Field(True, description="send along what else the input's JSON object holds")


class DeliverySettings(Section):
    """What is guaranteed, and how often offsets are committed."""

    guarantee: Literal["at-least-once", "exactly-once"] = Field(
        "at-least-once",
        description="exactly-once publishes in transactions, for consumers with read_committed; needs Apache Kafka",
    )
    commit_interval_ms: Positive = Field(
        1_000, description="between two commits of offsets; with exactly-once, the length of a transaction"
    )
    drain_timeout_ms: Annotated[int, Field(gt=0, le=25_000)] = Field(
        18_000,
        description="how long a rebalance or a stop waits for what is in flight; must fit into the 30 s that the group "
        "waits for a member",
    )


class LogSettings(Section):
    """What is logged, and how."""

    format: Literal["auto", "console", "json"] = Field(
        "auto", description="how lines look; auto: console on a terminal, JSON lines elsewhere"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least important lines that are written"
    )
    include_texts: bool = Field(
        False, description="let lines quote records, texts and the libraries' own debug lines; for finding faults only"
    )


class Settings(Section):
    """Everything a process needs to know, checked. Build it with `load_settings`."""

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    input: InputSettings = InputSettings()
    batch: BatchSettings = BatchSettings()
    provider: ProviderSettings = ProviderSettings()
    cache: CacheSettings = CacheSettings()
    output: OutputSettings = OutputSettings()
    delivery: DeliverySettings = DeliverySettings()
    index: IndexSettings = IndexSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()

    @property
    def isolation_level(self) -> str:
        """What consumers read: "read_committed" with exactly-once delivery, unless kafka.isolation_level is set."""
        exactly_once = self.delivery.guarantee == "exactly-once"
        return self.kafka.isolation_level or ("read_committed" if exactly_once else "read_uncommitted")

    def redacted(self) -> dict[str, Any]:
        """All effective values, secrets as stars: fit to be printed."""
        shown: dict[str, Any] = redacted(self.model_dump(mode="json"))
        return shown

    def secrets(self) -> list[str]:
        """The values of all secrets, which nothing may print."""
        return sorted(_secrets_in(self) | password_in(self.cache.url) | password_in(self.index.milvus_uri))


def _secrets_in(value: Any) -> set[str]:
    if isinstance(value, SecretStr):
        return {value.get_secret_value()}
    if isinstance(value, BaseModel):
        return set().union(*(_secrets_in(getattr(value, name)) for name in type(value).model_fields))
    if isinstance(value, dict):
        return set().union(*map(_secrets_in, value.values()))
    if isinstance(value, list):
        return set().union(*map(_secrets_in, value))
    return set()
