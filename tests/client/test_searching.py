"""SearchClient, against a real indexer's API."""

from __future__ import annotations

import anyio
import numpy as np
import pytest

from streamer.client import SearchClient, SearchMatch, StreamerError, Unreachable
from tests.support.indexing import Running, Topic
from tests.support.serving import DegreesEmbedder, serving_an_index

pytestmark = pytest.mark.anyio


async def test_searches() -> None:
    topic = Topic()
    topic.append("id/0 ?", 0, text="hello", lang="en")
    topic.append("id-1", 30)
    served = serving_an_index(topic, DegreesEmbedder())
    async with served as (http, this), SearchClient(str(http.base_url)) as index:
        assert await index.search("0", k=1) == [SearchMatch("id/0 ?", 1.0, "hello", {"lang": "en"})]
        assert [match.id for match in await index.search(id="id/0 ?")] == ["id-1"]
        query = np.array([0, 1], np.float32)
        assert [match.id for match in await index.search(vector=query, where={"lang": "en"})] == ["id/0 ?"]
        assert await index.search(vector=query, min_similarity=0.9) == []
        assert (await index.vector("id/0 ?")).tolist() == [1, 0]
        assert (await index.statistics())["vectors"] == 2
        with pytest.raises(StreamerError, match=r"refused \(404\): no vector of id 'nobody' is known"):
            await index.vector("nobody")
        with pytest.raises(StreamerError, match="exactly one of"):
            await index.search()
        live = index.verdicts()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_append_when_heard, this, topic)
            with anyio.fail_after(20):
                assert (await anext(live)).id == "late"
        this.indexer.stop()
        assert [verdict async for verdict in live] == []
    async with SearchClient(str(http.base_url)) as index:
        with pytest.raises(Unreachable, match="no indexer answers"):
            await index.statistics()


async def _append_when_heard(this: Running, topic: Topic) -> None:
    await this.until(lambda: this.indexer.statistics().live_listeners == 1)
    topic.append("late", 60)
