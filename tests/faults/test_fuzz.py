"""Random records of other people, legal and hostile, through a worker and an indexer on real Kafka.

STREAMER_FUZZ_RECORDS (2,000) and STREAMER_FUZZ_SEED (1) say how many and which.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import pytest

from streamer.adapters.kafka import lenient_records  # noqa: F401  # this process, too, reads any names
from tests.faults.scene import read_everything
from tests.support.brokers import Broker, NewTopicName
from tests.support.processes import StreamerProcess, streamer
from tests.support.raw_headers import Raw, produce_raw
from tests.support.stages import Stage
from tests.support.vendors.openai import FakeOpenAI

COUNT = int(os.environ.get("STREAMER_FUZZ_RECORDS", "2000"))
SEED = int(os.environ.get("STREAMER_FUZZ_SEED", "1"))
PARTITIONS = 3

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300 + COUNT // 50)]


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def good(rng: random.Random, n: int) -> bytes:
    """A value with a text that can be embedded, in one of the ways of the world."""
    text = f"parcel {n} of {rng.choice(['Oslo', 'Żary', '東京', '🚲'])} is {rng.choice(['late', 'lost', 'here'])}"
    document = {"text": text, "stars": rng.randrange(5), "tags": [rng.random()] * rng.randrange(4)}
    plain = orjson.dumps(document)
    return rng.choice(
        [
            plain,
            text.encode(),
            b"\xef\xbb\xbf" + plain,
            b"\x00\x00\x00\x00" + bytes([rng.randrange(256)]) + plain,
            plain[:-1] + b', "score": NaN}',
            plain[:-1] + rb', "title": "cut \ud83d"}',
            plain[:-1] + b', "deep": ' + nested(rng.randrange(1, 120)) + b"}",
            orjson.dumps({"specversion": "1.0", "id": f"e{n}", "source": "/x", "type": "t", "data": document}),
            orjson.dumps(text),
        ]
    )


def odd(rng: random.Random) -> bytes | None:
    """A value that is no text; what becomes of it is not what this test is about."""
    return rng.choice(
        [
            None,
            b"",
            rng.randbytes(rng.randrange(1, 300)),
            b'{"text": "x", "m": ' + nested(rng.randrange(129, 1500)) + b"}",
            b"\x00\x00\x00\x00\x07\x0corder\x24late",
            '"Late," she said'.encode("utf-16-le"),
            b'{"text": "\xe2\x80\x8b"}',
            b"{" + rng.randbytes(20),
            b"null",
        ]
    )


def headers(rng: random.Random) -> list[tuple[bytes, bytes | None]]:
    large = rng.random() < 0.003
    names = [b"trace", b"", b"streamer-space", "é".encode(), b"ce_id"]
    return [(rng.choice(names), None if rng.random() < 0.1 else rng.randbytes(200_000 if large else rng.randrange(50)))
            for _ in range(2 if large else rng.randrange(4))]  # fmt: skip


def draw(rng: random.Random, n: int) -> tuple[Raw, int | None]:
    """Well-formed records have a key that begins with `good`."""
    now = 1_764_000_000_000
    timestamp = rng.choice([None, None, None, 0, now, now * 1000, 4_102_444_800_000, 2**63 - 1])
    if rng.random() < 0.6:
        return (b"good-%d" % n, good(rng, n), headers(rng)), timestamp
    key = rng.choice([None, b"", rng.randbytes(8), b"k" * rng.randrange(5000), b"a\nb"])
    bad_name = [(b"tr\xffce", b"x")] if rng.random() < 0.2 else []
    value = odd(rng) if rng.random() < 0.8 or not bad_name else b"a text"
    return (key, value, [*headers(rng), *bad_name]), timestamp


def stranger(rng: random.Random, n: int) -> Raw:
    """A record of the vector topic that no worker has written."""
    vector = rng.choice([[1.0], "x", [[1]], None])
    document = orjson.dumps({"vector": vector, "space": "s", "dimensions": 1, "source": {"topic": 5}})
    far = document.replace(b'{"topic":5}', b'{"topic": "t", "partition": 0, "offset": 1e300}')
    value = rng.choice(
        [document, far, rng.randbytes(30), document[:-1] + b', "metadata": {"m": ' + nested(400) + b"}}"]
    )
    names = rng.choice([[(b"content-type", b"application/json")], [(b"tr\xffce", b"x")], []])
    return rng.choice([b"x%d" % n, b"k" * 300_000 if n % 50 == 0 else b"y", rng.randbytes(6)]), value, names


async def _searched(port: int) -> None:
    async with httpx.AsyncClient() as client:
        for body in ({"text": "parcel late"}, {"text": "x \ud83d"}, {"id": "good-1"}, {"id": "a\nb"}):
            content = json.dumps(body).encode()  # which writes halves of surrogate pairs, too
            answer = await client.post(
                f"http://127.0.0.1:{port}/v1/search", content=content, headers={"content-type": "application/json"}
            )
            assert answer.status_code < 500, answer.text


async def _until_committed(stage: Stage, ends: dict[int, int], processes: list[StreamerProcess]) -> None:
    with anyio.fail_after(120 + COUNT / 100):
        while {p: min(o, ends[p]) for p, o in (await stage.committed()).items()} != ends:
            for process in processes:
                assert process.process.poll() is None, process.stderr[-4000:]
            await anyio.sleep(0.5)


@pytest.mark.real_kafka("refusals of single records")
@pytest.mark.parametrize("guarantee", ["at-least-once", "exactly-once"])
async def test_random_records_of_other_people(
    broker: Broker, new_topic: NewTopicName, tmp_path: Path, guarantee: str
) -> None:
    """Nobody exits or is stuck; all records have an outcome, every well-formed one its vector and verdict once."""
    wide = {"message.timestamp.after.max.ms": str(2**63 - 1), "max.message.bytes": "3000000"}
    texts = await new_topic("texts", partitions=PARTITIONS, configs=wide)
    vectors = await new_topic("vectors", partitions=PARTITIONS)
    dead = await new_topic("dead", configs={"max.message.bytes": "50000"})
    stage = Stage(broker, texts, vectors, await new_topic("verdicts"), dead, tmp_path)
    stage.settings["delivery.guarantee"] = guarantee
    rng = random.Random(SEED)
    shares: list[list[tuple[Raw, int | None]]] = [[] for _ in range(PARTITIONS)]
    for n in range(COUNT):
        rng.choice(shares).append(draw(rng, n))
    wanted = {raw[0] for share in shares for raw, _ in share if raw[0] and raw[0].startswith(b"good")}

    async with FakeOpenAI(key="sk-test") as service:
        stage.with_fake_openai(service)
        with streamer("run", stage.settings) as worker, streamer("index", stage.settings) as indexer:
            await worker.ready(stage.port)
            await indexer.ready(stage.index_port)
            strangers = [stranger(rng, n) for n in range(COUNT // 10)]
            await produce_raw(stage.bootstrap_servers, vectors, strangers)
            for partition, share in enumerate(shares):
                raws, timestamps = [raw for raw, _ in share], [timestamp for _, timestamp in share]
                await produce_raw(stage.bootstrap_servers, texts, raws, partition=partition, timestamps=timestamps)
            ends = {partition: len(share) for partition, share in enumerate(shares)}
            await _until_committed(stage, ends, [worker, indexer])
            verdicts: list[Any] = []
            with anyio.fail_after(120 + COUNT / 100):
                while not wanted <= {record.key for record in verdicts}:
                    assert indexer.process.poll() is None, indexer.stderr[-4000:]
                    verdicts = await read_everything(stage.bootstrap_servers, stage.verdicts, "read_committed")
            await _searched(stage.index_port)
            for process in (worker, indexer):
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0, process.stderr[-4000:]

    published = await read_everything(stage.bootstrap_servers, vectors, "read_committed")
    letters = await read_everything(stage.bootstrap_servers, dead, "read_committed")
    sources = [dict(r.headers).get("streamer-source", b"").decode("utf-8", "replace") for r in [*published, *letters]]
    ours = Counter(source for source in sources if source.startswith(texts))
    assert set(ours) == {f"{texts}/{p}/{n}" for p, share in enumerate(shares) for n in range(len(share))}
    vectors_of = Counter(r.key for r in published if r.key in wanted and r.value is not None)
    assert vectors_of == Counter(wanted), vectors_of - Counter(wanted)
    assert Counter(r.key for r in verdicts if r.key in wanted) == Counter(wanted)
    twice = [(source, count) for source, count in ours.items() if count > 1]
    if guarantee == "exactly-once":
        assert not twice
    assert len(twice) <= COUNT / 100, "a dead letter may come twice, after one that its topic refused"
