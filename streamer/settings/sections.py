"""What can be set: sections, keys, defaults and what excludes what."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from streamer.core.redaction import redacted
from streamer.core.vendors import VENDORS

ProviderName = Literal["onnx", "sentence-transformers", "openai", "cohere", "voyage", "ollama"]
Positive = Annotated[int, Field(gt=0)]
_HOST = re.compile(r"\*|(\.?[^\s:/?#@\[\]\\,*]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?")
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]


def _listed(value: Any) -> Any:
    """One value, or several separated by commas, as a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class KafkaSettings(Section):
    bootstrap_servers: str = Field("127.0.0.1:9092", description="host:port, several separated by commas")
    group_id: str = Field("streamer", description="consumer group of the workers; the indexer adds '-verdicts'")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = Field(None, description="from the environment, not from the file")
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    create_topics: bool = Field(True, description="create missing topics at start")
    partitions: Positive = Field(4, description="of topics that are created")
    replication_factor: Positive = Field(1, description="of topics that are created")
    idempotent: bool = Field(True, description="idempotent producer; the embedded broker has none")
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    max_message_bytes: Positive = Field(1_000_000, description="keep below the topics' max.message.bytes")
    session_timeout_ms: Annotated[int, Field(ge=1_000, le=300_000)] = Field(
        45_000, description="a worker that died is missed after this time; most brokers allow 6 s to 30 min"
    )
    fetch_max_wait_ms: Positive = Field(500, description="how long the broker may hold a fetch that finds nothing new")
    connect_timeout_ms: Positive = Field(15_000, description="to find a broker at start, before giving up")
    isolation_level: Literal["read_uncommitted", "read_committed"] | None = Field(
        None, description="of all that is read; default: read_committed with delivery.guarantee = exactly-once"
    )
    group_instance_id: str | None = Field(
        None,
        min_length=1,
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
    input: str | list[str] = Field("texts", description="a topic, a list of topics, or a pattern that begins with ^")
    vectors: str = "vectors"
    verdicts: str = "verdicts"
    dead_letters: str = "dead-letters"

    @model_validator(mode="after")
    def _outputs_are_not_inputs(self) -> TopicSettings:
        outputs = [self.vectors, self.verdicts, self.dead_letters]
        if len(set(outputs)) < len(outputs):
            raise ValueError(f"vectors, verdicts and dead_letters must be three topics, not {outputs}")
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
    format: Literal["auto", "json", "text"] = "auto"
    text_field: str = Field("text", min_length=1, description="path into a JSON object; dots reach inside")
    id_field: str | None = Field(None, min_length=1, description="path of the event id; else the record key")
    on_too_long: Literal["truncate", "chunk", "reject"] = "truncate"


class BatchSettings(Section):
    max_events: Positive = 512
    max_bytes: Positive = 1_000_000
    linger_ms: Annotated[float, Field(ge=0, le=60_000)] = 25
    max_in_flight_events: Positive = Field(4_000, description="per partition, between read and acknowledged")
    max_in_flight_bytes: Positive = Field(16_000_000, description="per partition, between read and acknowledged")


class FallbackSettings(Section):
    """Another way to the same model. What is left out is as in [provider], but never sent to another `base_url`."""

    name: ProviderName | None = Field(None, description="must be that of [provider]: another is another space")
    model: str | None = Field(None, description="must be that of [provider]: another is another space")
    base_url: str | None = None
    api_key: SecretStr | None = None
    api_key_env: str | None = Field(None, description="the environment variable that holds the key")
    azure_api_version: str | None = None
    azure_deployment: str | None = None
    headers: dict[str, SecretStr] = {}

    @model_validator(mode="after")
    def _is_another_way(self) -> FallbackSettings:
        if not (self.base_url or self.api_key or self.azure_deployment or self.headers):
            raise ValueError("an entry needs a base_url, an api_key_env or an azure_deployment of its own")
        return self


class ProviderSettings(Section):
    name: ProviderName = "onnx"
    model: str | None = Field(None, description="the provider's model name; a folder for local models")
    dimensions: Positive | None = Field(None, description="of the model's vectors, where it offers a choice")
    matryoshka: bool | None = Field(None, description="vectors may be cut; for models not in the table")
    reduction: Path | None = Field(None, description="a projection to fewer dimensions: streamer embed --fit-pca")
    max_item_tokens: Positive | None = Field(None, description="tokens of one text; for models not in the table")
    max_items: Positive | None = Field(None, description="texts in one request; for models not in the table")
    max_request_tokens: Positive | None = Field(None, description="tokens in one request")
    base_url: str | None = None
    api_key: SecretStr | None = Field(None, description="from the environment (OPENAI_API_KEY and the like also work)")
    input_type: str | None = None
    query_input_type: str | None = None
    document_prefix: str | None = None
    query_prefix: str | None = None
    max_concurrent_requests: Positive | None = None
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    threads: Positive | None = Field(None, description="of a local model; default: the number of cores")
    device: str | None = Field(None, description="sentence-transformers: cpu, cuda, mps; default: the best there is")
    azure_api_version: str | None = Field(None, description="openai: base_url is an Azure resource")
    azure_deployment: str | None = Field(None, description="openai on Azure: the deployment, if not the model's name")
    headers: dict[str, SecretStr] = Field({}, description="openai: extra request headers of a compatible server")
    encoding_format: Literal["base64", "float"] = Field(
        "base64", description="openai: float for servers that refuse base64"
    )
    keep_alive: str | None = Field(None, description="ollama: how long the model stays loaded, as in 30m")
    fallback: list[FallbackSettings] = Field([], description="other ways to the same model, asked while this one fails")

    @model_validator(mode="after")
    def _has_ways_to_fall_back_on(self) -> ProviderSettings:
        if self.fallback and VENDORS[self.name].is_local:
            raise ValueError(f"{self.name} runs in this process: there is no other way to it, so no fallback")
        return self


class CacheSettings(Section):
    enabled: bool = True
    path: Path = Path("streamer-cache.sqlite")
    ttl_seconds: Annotated[float, Field(gt=0)] | None = None
    max_bytes: Positive | None = Field(10_000_000_000, description="the least recently used entries go first")


class OutputSettings(Section):
    format: Literal["json", "binary"] = "json"
    include_text: bool = False
    include_metadata: bool = True


class DeliverySettings(Section):
    guarantee: Literal["at-least-once", "exactly-once"] = Field(
        "at-least-once", description="exactly-once: in transactions, for consumers that read committed; Apache Kafka"
    )
    commit_interval_ms: Positive = 1_000
    drain_timeout_ms: Annotated[int, Field(gt=0, le=25_000)] = Field(
        18_000, description="must fit into the 30 s that the group waits for a member in a rebalance"
    )


class IndexSettings(Section):
    capacity: Positive = Field(200_000, description="vectors kept in memory; the oldest go first")
    window_seconds: Annotated[float, Field(gt=0)] | None = Field(
        None, description="older events are forgotten, by the times of the records; default: only capacity limits"
    )
    near_duplicate_similarity: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = Field(
        "auto", description="a cosine, or auto: found from the stream and from the words that texts share"
    )
    false_alarm_rate: Annotated[float, Field(ge=0.0001, le=0.5)] = Field(
        0.01, description="share of ordinary events that may be called anomalies"
    )
    neighbors: Annotated[int, Field(ge=1, le=100)] = 5
    snapshot_path: OptionalPath = Field(
        Path("streamer-index.snapshot"), description="what a restart goes on from, a file for each indexer; empty: off"
    )
    snapshot_interval_seconds: Annotated[float, Field(ge=1)] = Field(
        300.0, description="between two snapshots; one more is written at a clean stop"
    )


class HttpSettings(Section):
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8080, description="of the indexer; 0 takes a free one")
    worker_port: Annotated[int, Field(ge=0, le=65535)] = Field(8081, description="of the worker; 0 takes a free one")
    token: SecretStr | None = Field(None, description="all but /healthz need it; from the environment")
    allowed_hosts: Annotated[list[str], BeforeValidator(_listed)] = Field(
        [], description="names that browsers may call the indexer by: host, host:port, .domain or *"
    )

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

    @property
    def isolation_level(self) -> str:
        """What consumers read: "read_committed" with exactly-once delivery, unless kafka.isolation_level is set."""
        exactly_once = self.delivery.guarantee == "exactly-once"
        return self.kafka.isolation_level or ("read_committed" if exactly_once else "read_uncommitted")

    def redacted(self) -> dict[str, Any]:
        """All effective values, secrets as stars: fit to be printed."""
        shown: dict[str, Any] = redacted(self.model_dump(mode="json"))
        return shown
