"""Publish texts with ids and metadata, and delete one of them.

python examples/publish_texts.py [BROKERS] [TOPIC]
"""

import asyncio
import sys

from streamer.client import Text, TextProducer

MESSAGES = [
    Text("The parcel has not arrived.", id="msg-1", metadata={"lang": "en"}),
    Text("Das Paket ist nicht angekommen.", id="msg-2", metadata={"lang": "de"}),
    Text("Please delete this message.", id="msg-3"),
]


async def main(brokers: str = "localhost:9092", topic: str = "texts") -> None:
    async with TextProducer(brokers, topic) as producer:
        await producer.send_many(MESSAGES)  # returns when the brokers have acknowledged all of them
        await producer.delete("msg-3")  # a null value: the indexer forgets the id
    print(f"published {len(MESSAGES)} texts to {topic} and deleted one")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
