"""Read the vector topic from its beginning and keep the newest vector of each id; vectors of length 1, so a product
with the matrix gives cosine similarities.

    python examples/consume_vectors.py [BROKERS] [TOPIC]
"""

import asyncio
import sys

import numpy as np

from streamer.client import Deletion, VectorConsumer


async def main(brokers: str = "localhost:9092", topic: str = "vectors") -> None:
    vectors: dict[str, np.ndarray] = {}
    async with VectorConsumer(brokers, topic) as consumer:
        async for event in consumer:  # without a group_id: the whole topic, then what is new
            if isinstance(event, Deletion):
                vectors.pop(event.id, None)
                print(f"{event.id} deleted")
                continue
            others = {id: vector for id, vector in vectors.items() if id != event.id}
            vectors[event.id] = event.vector
            if others:
                similarities = np.stack(list(others.values())) @ event.vector
                nearest = int(similarities.argmax())
                print(f"{event.id} is nearest to {list(others)[nearest]}, cosine {similarities[nearest]:.3f}")
            else:
                print(f"{event.id} is the first, {event.vector.size} dimensions")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
