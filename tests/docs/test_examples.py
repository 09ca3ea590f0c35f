"""The examples run, each as a program of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamer.core.events import TopicPartition
from streamer.core.vector_events import TextSource
from streamer.core.verdicts import Verdict, VerdictKind, encode_verdict
from tests.docs.markdown import ROOT
from tests.support.brokers import Broker, NewTopicName
from tests.support.topics import produce, read_all

EXAMPLES = ROOT / "examples"
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")} | {
    "PYTHONPATH": str(ROOT),
    "PYTHONUNBUFFERED": "1",
}

pytestmark = pytest.mark.anyio


async def first_lines(count: int, *command: str, folder: Path) -> list[str]:
    """The first lines of what an example prints, which goes on for ever."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=folder, env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout
    assert child.stderr
    try:
        async with asyncio.timeout(40):
            lines = [(await child.stdout.readline()).decode().strip() for _ in range(count)]
        assert all(lines), (await child.stderr.read()).decode()
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()
    return lines


def test_all_examples_are_listed_and_tested() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    listed, tested = (EXAMPLES / "README.md").read_text(), Path(__file__).read_text()
    assert names
    assert {name for name in names if f"[{name}]({name})" not in listed or f'"{name}"' not in tested} == set()


async def test_own_provider(tmp_path: Path) -> None:
    lines = await first_lines(2, str(EXAMPLES / "own_provider.py"), folder=tmp_path)
    assert [line.split(" ", 1)[1] for line in lines] == ["The parcel arrived wet.", "Where is my parcel?"]


@pytest.mark.real_kafka("an idempotent producer")
async def test_publish_texts(broker: Broker, new_topic: NewTopicName, tmp_path: Path) -> None:
    topic = await new_topic("texts")
    example = str(EXAMPLES / "publish_texts.py")
    assert await first_lines(1, example, broker.bootstrap_servers, topic, folder=tmp_path) == [
        f"published 3 texts to {topic} and deleted one"
    ]
    records = await read_all(broker.bootstrap_servers, topic)
    assert [record.key for record in records] == [b"msg-1", b"msg-2", b"msg-3", b"msg-3"]
    assert records[-1].value is None


@pytest.mark.kafka
async def test_consume_vectors(broker: Broker, new_topic: NewTopicName, tmp_path: Path) -> None:
    topic = await new_topic("vectors")
    value = b'{"id": "x", "vector": [%s], "space": "s", "dimensions": 2}'
    records = [(b"a", value % b"1, 0"), (b"b", value % b"0, 1"), (b"c", value % b"0.6, 0.8"), (b"b", None)]
    await produce(broker.bootstrap_servers, topic, records)
    example = str(EXAMPLES / "consume_vectors.py")
    assert await first_lines(4, example, broker.bootstrap_servers, topic, folder=tmp_path) == [
        "a is the first, 2 dimensions",
        "b is nearest to a, cosine 0.000",
        "c is nearest to b, cosine 0.800",
        "b deleted",
    ]


def verdict_event(id: str, kind: VerdictKind) -> tuple[bytes, bytes | None]:
    source = TextSource(TopicPartition("texts", 1), 7, 5)
    verdict = Verdict(
        id=id, verdict=kind, similarity=0.1, duplicate_of=None, nearest=[], space="s", source=source, p_value=0.004
    )
    return id.encode(), encode_verdict(verdict, "verdicts").value


@pytest.mark.real_kafka("consumer groups that remember offsets")
async def test_alert_on_anomalies(broker: Broker, new_topic: NewTopicName, tmp_path: Path) -> None:
    topic = await new_topic("verdicts")
    verdicts = [verdict_event("plain", "ordinary"), verdict_event("odd", "anomaly"), verdict_event("copy", "ordinary")]
    await produce(broker.bootstrap_servers, topic, verdicts)
    example = str(EXAMPLES / "alert_on_anomalies.py")
    assert await first_lines(1, example, broker.bootstrap_servers, topic, folder=tmp_path) == [
        "ALERT odd: unlike 99.6% of the stream, from texts/1/7"
    ]
