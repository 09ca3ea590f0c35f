"""What a new user does first, with real processes: publish a file whose columns have their own names, and find it."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import orjson
import pytest

from tests.support.processes import streamer
from tests.support.stages import Stage
from tests.support.topics import read_until

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]

REVIEWS = 'id,body,stars\nr-1,"It arrived broken,\nand late",1\nr-2,All fine,5\n'


@pytest.mark.parametrize("text_field", ["text", "data.review"])
async def test_a_published_column_becomes_vectors_with_their_texts(
    text_field: str, stage: Stage, tmp_path: Path
) -> None:
    """First hour B1 and D6. Field case 19. Worker and publish share their settings, and nothing else has to agree."""
    (tmp_path / "reviews.csv").write_text(REVIEWS)
    settings = {**stage.settings, "input.text_field": text_field}
    arguments = (str(tmp_path / "reviews.csv"), "--text-field", "body", "--key-field", "id")
    with streamer("run", settings) as worker, streamer("publish", settings, *arguments) as publishing:
        assert await publishing.wait() == 0, publishing.stderr
        assert "2 messages published" in publishing.stderr
        records = await read_until(stage.bootstrap_servers, stage.vectors, lambda found: len(found) == 2)
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait() == 0, worker.stderr
    events = {record.key: orjson.loads(record.value) for record in records}
    assert events[b"r-1"]["text"] == "It arrived broken,\nand late"
    assert events[b"r-2"]["metadata"] == {"id": "r-2", "stars": "5"} | ({"data": {}} if "." in text_field else {})


async def test_a_worker_that_reads_the_wrong_field_says_so(stage: Stage) -> None:
    """First hour B1."""
    with streamer("run", stage.settings) as worker:
        await worker.ready(stage.port)
        await stage.produce([(b"r", orjson.dumps({"id": n, "body": "All fine"})) for n in range(150)])
        await read_until(stage.bootstrap_servers, stage.dead_letters, lambda found: len(found) == 150)
        async with httpx.AsyncClient() as client:
            response = await client.get(f"http://127.0.0.1:{stage.port}/readyz")
        assert response.status_code == 503
        assert response.json()["error"] == (
            "100 of the latest 100 records became dead letters, mostly missing_text: no text at 'text'; "
            "the record has id, body: set input.text_field"
        )
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait() == 0, worker.stderr
        assert worker.stderr.count("nearly all records end as dead letters") == 1
