"""A topic read whole, without a group: after its consumer died, with new partitions, and after a rest."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest
from aiokafka.admin import NewPartitions

from streamer.adapters.kafka.changelog import KafkaChangelog
from streamer.adapters.kafka.connection import KafkaConnection
from streamer.errors import Unreachable
from tests.adapters.kafka.reading import SHORT, administration, fill
from tests.faults.causes import damaged, log_of
from tests.support.brokers import Broker, NewTopicName

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]


@pytest.mark.real_kafka("adding partitions")
async def test_a_whole_topic_is_read_on_after_its_consumer_died_and_when_partitions_are_added(
    bootstrap_servers: str, new_topic: NewTopicName
) -> None:
    topic = await new_topic("whole", partitions=2)
    await fill(bootstrap_servers, topic, 0, 50)
    changelog = KafkaChangelog(
        KafkaConnection(bootstrap_servers=bootstrap_servers, metadata_max_age=0.5), topic, None, timeouts=SHORT
    )
    await changelog.start()
    try:
        values: list[int] = []

        async def read(count: int) -> None:
            with anyio.fail_after(40):
                while len(values) < count:
                    values.extend(int(record.value or b"") for record in await changelog.poll(0.05))

        await read(50)
        changelog._consumer._fetcher._fetch_task.cancel()
        await fill(bootstrap_servers, topic, 50, 50)
        await read(100)
        async with administration(bootstrap_servers) as admin:
            await admin.create_partitions({topic: NewPartitions(total_count=3)})
        await fill(bootstrap_servers, topic, 100, 10, partition=2)
        await read(110)
        assert sorted(values) == list(range(110))
        assert changelog.positions() == await changelog.end_offsets()
    finally:
        await changelog.aclose()


@pytest.mark.real_kafka("records in files")
async def test_a_damaged_batch_is_told_until_it_is_mended_and_holds_up_no_other_partition(
    broker: Broker, bootstrap_servers: str, new_topic: NewTopicName
) -> None:
    topic = await new_topic("damaged", partitions=3)
    if (log := log_of(broker, topic, 1)) is None:
        pytest.skip("needs a broker whose files are at hand")
    for partition in range(3):
        await fill(bootstrap_servers, topic, 10 * partition, 10, partition=partition)
    connection = KafkaConnection(bootstrap_servers=bootstrap_servers)
    changelog = KafkaChangelog(connection, topic, None, timeouts=SHORT)
    await changelog.start()
    try:
        values: list[int] = []

        async def read(done: Callable[[], bool]) -> None:
            with anyio.fail_after(40):
                while not done():
                    values.extend(int(record.value or b"") for record in await changelog.poll(0.05))

        with damaged(log):
            await read(lambda: len(values) == 20 and changelog.state() is not None)
            assert sorted(values) == [*range(10), *range(20, 30)]
            assert str(changelog.state()).startswith(f"{topic}/1 cannot be read: the broker has a damaged batch at or")
            await fill(bootstrap_servers, topic, 30, 10, partition=0)
            await read(lambda: len(values) == 30)
        await read(lambda: len(values) == 40)
        assert sorted(values) == list(range(40))
        assert changelog.state() is None
        assert changelog.positions() == await changelog.end_offsets()
    finally:
        await changelog.aclose()


async def test_a_topic_that_is_missing_is_told_with_the_command_that_creates_it(bootstrap_servers: str) -> None:
    changelog = KafkaChangelog(KafkaConnection(bootstrap_servers=bootstrap_servers), "never-created", None)
    with pytest.raises(Unreachable, match=r"'never-created' does not exist.* streamer topics --create$"):
        await changelog.start()


async def test_what_comes_while_a_changelog_rests_comes_in_one_piece(
    bootstrap_servers: str, new_topic: NewTopicName
) -> None:
    topic = await new_topic("resting", partitions=2)
    changelog = KafkaChangelog(KafkaConnection(bootstrap_servers=bootstrap_servers), topic, None)
    await changelog.start()
    try:
        with anyio.fail_after(40):
            for first in range(0, 50, 10):
                await fill(bootstrap_servers, topic, first, 1)
                while not (records := await changelog.poll(0.5)):
                    pass
                with changelog.paused():
                    for value in range(first + 1, first + 10):
                        await fill(bootstrap_servers, topic, value, 1)
                while not (records := await changelog.poll(0.5)):
                    pass
                assert sorted(int(record.value or b"") for record in records) == [*range(first + 1, first + 10)]
    finally:
        await changelog.aclose()
