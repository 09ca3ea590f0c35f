"""`streamer try`: what a file or a topic would come to, and that a run then comes to just that."""

# ruff: noqa: ASYNC240 - a test may block its own loop

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from streamer.app.embedder import open_embedding
from streamer.core.events import Record, TopicPartition
from streamer.settings import load_settings
from tests.commands.in_process import empty_folder, streamer  # noqa: F401  a fixture for all tests here
from tests.support.brokers import Broker, NewTopicName
from tests.support.memory_worker import worked_off
from tests.support.topics import produce
from tests.support.vendors.openai import FakeOpenAI
from tests.support.vendors.services import KEY

pytestmark = pytest.mark.anyio


def lines(stdout: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stdout.splitlines()]


def write(folder: Path) -> Path:
    rows: list[dict[str, Any]] = [{"text": f"text {n % 90} {'word ' * (n % 40)}", "id": n} for n in range(200)]
    rows[17] = {"body": "no text here"}
    rows[18] = {"text": "  "}
    path = folder / "rows.jsonl"
    path.write_text("\n".join(orjson.dumps(row).decode() for row in rows) + "\nnot json\n")
    return path


def records_of(path: Path) -> list[Record]:
    """What `streamer publish` makes of the lines that it takes."""
    found = [orjson.loads(line) for line in path.read_text().splitlines() if line.startswith('{"text"')]
    tp = TopicPartition("texts", 0)
    return [Record(tp, offset, None, orjson.dumps(row), 0) for offset, row in enumerate(found)]


async def test_a_file_is_decoded_counted_and_priced_and_nobody_is_asked(tmp_path: Path) -> None:
    path = write(tmp_path)
    async with FakeOpenAI(key=KEY) as server:
        done = await streamer(
            "try", str(path), "--json", STREAMER_PROVIDER__NAME="openai", STREAMER_PROVIDER__BASE_URL=server.base_url
        )
        assert not server.requests
    assert done.code == 0, done.stderr
    *details, summary = lines(done.stdout)
    assert [detail["type"] for detail in details] == ["unpublishable", "unpublishable", "dead_letter"]
    assert details[0]["place"].endswith("rows.jsonl:18")
    assert details[2]["kind"] == "empty_text"
    assert (summary["records"], summary["texts"]) == (199, 198)
    assert summary["distinct_texts"] > 90
    assert summary["cost_usd"] == pytest.approx(summary["tokens"] * 0.02 / 1e6)
    assert not summary["tokens_are_exact"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["rows.jsonl"], "no cache was begun"


async def test_people_read_what_it_rests_on(tmp_path: Path) -> None:
    done = await streamer("try", str(write(tmp_path)), "--provider", "openai", "--latency-ms", "500")
    assert done.code == 0, done.stderr
    for words in (
        "199: 198 texts, 1 dead letter",
        "2 lines cannot be published; the first is",
        "empty_text 1; the first is",
        "USD at 0.02 USD a million tokens (list price of 2026-11-28)",
        "if a request takes 0.5 s",
        "Nothing was embedded, published or committed.",
    ):
        assert words in done.stdout


async def test_a_local_model_counts_exactly_and_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("The parcel arrived wet.\nWhere is my order?\n")
    *_, summary = lines((await streamer("try", str(path), "--json")).stdout)
    assert (summary["tokens_are_exact"], summary["cost_usd"], summary["requests"]) == (True, 0.0, 1)
    settings = load_settings(None, {}, {"cache.enabled": False})
    async with open_embedding(settings) as stack:
        await stack.embedder.embed(["The parcel arrived wet.", "Where is my order?"], "document")
        assert summary["tokens"] == stack.dispatcher.statistics().tokens_total


async def test_a_run_makes_the_batches_requests_and_tokens_that_were_foretold(tmp_path: Path) -> None:
    """The run is a worker of real parts on a fake service, whose tokenizer is given as the price of exactness."""
    path = write(tmp_path)
    options = {
        "provider.name": "openai", "provider.api_key": KEY, "provider.dimensions": 16, "batch.max_events": 64,
        "provider.max_items": 40, "batch.linger_ms": 500, "cache.path": str(tmp_path / "run.sqlite"),
    }  # fmt: skip
    async with FakeOpenAI(key=KEY) as server:
        server.latency = lambda _: 0.2
        settings = load_settings(None, {}, options | {"provider.base_url": server.base_url})
        flags = [f"--set={name}={value}" for name, value in options.items()]
        done = await streamer("try", str(path), "--json", "--latency-ms", "200", *flags)
        *_, summary = lines(done.stdout)
        async with open_embedding(settings) as stack:
            ran = await worked_off(settings, stack, records_of(path))
        assert (summary["batches"], summary["requests"]) == (ran.batches_total, len(server.requests))
        # Without a tokenizer at hand, tokens are estimated on the high side.
        assert server.billed_tokens <= summary["tokens"] <= 1.4 * server.billed_tokens
    again = await streamer("try", str(path), "--json", *flags)
    assert (lines(again.stdout)[-1]["cached_texts"], lines(again.stdout)[-1]["requests"]) == (
        summary["distinct_texts"],
        0,
    )


@pytest.mark.real_kafka("ends of partitions, which say where the last records are")
async def test_the_last_records_of_a_topic_are_tried_and_its_group_notices_nothing(
    broker: Broker, new_topic: NewTopicName
) -> None:
    topic = await new_topic("texts", partitions=3)
    values = [b"text %d" % number for number in range(50)] + [b" ", b"{bad"]
    await produce(broker.bootstrap_servers, topic, [(None, value) for value in values])
    done = await streamer(
        "try", "--topic", topic, "--last", "20", "--provider", "openai", "--json", "-b", broker.bootstrap_servers
    )
    assert done.code == 0, done.stderr
    *details, summary = lines(done.stdout)
    assert summary["records"] == 20
    assert summary["texts"] == 20 - len(details)
    assert all(detail["place"].startswith(f"{topic}/") for detail in details)
    missing = await streamer("try", "--topic", "no-such-topic", "-b", broker.bootstrap_servers)
    assert missing.code == 3
    assert "does not exist" in missing.stderr


async def test_a_file_and_a_topic_at_once_are_refused(tmp_path: Path) -> None:
    done = await streamer("try", str(write(tmp_path)), "--topic", "texts")
    assert done.code == 2
    assert "one of them" in done.stderr
