"""Embed with a model of your own, without Kafka. streamer adds the cache, retries, batches and checks.

A provider is any object with these three members. This one hashes words, which needs no model at all.

    python examples/own_provider.py
"""

import asyncio
from collections.abc import Sequence
from zlib import crc32

import numpy as np

from streamer import Answer, EmbeddingService, Purpose, Space

DIMENSIONS = 256


class WordHashes:
    # Everything that changes a vector belongs into the space: it keeps vectors of two models apart.
    space = Space(provider="word-hashes", model="crc32", dimensions=DIMENSIONS)

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:
        vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in text.lower().split():
                row[crc32(word.strip(".,?!").encode()) % DIMENSIONS] += 1
        return Answer(vectors)  # of any length: streamer normalises and checks them

    async def aclose(self) -> None:
        pass


async def main() -> None:
    async with EmbeddingService(provider=WordHashes(), max_items=100) as service:
        documents = ["The parcel arrived wet.", "Where is my parcel?", "I would like to cancel my account."]
        for match in await service.find_most_similar("is the parcel wet?", documents, k=2):
            print(f"{match.similarity:.3f} {match.text}")


if __name__ == "__main__":
    asyncio.run(main())
