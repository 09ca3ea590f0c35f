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

from streamer.adapters.kafka.connection import KafkaConnection as Connection
from streamer.client.consuming import VectorConsumer, VerdictConsumer
from streamer.client.publishing import Text, TextProducer
from streamer.client.searching import SearchClient, SearchMatch
from streamer.core.vector_events import Deletion, VectorEvent
from streamer.core.verdicts import Verdict

__all__ = ["Connection", "Deletion", "SearchClient", "SearchMatch", "Text", "TextProducer", "VectorConsumer",
           "VectorEvent", "Verdict", "VerdictConsumer"]  # fmt: skip
