"""The latest verdicts and the map over HTTP, in front of a real indexer."""

from __future__ import annotations

import pytest

from tests.support.dashboards import Stream, dashboard
from tests.support.indexing import Topic
from tests.support.serving import serving_an_index

pytestmark = pytest.mark.anyio


async def test_the_latest_verdicts_come_with_the_texts_that_they_are_about() -> None:
    """First hour D5 and D6."""
    topic = Topic()
    for number in range(6):
        topic.append(f"far-{number}", number * 60, text=f"text {number}")
    topic.append("copy", 0, text="text 0 again")
    async with serving_an_index(topic) as (client, this):
        answer = (await client.get("/v1/recent", params={"limit": 3})).json()
        copy, *others = answer["verdicts"]
        assert (copy["id"], copy["verdict"], copy["duplicate_of"]) == ("copy", "near_duplicate", "far-0")
        assert [verdict["id"] for verdict in others] == ["far-5", "far-4"]
        assert answer["latest"] == copy["number"] == others[0]["number"] + 1
        assert answer["texts"]["copy"] == "text 0 again"
        assert answer["texts"]["far-0"] == "text 0"
        since = {"after": copy["number"]}
        assert (await client.get("/v1/recent", params=since)).json()["verdicts"] == []
        only = (await client.get("/v1/recent", params={"kind": "near_duplicate"})).json()
        assert [verdict["id"] for verdict in only["verdicts"]] == ["copy"]

        topic.append("far-0", None)
        await this.settle()
        answer = (await client.get("/v1/recent", params={"kind": "near_duplicate"})).json()
        assert "far-0" not in answer["texts"], "what is deleted is not shown any more"
        assert answer["verdicts"][0]["duplicate_of"] == "far-0"


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=201", "limit=1.5", "kind=odd", "after=" + "9" * 500])
async def test_a_wrong_question_is_refused_in_words(query: str) -> None:
    async with serving_an_index(Topic()) as (client, _):
        response = await client.get(f"/v1/recent?{query}")
        assert response.status_code == 400
        assert ("must be a whole number" in response.text) or ("known are near_duplicate" in response.text)
        assert (await client.get("/v1/overview?since=yesterday")).status_code == 400


async def test_the_map_shows_what_is_remembered_of_the_latest_events() -> None:
    topic = Topic()
    for number in range(5):
        topic.append(f"id-{number}", number * 40, text="long " * 100)
    topic.append("copy", 40)
    async with serving_an_index(topic) as (client, this):
        answer = (await client.get("/v1/map")).json()
        points = {point["id"]: point for point in answer["points"]}
        assert len(points) == 6
        assert answer["share"] == pytest.approx(1.0, abs=1e-3), "two dimensions are a plane"
        assert points["copy"]["group"] == "id-1"
        assert points["id-1"]["group"] is None
        near = [abs(points["copy"][axis] - points["id-1"][axis]) for axis in "xy"]
        assert max(near) < 1e-3
        assert points["id-0"]["text"].endswith("…")
        assert points["copy"]["text"] is None
        assert (await client.get("/v1/map")).json() == answer
        del this


async def test_the_map_of_many_words() -> None:
    stream = Stream()
    stream.publish_sample()
    async with dashboard(stream) as (_, this):
        drawn = await this.indexer.showcase.map()
        assert len(drawn.points) > 300
        assert 0 < drawn.share < 1
