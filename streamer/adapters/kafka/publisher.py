"""One producer, and how messages get into it: a Kafka record batch at a time, one future per batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest
from typing import Any
from weakref import ref

from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError
from anyio import CancelScope

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.partitioning import partition_indices, places_by_index
from streamer.adapters.kafka.record_batch import Records
from streamer.adapters.kafka.refusals import reason_of, refusal_of
from streamer.adapters.kafka.topic_limits import TopicLimits
from streamer.core.events import Message, MessageColumns, message_bytes

MAX_BATCH_BYTES = 512 * 1024
ABANDON_TIMEOUT = 5.0
HEAD_BYTES = 150  # of a batch with one record, at the most, with the header for a timestamp that its topic refuses

Target = tuple[str, int]


class HeldBack(KafkaError):  # type: ignore[misc]  # the client is not typed
    """A batch was not sent, because one before it to the same partition failed for good."""


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Messages on their way to one partition; `positions` are theirs in what was submitted."""

    target: Target
    positions: Sequence[int]
    future: asyncio.Future[Any]
    builder: Any

    @property
    def size(self) -> int:
        """Bytes on the wire, once it has been sent."""
        return int(self.builder.size())

    @property
    def error(self) -> BaseException | None:
        """Why it was not delivered; None once it was, or while that is open."""
        if not self.future.done():
            return None
        return asyncio.CancelledError() if self.future.cancelled() else self.future.exception()


