"""For Python programs: publish texts, follow vectors and verdicts, ask the index.

```python
import asyncio
from streamer.client import SearchClient, TextProducer, VerdictConsumer

async def main() -> None:
    async with TextProducer("localhost:9092", "texts") as producer:
        await producer.send("The parcel has not arrived.", id="msg-1", metadata={"lang": "en"})

    async with SearchClient("http://localhost:8080") as index:
        for match in await index.search(text="Where is my package?", k=3):
            print(match.similarity, match.id, match.text)

    async with VerdictConsumer("localhost:9092", "verdicts", group_id="alerts") as verdicts:
        async for verdict in verdicts:
            if verdict.verdict == "anomaly":
                print(verdict.id, verdict.p_value)

asyncio.run(main())
```

Brokers that want credentials: pass a `Connection` in place of the address. What cannot be reached raises Unreachable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar
from urllib.parse import quote

import httpx
import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import CommitFailedError, KafkaError

from streamer.adapters.kafka.connection import Connection
from streamer.adapters.kafka.records import record_of
from streamer.adapters.kafka.sink import KafkaSink
from streamer.core.events import Message, Record
from streamer.core.vector_events import Deletion, Malformed, VectorEvent, decode_vector_event
from streamer.core.vectors import Vector
from streamer.core.verdicts import Verdict, decode_verdict, parse_verdict
from streamer.errors import StreamerError, Unreachable

__all__ = ["Connection", "Deletion", "SearchClient", "SearchMatch", "Text", "TextProducer", "VectorConsumer",
           "VectorEvent", "Verdict", "VerdictConsumer"]  # fmt: skip

T = TypeVar("T")
_COMMIT_INTERVAL: Final = 1.0


@dataclass(frozen=True, slots=True)
class Text:
    """A text to publish. Without an id it is called after its place in the topic."""

    text: str
    id: str | None = None
    metadata: Mapping[str, Any] | None = None


class TextProducer:
    """Publishes texts as JSON objects: the text at `text`, metadata beside it."""

    def __init__(self, brokers: str | Connection, topic: str = "texts", *, idempotent: bool = True) -> None:
        self._topic = topic
        self._sink = KafkaSink(_connection(brokers), idempotent=idempotent)

    async def __aenter__(self) -> Self:
        await self._sink.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._sink.aclose()

    async def send(self, text: str, *, id: str | None = None, metadata: Mapping[str, Any] | None = None) -> None:
        """Publish a text and wait until the brokers have it."""
        await self.send_many([Text(text, id, metadata)])

    async def send_many(self, texts: Iterable[Text]) -> None:
        """Publish texts, in order for each id, and wait until the brokers have all of them."""
        await self._publish([self._message(text) for text in texts])

    async def delete(self, id: str) -> None:
        """Have an event forgotten: publish its tombstone."""
        await self._publish([Message(self._topic, id.encode(), None, ())])

    def _message(self, text: Text) -> Message:
        body = orjson.dumps({**(text.metadata or {}), "text": text.text})
        key = None if text.id is None else text.id.encode()
        return Message(self._topic, key, body, (("content-type", b"application/json"),))

    async def _publish(self, messages: list[Message]) -> None:
        acknowledged = await self._sink.send(messages)
        await acknowledged()


class _Consumer(Generic[T]):
    """Iterates a topic. With a `group_id`, members of the group share its partitions, and it goes on where the group
    stopped: an event counts as done when the next one is asked for, so that a crash repeats some and loses none.
    Without one, every consumer sees all of the topic, from the beginning unless `from_beginning` is False.
    """

    def __init__(
        self, brokers: str | Connection, topic: str, *, group_id: str | None = None, from_beginning: bool = True
    ) -> None:
        self._connection = _connection(brokers)
        self._done: dict[ClientPartition, int] = {}
        self.malformed = 0
        """Records that were passed over because they could not be read."""
        self._consumer = AIOKafkaConsumer(
            topic,
            **self._connection.consumer_options(),
            group_id=group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest" if from_beginning else "latest",
        )
        self._commits = group_id is not None

    async def __aenter__(self) -> Self:
        try:
            await self._connection.reach(self._consumer.start())
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        try:
            if exc is None:
                await self._commit()
        finally:
            await self._consumer.stop()

    async def __aiter__(self) -> AsyncIterator[T]:
        loop = asyncio.get_running_loop()
        due = loop.time() + _COMMIT_INTERVAL
        while True:
            try:
                batches = await self._consumer.getmany(timeout_ms=200)
            except KafkaError as exc:
                raise Unreachable(f"the topic cannot be read: {exc!r}") from exc
            for tp, records in batches.items():
                for record in records:
                    found = self._decode(record_of(record))
                    if isinstance(found, Malformed):
                        self.malformed += 1
                    else:
                        yield found
                    self._done[tp] = record.offset + 1
                    if loop.time() >= due:
                        await self._commit()
                        due = loop.time() + _COMMIT_INTERVAL
            if loop.time() >= due:
                await self._commit()
                due = loop.time() + _COMMIT_INTERVAL

    def _decode(self, record: Record) -> T | Malformed:
        raise NotImplementedError

    async def _commit(self) -> None:
        mine = self._consumer.assignment()
        offsets = {tp: offset for tp, offset in self._done.items() if tp in mine}
        self._done.clear()
        if not self._commits or not offsets:
            return
        try:
            await self._consumer.commit(offsets)
        except CommitFailedError:
            pass  # the group has moved on: whoever has these partitions now reads the events again
        except KafkaError as exc:
            raise Unreachable(f"offsets cannot be committed: {exc!r}") from exc


class VectorConsumer(_Consumer[VectorEvent | Deletion]):
    """Vector events, in either format, and deletions."""

    def __init__(
        self,
        brokers: str | Connection,
        topic: str = "vectors",
        *,
        group_id: str | None = None,
        from_beginning: bool = True,
    ) -> None:
        super().__init__(brokers, topic, group_id=group_id, from_beginning=from_beginning)

    def _decode(self, record: Record) -> VectorEvent | Deletion | Malformed:
        return decode_vector_event(record)


class VerdictConsumer(_Consumer[Verdict]):
    """Verdicts."""

    def __init__(
        self,
        brokers: str | Connection,
        topic: str = "verdicts",
        *,
        group_id: str | None = None,
        from_beginning: bool = True,
    ) -> None:
        super().__init__(brokers, topic, group_id=group_id, from_beginning=from_beginning)

    def _decode(self, record: Record) -> Verdict | Malformed:
        return decode_verdict(record)


@dataclass(frozen=True, slots=True)
class SearchMatch:
    """A remembered event and its cosine; text and metadata if its vector event carries them."""

    id: str
    similarity: float
    text: str | None = None
    metadata: Mapping[str, Any] | None = None


class SearchClient:
    """Asks an indexer. Raises StreamerError with the indexer's own words when it refuses, Unreachable when it is not
    there."""

    def __init__(self, url: str = "http://127.0.0.1:8080", *, token: str | None = None, timeout: float = 30.0) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._url = url
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def search(
        self,
        text: str | None = None,
        *,
        vector: Vector | None = None,
        id: str | None = None,
        k: int = 10,
        min_similarity: float | None = None,
        where: Mapping[str, str | float | bool | None] | None = None,
    ) -> list[SearchMatch]:
        """The events nearest to a text, a vector or a remembered event; `where`: metadata they must have."""
        body = {"text": text, "vector": vector, "id": id, "min_similarity": min_similarity, "where": where, "k": k}
        answer = await self._ask(
            "POST", "/v1/search", {name: value for name, value in body.items() if value is not None}
        )
        return [
            SearchMatch(match["id"], match["similarity"], match.get("text"), match.get("metadata"))
            for match in answer["matches"]
        ]

    async def vector(self, id: str) -> Vector:
        """The vector of a remembered event."""
        answer = await self._ask("GET", f"/v1/vectors/{quote(id, safe='')}")
        return np.array(answer["vector"], np.float32)

    async def statistics(self) -> dict[str, Any]:
        """How the indexer is doing."""
        return await self._ask("GET", "/v1/stats")

    async def verdicts(self) -> AsyncIterator[Verdict]:
        """Verdicts from now on, without Kafka; ends when the indexer stops. Those that come too fast are missed."""
        timeout = httpx.Timeout(30.0, read=60.0)  # the indexer sends a sign of life every 15 seconds
        try:
            async with self._http.stream("GET", "/v1/events", timeout=timeout) as response:
                if response.is_error:
                    await response.aread()
                    raise self._refusal(response)
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        verdict = parse_verdict(line.removeprefix("data: ").encode())
                        if isinstance(verdict, Verdict):
                            yield verdict
        except httpx.HTTPError as exc:
            raise Unreachable(f"no indexer answers at {self._url}: {exc!r}") from exc

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        content = None if body is None else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        try:
            response = await self._http.request(method, path, content=content)
            if response.is_error:
                raise self._refusal(response)
            answer: dict[str, Any] = response.json()
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise Unreachable(f"no indexer answers at {self._url}: {exc!r}") from exc
        except ValueError as exc:
            raise Unreachable(f"what answers at {self._url} is not a streamer indexer") from exc
        return answer

    def _refusal(self, response: httpx.Response) -> StreamerError:
        try:
            reason = response.json()["error"]
        except (ValueError, KeyError, TypeError):
            reason = response.reason_phrase
        return StreamerError(f"the indexer at {self._url} refused ({response.status_code}): {reason}")


def _connection(brokers: str | Connection) -> Connection:
    return brokers if isinstance(brokers, Connection) else Connection(bootstrap_servers=brokers)
