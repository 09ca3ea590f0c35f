"""The worker that settings make, on records and a sink in memory; its provider may be real."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from streamer.app.embedder import EmbeddingStack
from streamer.app.worker import make_pipeline
from streamer.core.events import Message, Record, TopicPartition
from streamer.settings import Settings
from streamer.testing import MemorySink, MemorySource
from streamer.worker.statistics import PipelineStatistics


class CountingSink(MemorySink):
    """Tells when so many messages are acknowledged."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.done = anyio.Event()
        self._wanted = wanted

    async def _acknowledge(self, messages: list[Message]) -> None:
        await super()._acknowledge(messages)
        if len(self.acknowledged) >= self._wanted:
            self.done.set()


async def worked_off(settings: Settings, stack: EmbeddingStack, records: Sequence[Record]) -> PipelineStatistics:
    """What the worker counts once each record has its outcome."""
    log: dict[TopicPartition, list[Record]] = {}
    for record in records:
        log.setdefault(record.tp, []).append(record)
    source, sink = MemorySource(log, max_records=1000), CountingSink(len(records))
    flow = make_pipeline(settings, source, stack, sink)  # type: ignore[arg-type]
    async with anyio.create_task_group() as tasks:
        await flow.on_assigned(list(log))
        tasks.start_soon(flow.run)
        await sink.done.wait()
        flow.stop()
    return flow.statistics()