class Publisher:
    """A producer that is thrown away after the first error that it cannot repeat by itself.

    It has to be: sequence numbers are spent when a batch leaves, so after a batch that failed for good the broker
    refuses everything that follows. Records of one key go to one partition (murmur2, as Kafka's own clients choose it).
    `give_up_after`: seconds to wait for room.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        compression: str,
        limits: TopicLimits,
        *,
        give_up_after: float,
        **options: Any,
    ) -> None:
        self.connection = connection
        self._limits = limits
        self._give_up_after = give_up_after
        self._failed: set[Target] = set()
        self._compression = compression
        self._is_transactional = "transactional_id" in options
        self.producer = AIOKafkaProducer(
            **connection.client_options(),
            acks="all",
            max_batch_size=MAX_BATCH_BYTES,
            compression_type=None if compression == "none" else compression,
            **options,
        )

    async def start(self) -> None:
        """Raises Unreachable when no broker answers."""
        try:
            await self.connection.reach(self.producer.start())
        except BaseException:
            with CancelScope(shield=True):  # a failed start leaves its connections and tasks behind
                await self.abandon()
            raise

    async def submit(
        self, messages: list[Message] | MessageColumns, positions: Sequence[int], *, singly: bool
    ) -> list[RecordBatch]:
        """Enqueue these of the messages, in order; `singly`: each in a batch of its own. What their topics are known to
        refuse is replaced in a list by what there is instead of it. Raises KafkaError, and then some may be on their
        way all the same."""
        if self._limits.has_learned and isinstance(messages, list):
            for position in positions:
                messages[position] = self._lessened(messages[position])
        is_whole = len(positions) == len(messages)
        leaving = messages if is_whole else [messages[position] for position in positions]
        queues = [
            self._batches(target, [positions[place] for place in places], records, singly)
            for target, places, records in await self._records(leaving)
        ]
        # The first ones of all partitions first: the second one of a partition waits until the first one has left.
        return [
            await self._enqueue(*batch) for batches in zip_longest(*queues) for batch in batches if batch is not None
        ]

    async def _records(self, messages: Sequence[Message]) -> list[tuple[Target, list[int], Records]]:
        """What goes to each partition, with the places of these messages, in order."""
        fitted = self._limits.timestamps.fit_all(messages)
        columns = fitted if isinstance(fitted, MessageColumns) else None
        topics = {columns.topic} if columns else {message.topic for message in fitted}
        members = _by_target(fitted, {topic: await self._partitions(topic) for topic in topics})
        if columns:
            records = Records.of(columns)
            return [(target, places, records.chosen(places)) for target, places in members.items()]
        return [(target, places, Records.of([fitted[n] for n in places])) for target, places in members.items()]

    def _batches(
        self, target: Target, positions: Sequence[int], records: Records, singly: bool
    ) -> Iterator[tuple[Target, Any, Sequence[int]]]:
        bound = min(MAX_BATCH_BYTES, self._limits.batch_bytes(target[0]) or MAX_BATCH_BYTES)
        for start, end in records.runs(0 if singly else bound):
            batch = records.batch(start, end, self._compression, is_transactional=self._is_transactional)
            yield target, batch, positions[start:end]

    async def _partitions(self, topic: str) -> list[int]:
        if (known := self.producer.client.cluster.partitions_for_topic(topic)) is not None:
            return sorted(known)  # without the task and the timer of a wait
        # Of a topic that it has not used yet the client asks its brokers, for longer than anybody here waits.
        try:
            return sorted(await asyncio.wait_for(self.producer.partitions_for(topic), self._give_up_after))
        except TimeoutError as exc:
            raise KafkaTimeoutError(f"nothing known of topic {topic!r} within {self._give_up_after:g} s") from exc

    def _lessened(self, message: Message) -> Message:
        """In the first form that its topic may take."""
        while (error := self._limits.refuses(message, message_bytes(message) + HEAD_BYTES, self._measure)) is not None:
            kind = refusal_of(error)
            lesser = message.instead(kind, reason_of(error)) if message.instead and kind else None
            if lesser is None:
                break  # the broker is asked again
            message = lesser
        return message

    def _measure(self, message: Message) -> int:
        """Bytes of a batch with this message only."""
        records = Records.of(self._limits.timestamps.fit_all([message]))
        ((_, builder, _),) = self._batches((message.topic, 0), [0], records, True)
        builder._build()  # noqa: SLF001  # which compresses it
        return int(builder.size())

    async def _enqueue(self, target: Target, builder: Any, members: Sequence[int]) -> RecordBatch:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._give_up_after
        while target not in self._failed:
            try:
                future: asyncio.Future[Any] = await self.producer.send_batch(builder, target[0], partition=target[1])
                future.add_done_callback(_retrieve)
                self._watch(target)
                return RecordBatch(target, members, future, builder)
            except HeldBack:  # while it waited for the one before it to leave
                break
            except KafkaTimeoutError:
                # Not more than that its predecessor is still waiting: no reason yet to give the producer up.
                if loop.time() >= deadline:
                    raise
        unsent: asyncio.Future[Any] = loop.create_future()
        unsent.set_exception(HeldBack())
        _retrieve(unsent)
        return RecordBatch(target, members, unsent, builder)

    def _watch(self, target: Target) -> None:
        """After a batch that failed for good nothing more goes to its partition: what follows would arrive before it.

        A broker that does not know this producer yet takes any sequence number for its first one, and so would take the
        next batch. A callback of the future would be late: the client may send that in the same turn of the event loop.
        """
        # These are parts of aiokafka 0.14.
        batch = self.producer._message_accumulator._batches[ClientPartition(*target)][-1]  # noqa: SLF001
        # A weak reference, or each batch would wait for the garbage collector.
        batch.failure = partial(self._failed_for_good, target, ref(batch))
        if target in self._failed:  # while this one waited for the one before it to leave
            self._hold_back(target)

    def _failed_for_good(self, target: Target, reference: ref[Any], exception: BaseException) -> None:
        batch: Any = reference()
        queued = self.producer._message_accumulator._batches.get(ClientPartition(*target), ())  # noqa: SLF001
        was_sent = batch not in queued  # else all that is queued fails now
        type(batch).failure(batch, exception)
        self._failed.add(target)
        if was_sent:
            self._hold_back(target)

    def _hold_back(self, target: Target) -> None:
        """What is queued is not sent."""
        queued = self.producer._message_accumulator._batches.pop(ClientPartition(*target), ())  # noqa: SLF001
        for batch in queued:
            batch.failure(HeldBack())
            _retrieve(batch.future)
            _retrieve(batch._drain_waiter)  # noqa: SLF001

    async def close(self, timeout: float) -> None:
        """Deliver what is left, if that takes no longer than this; with the brokers away the client would wait for
        ever."""
        with suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(self.producer.stop(), timeout)
            return
        await self.abandon()

    async def abandon(self) -> None:
        """Send nothing more; whatever is not acknowledged fails."""
        # The client has no way to say this: `stop` flushes first, for ever while brokers are away
        # (https://github.com/aio-libs/aiokafka/issues/1101). These are its parts as of aiokafka 0.14.
        producer, client = self.producer, self.producer.client
        producer._closed = True  # noqa: SLF001
        accumulator = producer._message_accumulator  # noqa: SLF001
        # Without connections, and without knowing where to connect to, no request of this producer can be applied later
        # than those of the next one.
        client.cluster._brokers.clear()  # noqa: SLF001
        client.cluster._bootstrap_brokers.clear()  # noqa: SLF001
        await _disconnect(client)
        sender = producer._sender.sender_task  # noqa: SLF001
        if sender is not None:
            sender.cancel()
            refresh = client._md_update_fut  # noqa: SLF001
            if refresh is not None and not refresh.done():
                refresh.set_result(False)  # what it waits for will not come any more
            # Requests that fail now put their batches back, which has to be over before these fail.
            await asyncio.wait([sender], timeout=ABANDON_TIMEOUT / 5)
        batches = [*accumulator._pending_batches, *chain.from_iterable(accumulator._batches.values())]  # noqa: SLF001
        accumulator._pending_batches.update(batches)  # noqa: SLF001  # its callbacks expect all of them there
        accumulator.fail_all(KafkaError("given up"))
        for batch in batches:
            _retrieve(batch._drain_waiter)  # noqa: SLF001
        transaction = producer._txn_manager and producer._txn_manager._transaction_waiter  # noqa: SLF001
        if transaction is not None:
            _retrieve(transaction)
        if sender is not None:
            await asyncio.wait([sender], timeout=ABANDON_TIMEOUT)  # the end of a transaction waits for its batches
            if sender.done():
                _retrieve(sender)
        await _disconnect(client)  # from what it was just about to connect to


def _by_target(messages: Sequence[Message], partitions: Mapping[str, Sequence[int]]) -> dict[Target, list[int]]:
    """The places of the messages that go to each of the partitions of their topics, in order."""
    if isinstance(messages, MessageColumns):
        return _by_key(messages.topic, messages.keys, partitions[messages.topic])
    found: dict[Target, list[int]] = {}
    for topic, choices in partitions.items():
        places = [place for place, message in enumerate(messages) if message.topic == topic]
        grouped = _by_key(topic, [messages[place].key for place in places], choices)
        found |= {target: [places[n] for n in chosen] for target, chosen in grouped.items()}
    return found


def _by_key(topic: str, keys: Sequence[bytes | None], choices: Sequence[int]) -> dict[Target, list[int]]:
    grouped = places_by_index(partition_indices(keys, len(choices)))
    return {(topic, choices[index]): places for index, places in grouped.items()}


async def _disconnect(client: Any) -> None:
    with suppress(TimeoutError, KafkaError, OSError):
        await asyncio.wait_for(client.close(), ABANDON_TIMEOUT)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Whoever waits for it reads the exception later, perhaps never: an abandoned future is no news to the loop."""
    if future.done() and not future.cancelled():
        future.exception()
