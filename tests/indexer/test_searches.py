"""Searches while events are being judged: those that wait share a product, and none waits for the judge."""

from __future__ import annotations

import threading
from typing import Any
from unittest.mock import patch

import anyio
import numpy as np
import pytest

from streamer.core.sketch import TextForm
from streamer.core.vectors import Matrix
from streamer.core.verdicts import Match
from streamer.indexer.index.payloads import Scalar
from streamer.indexer.index.vector_index import VectorIndex
from streamer.indexer.verdicts.anomalies import AnomalyDetector, Unusualness
from streamer.indexer.verdicts.content import ContentScore
from tests.support.indexing import Topic, running

pytestmark = pytest.mark.anyio


@pytest.mark.usefixtures("backend")
async def test_a_search_finds_the_nearest_and_get_the_vector_of_an_id() -> None:
    topic = Topic()
    for i in range(8):
        topic.append(f"id-{i}", i * 30)
    async with running(topic) as this:
        await this.catch_up()
        query = np.array([1, 0], np.float32)
        found = await this.indexer.search(query, 3, 0.5, exclude=["id-0"])
        assert [(match.id, round(match.similarity, 3)) for match in found] == [("id-1", 0.866), ("id-2", 0.5)]
        stored = await this.indexer.get("id-0")
        assert stored is not None
        assert np.array_equal(stored, query)
        assert await this.indexer.get("nobody") is None
        assert this.indexer.statistics().searches_total == 1


@pytest.mark.usefixtures("backend")
async def test_a_sample_is_spread_over_all_and_has_their_vectors() -> None:
    topic = Topic()
    for i in range(10):
        topic.append(f"id-{i}", i * 30)
    topic.append("id-4", None)
    async with running(topic) as this:
        await this.settle()
        searches = this.indexer.searches
        assert await searches.ids(3) == ["id-0", "id-3", "id-7"]
        assert len(await searches.ids(100)) == 9
        found = await searches.vectors(["id-3", "id-4", "nobody"])
        assert list(found) == ["id-3"]
        assert np.allclose(found["id-3"], [0, 1], atol=1e-6)


async def test_searches_that_wait_together_share_a_product() -> None:
    topic = Topic()
    for i in range(36):
        topic.append(f"id-{i}", i * 10, color="red" if i % 2 else "blue")
    async with running(topic) as this:
        await this.settle()
        index = this.indexer._state.judge.index
        assert isinstance(index, VectorIndex)
        found: dict[tuple[int, str], list[str]] = {}
        calls: list[int] = []

        def search(queries: Matrix, *args: Any, **options: Any) -> list[list[Match]]:
            calls.append(len(queries))
            return VectorIndex.search(index, queries, *args, **options)

        async def ask(degrees: int, color: str = "") -> None:
            where: dict[str, Scalar] | None = {"color": color} if color else None
            angle = np.radians(degrees)
            query = np.array([np.cos(angle), np.sin(angle)], np.float32)
            matches = await this.indexer.search(query, 1, exclude=[f"id-{degrees // 10}"], where=where)
            found[degrees, color] = [match.id for match in matches]

        with patch.object(index, "search", search):
            async with anyio.create_task_group() as tasks, this.indexer._state.searches._turn:
                for degrees in range(2, 302, 10):
                    tasks.start_soon(ask, degrees)
                tasks.start_soon(ask, 42, "blue")
                tasks.start_soon(ask, 42, "green")
                await anyio.wait_all_tasks_blocked()
        assert calls == [30, 1, 1]
        assert [found[degrees, ""] for degrees in range(2, 302, 10)] == [[f"id-{i}"] for i in range(1, 31)]
        assert (found[42, "blue"], found[42, "green"]) == (["id-6"], [])


async def test_a_search_does_not_wait_for_events_that_are_being_judged() -> None:
    topic = Topic()
    topic.append("known", 0)
    async with running(topic) as this:
        await this.settle()
        judging, go_on = threading.Event(), threading.Event()
        judge = AnomalyDetector.judge

        def held_up(
            detector: AnomalyDetector, content: ContentScore | None, form: TextForm | None
        ) -> Unusualness | None:
            judging.set()
            assert go_on.wait(30)
            return judge(detector, content, form)

        with patch.object(AnomalyDetector, "judge", held_up):
            topic.append("new", 90)
            await this.until(judging.is_set)
            with anyio.fail_after(20):
                matches = await this.indexer.search(np.array([0, 1], np.float32), 2)
                vector = await this.indexer.get("new")
            go_on.set()
            await this.settle()
        assert [match.id for match in matches] == ["new", "known"]
        assert vector is not None
