"""`streamer search` against the API of an index in memory."""

from __future__ import annotations

import orjson
import pytest

from tests.commands.in_process import Done, empty_folder, streamer  # noqa: F401  a fixture for all tests here
from tests.support.indexing import SPACE, Topic
from tests.support.serving import DegreesEmbedder, serving_an_index

pytestmark = pytest.mark.anyio


async def search(*arguments: str, token: str | None = None, **environ: str) -> Done:
    topic = Topic()
    topic.append("id-0", 0, text="a wet parcel")
    topic.append("id-1", 60)
    async with serving_an_index(topic, DegreesEmbedder(), token=token) as (client, _):
        return await streamer("search", *arguments, "--url", str(client.base_url), **environ)


async def test_the_nearest_are_a_table_for_people() -> None:
    done = await search("0")
    assert (done.code, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines == [["similarity", "id", "text"], ["1.000", "id-0", "a", "wet", "parcel"], ["0.500", "id-1"]]


async def test_the_nearest_are_a_document_for_programs() -> None:
    done = await search("0", "-k", "1", "--json")
    assert done.code == 0
    answer = orjson.loads(done.stdout)
    assert answer["space"] == SPACE.id
    assert [(match["id"], match["similarity"]) for match in answer["matches"]] == [("id-0", 1.0)]


async def test_where_nothing_is_similar_enough_that_is_said() -> None:
    done = await search("180", "--min-similarity", "0.9")
    assert (done.code, done.stdout.strip()) == (0, "nothing found")


async def test_a_token_is_taken_from_the_settings_and_a_wrong_one_is_refused() -> None:
    assert (await search("0", token="s3cret", STREAMER_HTTP__TOKEN="s3cret")).code == 0
    done = await search("0", token="s3cret", STREAMER_HTTP__TOKEN="wr0ng")
    assert done.code != 0
    assert done.stderr.startswith("streamer: ")
    assert "wr0ng" not in done.stderr


async def test_what_the_indexer_refuses_is_one_line() -> None:
    done = await search("ninety")
    assert done.code == 1
    assert "not a number of degrees" in done.stderr
    assert len(done.stderr.splitlines()) == 1
