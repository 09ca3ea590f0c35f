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

To a broker that asks for credentials, pass a Connection instead of the address. All of them raise Unreachable when the
other side does not answer.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamer.adapters.kafka.connection import KafkaConnection as Connection
    from streamer.client.consuming import VectorConsumer, VerdictConsumer
    from streamer.client.publishing import Text, TextProducer
    from streamer.client.searching import SearchClient, SearchMatch
    from streamer.client.serving import ServingTopics, serving_topics
    from streamer.core.events import TopicPartition
    from streamer.core.vector_events import Deletion, TextSource, VectorEvent
    from streamer.core.verdicts import NearestEvent, Verdict
    from streamer.errors import ConfigurationError, Refused, StreamerError, TooLarge, Unreachable

__all__ = [
    "ConfigurationError",
    "Connection",
    "Deletion",
    "NearestEvent",
    "Refused",
    "SearchClient",
    "SearchMatch",
    "ServingTopics",
    "StreamerError",
    "Text",
    "TextProducer",
    "TextSource",
    "TooLarge",
    "TopicPartition",
    "Unreachable",
    "VectorConsumer",
    "VectorEvent",
    "Verdict",
    "VerdictConsumer",
    "serving_topics",
]

# Where each name is defined.
_HOMES = {
    "ConfigurationError": "streamer.errors.ConfigurationError",
    "Connection": "streamer.adapters.kafka.connection.KafkaConnection",
    "Deletion": "streamer.core.vector_events.Deletion",
    "NearestEvent": "streamer.core.verdicts.NearestEvent",
    "SearchClient": "streamer.client.searching.SearchClient",
    "SearchMatch": "streamer.client.searching.SearchMatch",
    "ServingTopics": "streamer.client.serving.ServingTopics",
    "StreamerError": "streamer.errors.StreamerError",
    "Text": "streamer.client.publishing.Text",
    "TextProducer": "streamer.client.publishing.TextProducer",
    "TextSource": "streamer.core.vector_events.TextSource",
    "Refused": "streamer.errors.Refused",
    "TooLarge": "streamer.errors.TooLarge",
    "TopicPartition": "streamer.core.events.TopicPartition",
    "Unreachable": "streamer.errors.Unreachable",
    "VectorConsumer": "streamer.client.consuming.VectorConsumer",
    "VectorEvent": "streamer.core.vector_events.VectorEvent",
    "Verdict": "streamer.core.verdicts.Verdict",
    "VerdictConsumer": "streamer.client.consuming.VerdictConsumer",
    "serving_topics": "streamer.client.serving.serving_topics",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: who searches needs no Kafka client, and who publishes no HTTP client.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].rpartition(".")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
