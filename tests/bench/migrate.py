"""A change of the model under load, back and forth: `python -m tests.bench.migrate [--events 20000]`, one JSON line.

Two spaces of the bundled model, integers and float32, on Apache Kafka, all of it on this machine. The larger part of
the texts is there at the start. The rest comes at a steady rate while the second model embeds all of them, while
searchers ask without a pause, and while the readers are moved there, back, and there again. Every answer is counted.
Those of searches by id are compared afterwards with the vectors of the topic of the space that the answer names.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import orjson

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.topics import TopicSpec, check_topics
from tests.bench.sets import utterances
from tests.support.brokers import Java
from tests.support.processes import streamer
from tests.support.stages import free_port
from tests.support.topics import Pair, produce, read_all

PARTITIONS = 4
SEARCHERS = 2
AT_THE_START = 0.6
RATE = 60  # events a second that come meanwhile
MAX_LAG = 200


@dataclass(slots=True)
class Answers:
    """Of all searchers: when each came, how long it took and of which space it is; some of them whole."""

    came: list[tuple[float, float, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    kept: list[tuple[str, str, list[tuple[str, float]]]] = field(default_factory=list)


async def search(url: str, answers: Answers, ids: list[str], texts: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    async with httpx.AsyncClient(base_url=url, timeout=30.0) as client:
        while True:
            number = int(rng.integers(len(ids)))
            body: dict[str, Any] = {"id": ids[number]} if rng.random() < 0.5 else {"text": texts[number]}
            began = time.perf_counter()
            try:
                response = await client.post("/v1/search", json={**body, "k": 10})
                answer = response.json()
            except httpx.HTTPError as exc:
                answers.failures.append(repr(exc))
                continue
            if response.status_code != 200:
                answers.failures.append(f"{response.status_code} {answer}")
                continue
            now = time.perf_counter()
            answers.came.append((now, now - began, answer["space"]))
            if "id" in body:
                matches = [(match["id"], match["similarity"]) for match in answer["matches"]]
                answers.kept.append((answer["space"], ids[number], matches))
            await anyio.sleep(0.02)


async def migrate(settings: dict[str, object], *arguments: str) -> tuple[int, dict[str, Any], str]:
    with streamer("migrate", settings, *arguments, "--json") as process:
        code = await process.wait(120)
        printed = process.process.stdout.read() if process.process.stdout else b""
        return code, orjson.loads(printed) if printed else {}, process.stderr


async def moved(settings: dict[str, object], *arguments: str) -> float:
    """Tried until it may be; the moment at which the last try began."""
    while True:
        began = time.perf_counter()
        code, _, said = await migrate(settings, *arguments)
        if code == 0:
            return began
        if "not switched" not in said:
            raise AssertionError(said)
        await anyio.sleep(1)


async def trickle(servers: str, topic: str, pairs: list[Pair]) -> None:
    began = time.perf_counter()
    for start in range(0, len(pairs), RATE):
        await produce(servers, topic, pairs[start : start + RATE])
        await anyio.sleep(max(0.0, began + start / RATE + 1 - time.perf_counter()))


async def until_vectors(url: str, count: int) -> str:
    async with httpx.AsyncClient(base_url=url, timeout=30.0) as client:
        while (stats := (await client.get("/v1/stats")).json())["vectors"] < count:  # noqa: ASYNC110
            await anyio.sleep(0.5)
        return str(stats["space"])


async def vectors_of(servers: str, topic: str) -> tuple[dict[str, Any], Counter[str]]:
    documents = [orjson.loads(record.value) for record in await read_all(servers, topic, 300)]
    by_id = {document["id"]: np.array(document["vector"], np.float32) for document in documents}
    return by_id, Counter(document["space"] for document in documents)


async def main(servers: str, folder: Path, events: int) -> None:
    run, texts = uuid.uuid4().hex[:8], utterances()[:events]
    names = {name: f"{name}-{run}" for name in ("texts", "vectors", "verdicts", "dead")}
    specs = [TopicSpec(name, PARTITIONS) for name in names.values()]
    await check_topics(KafkaConnection(bootstrap_servers=servers), specs, create=True)
    settings: dict[str, object] = {
        "kafka.bootstrap_servers": servers, "kafka.group_id": f"bench-{run}", "topics.input": names["texts"],
        "topics.vectors": names["vectors"], "topics.verdicts": names["verdicts"], "topics.dead_letters": names["dead"],
        "topics.migrations": f"migrations-{run}", "cache.path": folder / "cache.sqlite",
        "index.snapshot_path": folder / "index.snapshot", "http.worker_port": (port := free_port()),
        "http.port": (index_port := free_port()),
    }  # fmt: skip
    pairs: list[Pair] = [(f"id-{n}".encode(), text.encode()) for n, text in enumerate(texts)]
    first, url, answers = int(events * AT_THE_START), f"http://127.0.0.1:{index_port}", Answers()
    result: dict[str, Any] = {"bench": "migrate", "events": len(texts)}
    with streamer("run", settings) as worker, streamer("index", settings) as indexer:
        await worker.ready(port)
        await indexer.ready(index_port)
        await produce(servers, names["texts"], pairs[:first])
        old = await until_vectors(url, first)
        async with anyio.create_task_group() as tasks:
            for seed in range(SEARCHERS):
                tasks.start_soon(search, url, answers, [f"id-{n}" for n in range(first)], texts[:first], seed)
            tasks.start_soon(trickle, servers, names["texts"], pairs[first:])
            began = time.perf_counter()
            code, started, said = await migrate(settings, "start", "--to", "provider.precision=float32")
            assert code == 0, said
            new = started["new"]["space"]
            with streamer("run", {**settings, "http.worker_port": free_port()}, "--migration") as second:
                moments = [await moved(settings, "switch", "--max-lag", str(MAX_LAG))]
                result["seconds_until_it_could_be_switched"] = round(moments[0] - began, 1)
                _, seen, _ = await migrate(settings, "status")
                result["agreement"] = seen["agreement"]
                moments.append(await moved(settings, "back"))
                await anyio.sleep(5)
                moments.append(await moved(settings, "switch", "--max-lag", str(MAX_LAG)))
                await until_vectors(url, len(texts))
                code, _, said = await migrate(settings, "finish")
                assert code == 0, said
                await anyio.sleep(2)
                tasks.cancel_scope.cancel()
                assert second.process.poll() is None
        result["rss_of_the_indexer_mb"] = round(indexer.rss / 1e6)
        result["errors_logged"] = sum(line["level"] == "error" for line in indexer.logs)
    held = {}
    for space, topic in ((old, names["vectors"]), (new, started["new"]["topics"]["vectors"])):
        held[space], spaces = await vectors_of(servers, topic)
        result[f"vectors_in_{topic.partition('-')[0]}_{'old' if space == old else 'new'}"] = dict(spaces)
    checked = wrong = 0
    for space, id, matches in answers.kept:
        known = held[space]
        for match, similarity in matches:
            checked += 1
            wrong += abs(float(known[id] @ known[match]) - similarity) > 1e-4
    seconds = sorted(took for _, took, _ in answers.came)
    came = sorted(now for now, _, _ in answers.came)
    result |= {
        "answers": Counter(space for *_, space in answers.came), "failed_searches": len(answers.failures),
        "failures": answers.failures[:3], "similarities_checked": checked, "of_another_space": wrong,
        "answer_ms_p50_p99_max": [round(1000 * seconds[int(q * (len(seconds) - 1))]) for q in (0.5, 0.99, 1.0)],
        "longest_time_without_an_answer_ms": round(1000 * max(b - a for a, b in itertools.pairwise(came))),
        "seconds_from_command_to_first_answer": [
            round(next(now for now, _, space in answers.came if now > moment and space == wanted) - moment, 2)
            for moment, wanted in zip(moments, (new, old, new), strict=True)
        ],
    }  # fmt: skip
    print(orjson.dumps(result).decode(), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--bootstrap-servers")
    arguments = parser.parse_args()
    java = None if arguments.bootstrap_servers else Java()
    try:
        servers = arguments.bootstrap_servers or (java.bootstrap_servers if java else "")
        with tempfile.TemporaryDirectory() as folder:
            anyio.run(main, servers, Path(folder), arguments.events)
    finally:
        if java:
            java.close()
