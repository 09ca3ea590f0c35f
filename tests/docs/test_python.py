"""docs/python.md: every example runs, and prints what the page says."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import anyio
import orjson
import pytest

import streamer
import streamer.client
import streamer.testing
from streamer.client import Deletion
from streamer.core.vectors import Purpose
from streamer.protocols import Embedding, Rejection
from streamer.testing import record_of, vector_event, verdict
from tests.docs.programs import said_by
from tests.support.brokers import Broker, NewTopicName
from tests.support.indexing import Topic
from tests.support.serving import DegreesEmbedder, serving_an_index
from tests.support.topics import produce, read_all

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "python.md").read_text()
EXAMPLES: list[tuple[str, str]] = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", PAGE, flags=re.DOTALL)
BROKER, INDEXER = "localhost:9092", "http://localhost:8080"
OFFLINE = [example for example in EXAMPLES if BROKER not in example[0] and INDEXER not in example[0]]


def example_with(name: str) -> str:
    [code] = [code for code, _ in EXAMPLES if name in code and code not in [offline for offline, _ in OFFLINE]]
    return code


def environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")}
    return own | {"PYTHONPATH": str(ROOT)}


async def lines_of(code: str, count: int, folder: Path) -> list[str]:
    """The first lines that a program prints; it is killed then, because it would go on for ever."""
    found = b""
    with anyio.fail_after(60):
        process = await anyio.open_process(
            [sys.executable, "-W", "error", "-c", code], cwd=folder, env=environment(), stderr=None
        )
        async with process:
            assert process.stdout
            while found.count(b"\n") < count:
                found += await process.stdout.receive()
            process.kill()
    return found.decode().splitlines()


def test_the_page_shows_examples_of_everything() -> None:
    assert len(EXAMPLES) == len(OFFLINE) + 4 == PAGE.count("```python")


@pytest.mark.parametrize(("code", "output"), OFFLINE, ids=range(len(OFFLINE)))
def test_what_needs_no_broker(code: str, output: str, tmp_path: Path) -> None:
    assert said_by(code, tmp_path) == output


@pytest.mark.anyio
@pytest.mark.real_kafka("idempotent producers")
async def test_publishing(broker: Broker, new_topic: NewTopicName, tmp_path: Path) -> None:
    topic = await new_topic("texts")
    code = example_with("TextProducer").replace(BROKER, broker.bootstrap_servers).replace('"texts"', repr(topic))
    with anyio.fail_after(60):
        await anyio.run_process([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env=environment())
    records = await read_all(broker.bootstrap_servers, topic)
    assert len(records) == 100
    assert orjson.loads(records[0].value) == {"text": "The parcel has not arrived.", "lang": "en"}
    assert (records[-1].key, records[-1].value) == (b"msg-1", None)


@pytest.mark.anyio
@pytest.mark.real_kafka("consumer groups that remember offsets")
async def test_following_verdicts(broker: Broker, new_topic: NewTopicName, tmp_path: Path) -> None:
    topic = await new_topic("verdicts")
    strange = verdict("b", "anomaly", p_value=0.001)
    records = [record_of(made) for made in (verdict("a"), strange)]
    await produce(broker.bootstrap_servers, topic, [(record.key, record.value) for record in records])
    code = example_with("VerdictConsumer").replace(BROKER, broker.bootstrap_servers).replace('"verdicts"', repr(topic))
    [line] = await lines_of(code.replace('"alerts"', repr(f"alerts-{topic}")), 1, tmp_path)
    assert orjson.loads(line) == strange.to_dict()


@pytest.mark.anyio
@pytest.mark.kafka
async def test_following_vectors(broker: Broker, new_topic: NewTopicName, tmp_path: Path) -> None:
    topic = await new_topic("vectors")
    records = [record_of(event) for event in (vector_event("hello", id="a"), Deletion("a"))]
    await produce(broker.bootstrap_servers, topic, [(record.key, record.value) for record in records])
    code = example_with("VectorConsumer").replace(BROKER, broker.bootstrap_servers).replace('"vectors"', repr(topic))
    assert await lines_of(code, 2, tmp_path) == ["a (8,) hello", "a deleted"]


class FlatEmbedder(DegreesEmbedder):
    """Embeds any text at 0 degrees."""

    async def embed(self, texts: list[str], purpose: Purpose) -> list[Embedding | Rejection]:  # type: ignore[override]
        return list(await super().embed(["0"] * len(texts), purpose))


@pytest.mark.anyio
async def test_searching(tmp_path: Path) -> None:
    topic = Topic()
    topic.append("msg-1", 0, text="The parcel has not arrived.", lang="en")
    topic.append("msg-2", 0, text="Das Paket ist nicht da.", lang="de")
    async with serving_an_index(topic, FlatEmbedder()) as (http, _):
        code = example_with("SearchClient").replace(INDEXER, str(http.base_url))
        assert await lines_of(code, 1, tmp_path) == ["1.0 msg-1 The parcel has not arrived."]


def is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def test_every_error_and_every_part_of_the_kit_is_explained() -> None:
    surfaces = (streamer, streamer.client)
    errors = {name for surface in surfaces for name in surface.__all__ if is_error(getattr(surface, name))}
    named = {name for span in re.findall(r"`([^`\n]+)`", PAGE) for name in re.findall(r"\w+", span)}
    assert len(errors) > 10
    assert errors <= named
    assert {*streamer.testing.__all__} - named <= {"SPACE", "record"}
