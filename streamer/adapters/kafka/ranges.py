"""Records between given offsets, read without a group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as ClientPartition

from streamer.core.events import Record

POLL_MS: Final = 500
QUIET_POLLS: Final = 4  # without a record: what is left are transaction markers and records that compaction removed


async def read_ranges(consumer: AIOKafkaConsumer, ranges: Mapping[ClientPartition, tuple[int, int]]) -> list[Record]:
    """The records from the first offset of each partition up to the second one, which is not among them; fewer where
    some are gone. The consumer has to be one that hands over our records (`AS_OURS`), and that goes to the earliest
    record where an offset is gone."""
    wanted = {tp: bounds for tp, bounds in ranges.items() if bounds[0] < bounds[1]}
    consumer.assign(list(wanted))
    for tp, (start, _) in wanted.items():
        consumer.seek(tp, start)
    records: list[Record] = []
    quiet = 0
    while wanted and quiet < QUIET_POLLS:
        batches = await consumer.getmany(*wanted, timeout_ms=POLL_MS)
        quiet = 0 if batches else quiet + 1
        for tp, batch in batches.items():
            records += [record for record in batch if record.offset < ranges[tp][1]]
        for tp in list(wanted):
            if await consumer.position(tp) >= ranges[tp][1]:
                del wanted[tp]
    return records
