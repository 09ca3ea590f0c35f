"""Field cases R1, E4 and E5: one indexer per group, seen by tools as the group's member."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import orjson
import pytest
from aiokafka import TopicPartition as ClientPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.errors import KafkaError

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.seat import OneHolder, Seat
from streamer.errors import ConfigurationError, Unreachable
from tests.support.brokers import Broker, NewTopicName
from tests.support.lateness import timed
from tests.support.processes import streamer
from tests.support.stages import Stage
from tests.support.topics import committed, end_offsets, produce, read_until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

CLUSTER: Any = SimpleNamespace(partitions_for_topic=lambda topic: {0, 1, 2})


def member(since: int) -> ConsumerProtocolMemberMetadata:
    return ConsumerProtocolMemberMetadata(0, ["vectors"], since.to_bytes(8, "big"))


@pytest.mark.parametrize(
    ("members", "holder"),
    [
        ({"a": 0}, "a"),
        ({"b": 0, "a": 0}, "a"),
        ({"a": 0, "b": 5}, "b"),
        ({"z": 3, "b": 5, "a": 0}, "z"),
    ],
)
def test_r1_the_one_that_has_the_place_keeps_it(members: dict[str, int], holder: str) -> None:
    given = OneHolder().assign(CLUSTER, {id: member(since) for id, since in members.items()})
    assert {id for id, assignment in given.items() if assignment.partitions()} == {holder}
    assert len(given[holder].partitions()) == 3
    assert given.keys() == members.keys(), "each member must get an answer"


def test_r1_a_member_without_user_data_holds_nothing() -> None:
    given = OneHolder().assign(CLUSTER, {"a": ConsumerProtocolMemberMetadata(0, ["vectors"], None), "b": member(1)})
    assert [id for id in given if given[id].partitions()] == ["b"]


def test_r1_one_that_the_group_has_forgotten_gives_its_place_up() -> None:
    assignor = OneHolder(clock=lambda: 7)
    mine = assignor.assign(CLUSTER, {"a": assignor.metadata(["vectors"])})["a"]
    assignor.on_assignment(mine)
    assert assignor.metadata(["vectors"]).user_data == bytes(8), "no member"
    assignor.is_member = lambda: True
    assert assignor.metadata(["vectors"]).user_data == (7).to_bytes(8, "big")
    assignor.on_assignment(OneHolder().assign(CLUSTER, {"a": member(1), "b": member(0)})["b"])
    assert assignor.metadata(["vectors"]).user_data == bytes(8)


@asynccontextmanager
async def seated(broker: Broker, topic: str, session: float = 6.0) -> AsyncIterator[Seat]:
    seat = Seat(
        KafkaConnection(bootstrap_servers=broker.bootstrap_servers), topic, f"{topic}-g", session_timeout=session
    )
    await seat.take()
    try:
        yield seat
    finally:
        await seat.aclose(3.0)


@pytest.mark.real_kafka("groups of more than one member that come and go")
async def test_r1_the_second_is_refused_and_the_first_goes_on(broker: Broker, new_topic: NewTopicName) -> None:
    topic = await new_topic("vectors", partitions=2)
    tp = ClientPartition(topic, 0)
    async with seated(broker, topic) as first:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=f"another indexer is at work for the group '{topic}-g'"):
                async with seated(broker, topic):
                    pass
        first.check()
        with anyio.fail_after(20):
            while True:
                try:
                    await first.commit({tp: 3}, 5)
                    break
                except KafkaError:
                    await anyio.sleep(0.2)  # the group is sorting itself
        assert await first.committed([tp], 5) == {tp: 3}
    async with seated(broker, topic) as next_one:
        assert await next_one.committed([tp], 5) == {tp: 3}


@pytest.mark.real_kafka("a coordinator that fences")
async def test_r1_one_that_slept_through_its_session_can_commit_nothing(
    broker: Broker, new_topic: NewTopicName
) -> None:
    topic = await new_topic("vectors")
    tp = ClientPartition(topic, 0)
    async with seated(broker, topic) as sleeper:
        await sleeper.commit({tp: 1}, 5)
        heartbeats = sleeper._consumer._coordinator._heartbeat_task
        heartbeats.cancel()  # as a process that was stopped
        async with seated(broker, topic) as other:
            other.check()
            with pytest.raises(KafkaError):
                await sleeper.commit({tp: 99}, 5)
            assert await other.committed([tp], 5) == {tp: 1}


def state_of(groups: Any) -> tuple[str, int]:
    ((_, _, state, _, _, members, *_),) = groups[0].groups
    return state, len(members)


async def described(broker: Broker, group: str) -> tuple[str, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        return state_of(await admin.describe_consumer_groups([group]))
    finally:
        await admin.close()


@pytest.fixture
async def stage(broker: Broker, new_topic: NewTopicName, tmp_path: Path) -> Stage:
    texts, vectors, verdicts, dead = [await new_topic(name) for name in ("texts", "vectors", "verdicts", "dead")]
    return Stage(broker, texts, vectors, verdicts, dead, tmp_path)


@pytest.mark.real_kafka("groups as tools see them")
async def test_r1_e5_a_second_indexer_of_a_group_is_refused(stage: Stage, broker: Broker, tmp_path: Path) -> None:
    group = f"group-{stage.texts}-verdicts"
    second = stage.settings | {"http.port": 0, "index.snapshot_path": tmp_path / "other.snapshot"}
    with streamer("index", stage.settings) as holder:
        await holder.ready(stage.index_port)
        assert await described(broker, group) == ("Stable", 1), "lag tools see a member at work"
        with streamer("index", second) as refused:
            assert await refused.wait(40) == 2, refused.stderr
            assert f"another indexer is at work for the group '{group}' (its address: 127.0.0.1)" in refused.stderr
            assert "Stop it, or give this one a kafka.group_id" in refused.stderr
        await holder.ready(stage.index_port)
        with streamer("index", second | {"kafka.group_id": "another", "topics.verdicts": stage.dead_letters,
                                         "topics.dead_letters": stage.verdicts}) as elsewhere:  # fmt: skip
            await anyio.sleep(3)
            assert elsewhere.process.poll() is None, elsewhere.stderr
        holder.send_signal(signal.SIGKILL)
        await holder.wait()
        began = time.monotonic()
        with streamer("index", stage.settings) as successor:
            await successor.ready(stage.index_port)
            assert time.monotonic() - began < 20, "the dead is missed after 10 s"
            successor.send_signal(signal.SIGTERM)
            assert await successor.wait() == 0, successor.stderr
        with streamer("index", stage.settings) as successor:
            async with timed() as took:
                await successor.ready(stage.index_port)
            assert took.seconds < 9, "one that stopped has left"


@pytest.mark.real_kafka("transactions")
async def test_e4_the_lag_behind_the_last_transaction_is_none(stage: Stage) -> None:
    settings = stage.settings | {"delivery.guarantee": "exactly-once"}
    group = f"group-{stage.texts}-verdicts"
    with streamer("run", settings) as worker, streamer("index", settings) as indexer:
        await worker.ready(stage.port)
        await indexer.ready(stage.index_port)
        await produce(stage.bootstrap_servers, stage.texts, [(b"a", b"a text"), (b"b", b"another text")])
        await read_until(stage.bootstrap_servers, stage.verdicts, lambda records: len(records) == 2)
        with anyio.fail_after(30):
            while True:
                ends = await end_offsets(stage.bootstrap_servers, stage.vectors)
                done = await committed(stage.bootstrap_servers, group, stage.vectors)
                if done == {tp.partition: end for tp, end in ends.items()}:
                    break
                await anyio.sleep(0.2)
    verdicts = await read_until(stage.bootstrap_servers, stage.verdicts, lambda records: len(records) == 2)
    assert sorted(orjson.loads(record.value)["id"] for record in verdicts) == ["a", "b"]


async def test_r1_a_place_given_up_is_no_place() -> None:
    seat = Seat(KafkaConnection(bootstrap_servers="127.0.0.1:1"), "vectors", "g", session_timeout=6)
    with pytest.raises(Unreachable, match="given up"):
        seat.check()
