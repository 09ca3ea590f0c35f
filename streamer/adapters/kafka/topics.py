"""Creates and checks topics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code
from anyio import CancelScope

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.errors import Unreachable

TOPIC_ALREADY_EXISTS = 36
NOT_AUTHORIZED = (29, 31)  # for the topic, for the cluster
OF_THE_TOPIC = 1  # DYNAMIC_TOPIC_CONFIG, of the sources of a setting
TOMBSTONES = "delete.retention.ms"
SHOWN_TOPICS = 8
TOMBSTONES_KEPT = 86_400.0  # what Apache Kafka does by default, in seconds


@dataclass(frozen=True, slots=True)
class TopicSpec:
    name: str
    partitions: int
    replication_factor: int = 1
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicState:
    """`partitions` is 0 for a topic that does not exist."""

    name: str
    partitions: int
    created: bool = False


async def check_topics(connection: KafkaConnection, specs: Sequence[TopicSpec], *, create: bool) -> list[TopicState]:
    """What exists, creating what does not if asked to. Raises Unreachable on no answer or a refusal."""
    admin = AIOKafkaAdminClient(**connection.client_options())
    try:
        await connection.reach(admin.start())
        existing = await _existing(admin)
        missing = [spec for spec in specs if spec.name not in existing]
        if create and missing:
            await _create(admin, missing, connection.sasl_username)
        return [
            TopicState(spec.name, spec.partitions if created else existing.get(spec.name, 0), created)
            for spec in specs
            for created in [create and spec in missing]
        ]
    except KafkaError as exc:
        raise Unreachable(f"Kafka at {connection.bootstrap_servers} refused topic administration: {exc!r}") from exc
    finally:
        with CancelScope(shield=True):
            await admin.close()


async def existing_topics(connection: KafkaConnection) -> Mapping[str, int]:
    """Partitions by topic, of all topics that this user may see. Raises Unreachable on no answer or a refusal."""
    admin = AIOKafkaAdminClient(**connection.client_options())
    try:
        await connection.reach(admin.start())
        return await _existing(admin)
    except KafkaError as exc:
        raise Unreachable(f"Kafka at {connection.bootstrap_servers} did not list its topics: {exc!r}") from exc
    finally:
        await admin.close()


async def check_existence(connection: KafkaConnection, names: Iterable[str]) -> None:
    """Raises Unreachable for a topic that does not exist, naming those that do."""
    existing = await existing_topics(connection)
    for name in names:
        if name not in existing:
            raise Unreachable(unknown_topic(name, existing, connection.bootstrap_servers))


def unknown_topic(name: str, existing: Iterable[str], bootstrap_servers: str) -> str:
    """What a person is told of a topic that is not there: the names that are, the most similar ones first."""
    names = [topic for topic in existing if not topic.startswith("__")]  # those are the brokers' own
    names.sort(key=lambda topic: (-SequenceMatcher(None, name, topic).ratio(), topic))
    more = f" and {len(names) - SHOWN_TOPICS} more" if len(names) > SHOWN_TOPICS else ""
    there = f"there are {', '.join(names[:SHOWN_TOPICS])}{more}" if names else "there are no topics yet"
    return (
        f"topic {name!r} does not exist at {bootstrap_servers}; {there}; "
        f"create it with: streamer topics --create --input {name}"
    )


async def _existing(admin: AIOKafkaAdminClient) -> dict[str, int]:
    return {
        topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics() if not topic["error_code"]
    }


@dataclass(frozen=True, slots=True)
class TopicHome:
    """Where a topic lives. `cluster`: the cluster's id, None if the brokers do not say. `tombstones_kept`: seconds for
    which a tombstone can be read at least."""

    cluster: str | None
    tombstones_kept: float


async def find_home(connection: KafkaConnection, topic: str) -> TopicHome:
    """Raises Unreachable when no broker answers; what a broker does not tell is taken to be the default."""
    admin = AIOKafkaAdminClient(**connection.client_options())
    cluster, kept = None, TOMBSTONES_KEPT
    try:
        await connection.reach(admin.start())
        with suppress(KafkaError):
            cluster = (await admin.describe_cluster())["cluster_id"]
            wanted = ConfigResource(ConfigResourceType.TOPIC, topic, configs={TOMBSTONES: None})
            for response in await admin.describe_configs([wanted]):
                for *_, entries in response.resources:
                    kept = next((float(value) / 1000 for name, value, *_ in entries if name == TOMBSTONES), kept)
    finally:
        with CancelScope(shield=True):
            await admin.close()
    return TopicHome(cluster, kept)


async def find_spec(connection: KafkaConnection, topic: str) -> TopicSpec | None:
    """How a topic was made: partitions, copies, and the settings that are its own. None where it does not exist; raises
    Unreachable. A broker that does not tell settings is taken to have none."""
    admin = AIOKafkaAdminClient(**connection.client_options())
    try:
        await connection.reach(admin.start())
        # Of all: brokers may create a topic that is asked for by its name.
        found = next((each for each in await admin.describe_topics() if each["topic"] == topic), None)
        if found is None or found["error_code"] or not found["partitions"]:
            return None
        copies = min(len(partition["replicas"]) for partition in found["partitions"])
        configs: dict[str, str] = {}
        with suppress(KafkaError):
            for response in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]):
                for *_, entries in response.resources:
                    configs |= {name: value for name, value, *rest in entries if _is_its_own(rest[1])}
        return TopicSpec(topic, len(found["partitions"]), copies, configs)
    except KafkaError as exc:
        raise Unreachable(f"Kafka at {connection.bootstrap_servers} did not describe {topic!r}: {exc!r}") from exc
    finally:
        with CancelScope(shield=True):
            await admin.close()


def _is_its_own(source: bool | int) -> bool:
    """By what a broker says of a setting: whether it is a default, or, since Kafka 1.1, where it comes from."""
    return source is False or (source is not True and source == OF_THE_TOPIC)


async def delete_topics(connection: KafkaConnection, names: Sequence[str]) -> None:
    """Those that exist. Raises Unreachable on no answer or a refusal."""
    admin = AIOKafkaAdminClient(**connection.client_options())
    try:
        await connection.reach(admin.start())
        existing = await _existing(admin)
        response = await admin.delete_topics([name for name in names if name in existing])
        for name, code, *_ in response.topic_error_codes:
            if code:
                raise Unreachable(f"topic {name!r} could not be deleted: {for_code(code).__name__}")
    except KafkaError as exc:
        raise Unreachable(f"Kafka at {connection.bootstrap_servers} refused topic administration: {exc!r}") from exc
    finally:
        with CancelScope(shield=True):
            await admin.close()


async def _create(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec], user: str | None) -> None:
    """Raises Unreachable when the brokers refuse one of them."""
    response = await admin.create_topics(
        [NewTopic(s.name, s.partitions, s.replication_factor, topic_configs=dict(s.configs)) for s in specs]
    )
    # The client does not raise on a topic's own error code.
    for name, code, *detail in response.topic_errors:
        if code in NOT_AUTHORIZED:
            raise Unreachable(
                f"topic {name!r} is not visible to user {user or 'ANONYMOUS'!r}, who may not create it either: grant "
                "Describe on the topic if it exists (with Read or Write, as its role needs), or Create if it does not"
            )
        if code not in (0, TOPIC_ALREADY_EXISTS):
            reason = detail[0] if detail and detail[0] else for_code(code).__name__
            raise Unreachable(f"topic {name!r} could not be created: {reason}")
