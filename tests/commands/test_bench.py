"""`streamer bench`: what is measured, and how it is shown."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from rich.console import Console
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from streamer.bench.local import WORDS
from streamer.commands.bench import chosen, formats_of, numbers_of
from streamer.commands.bench_view import table
from streamer.errors import ConfigurationError
from tests.commands.in_process import empty_folder, streamer  # noqa: F401  a fixture for all tests here
from tests.support.brokers import NOBODY, Broker

pytestmark = pytest.mark.anyio


def test_names() -> None:
    assert chosen(["cache", "index", "cache"]) == ["cache", "index"]
    assert "latency" in chosen(["all"])
    with pytest.raises(ConfigurationError, match="make bench NAME=peers"):
        chosen(["peers"])
    with pytest.raises(ConfigurationError, match="there is no bench 'speed'"):
        chosen(["speed"])


def test_numbers_as_people_write_them() -> None:
    assert numbers_of("--vectors", "10k, 2M,7") == [10_000, 2_000_000, 7]
    assert numbers_of("--vectors", None) == []
    for wrong in ("10,,20", "0", "-5", "1.5k", "many"):
        with pytest.raises(ConfigurationError, match="whole numbers"):
            numbers_of("--vectors", wrong)


def test_formats() -> None:
    assert formats_of("binary,json") == ["binary", "json"]
    with pytest.raises(ConfigurationError, match="json or binary"):
        formats_of("avro")


async def measured(*arguments: str) -> list[dict[str, Any]]:
    """What it prints is held against the schema."""
    done = await streamer("bench", *arguments, "--json")
    assert done.code == 0, done.stderr
    return [orjson.loads(line) for line in done.stdout.splitlines()]


def figures_of(line: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {figure["name"]: figure for figure in line["figures"]}


def test_the_loops_that_are_compared_with_read_by_the_client_as_it_comes() -> None:
    """Ours reads otherwise, see adapters/kafka/records.py; what is said about these loops must be theirs."""
    look = "import streamer.bench.bare; from aiokafka.consumer import fetcher; from aiokafka import conn; "
    look += "print(fetcher.MemoryRecords.__module__, fetcher.PartitionRecords.__module__, conn.READER_LIMIT)"
    said = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout
    assert all(module.startswith("aiokafka.") for module in said.split()[:2])
    assert said.split()[2] == "65536"


@pytest.mark.slow
async def test_index_and_cache_beside_what_they_are_compared_with() -> None:
    small = ("--vectors", "600", "--entries", "300", "--dimensions", "16")
    lines = await measured("index", "cache", "--runs", "1", *small)
    assert [(line["bench"], line["parameters"].get("vectors")) for line in lines] == [
        ("index", 600), ("cache", None)
    ]  # fmt: skip
    for line in lines:
        assert line["peak_rss_bytes"] > 10_000_000
        for figure in line["figures"]:
            assert figure["low"] <= figure["median"] <= figure["high"]
    assert figures_of(lines[0])["search, 1 at once"]["reference"]["name"] == "float32 product"
    assert figures_of(lines[1])["hits, 256 at once"]["ratio"]["median"] > 0


@pytest.mark.slow
async def test_a_static_model_by_the_length_of_its_texts(tmp_path: Path) -> None:
    save_file({"embeddings": np.eye(len(WORDS) + 1, dtype=np.float32)}, tmp_path / "model.safetensors")
    names = {"[UNK]": 0} | {word: n for n, word in enumerate(WORDS, 1)}
    tokenizer = Tokenizer(WordLevel(names, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"normalize": True}))
    model = ("--provider", "static", "--model", str(tmp_path))
    lines = await measured("local", "--runs", "1", "--tokens", "5,700", "--texts", "8", *model)
    assert [line["parameters"]["tokens"] for line in lines] == [5, 700]
    assert all(line["figures"][0]["unit"] == "texts/s" for line in lines)


@pytest.mark.kafka
async def test_on_a_broker(broker: Broker) -> None:
    tiny = (
        "--runs",
        "1",
        "--dimensions",
        "16",
        "--partitions",
        "2",
        "--events",
        "400",
        "--vectors",
        "300",
        "--seconds",
        "0.5",
    )
    # The embedded broker has no idempotence, and lets a first member of a group wait.
    knows = ("--set", f"kafka.idempotent={broker.is_real}", "--set", "kafka.session_timeout_ms=6000",
             "--set", "kafka.fetch_max_wait_ms=20")  # fmt: skip
    there = (*tiny, "-b", broker.bootstrap_servers, *knows)
    lines = await measured("overhead", "latency", "--format", "json", *there)
    assert [(line["bench"], line["parameters"]["format"]) for line in lines] == [
        ("overhead", "json"), ("latency", "json")
    ]  # fmt: skip
    latency = figures_of(lines[1])
    least = latency["idle, p50"]["reference"]["median"]
    assert latency["idle, p50"]["median"] >= least == 45.0  # linger and provider
    alone = "idle, a record from producer to consumer, p50"
    assert {alone, "at 80 % of the maximum, p99", "stage publish, mean"} <= latency.keys()
    if broker.is_real:  # the embedded one tells ends of topics that lie before their last records
        (restored,) = await measured("restore", *there)
        assert restored["parameters"]["format"] == "binary"
        assert {"restored from the topic", "restored from a snapshot"} <= figures_of(restored).keys()


@pytest.mark.slow
async def test_a_broker_that_is_not_there_is_one_line_and_its_code() -> None:
    done = await streamer("bench", "overhead", "-b", NOBODY, "--set", "kafka.connect_timeout_ms=300")
    assert done.code == 3
    assert done.stderr.startswith(f"streamer: Kafka at {NOBODY} cannot be reached")
    assert "Traceback" not in done.stderr


async def test_a_service_is_not_a_local_model() -> None:
    done = await streamer("bench", "local", "--provider", "openai", "--set", "provider.api_key=none")
    assert (done.code, "calls a service" in done.stderr) == (2, True)


def test_a_table_names_what_differs() -> None:
    spread = {"median": 2.0, "low": 1.0, "high": 3.0, "cpu_us": 5.0}
    figure = {"name": "search", "unit": "ms", **spread, "reference": {"name": "product", **spread}}
    figure["ratio"] = {"median": 1.0, "low": 1.0, "high": 1.0}
    machine = {"processor": "one", "cores": 2, "load": 0.1}
    points = [
        {"parameters": {"vectors": size, "like": "texts"}, "runs": 5, "machine": machine, "figures": [figure],
         "peak_rss_bytes": 1e8} for size in (1000, 2000)
    ]  # fmt: skip
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table("index", points))
    text = console.export_text()
    for words in ("medians of 5 runs", "vectors 1,000", "vectors 2,000", "2 (1 to 3) ms", "beside: product", "100 MB"):
        assert words in text
    assert "like" not in text


async def test_restore_is_not_measured_on_the_embedded_broker() -> None:
    alone = await streamer("bench", "restore")
    assert alone.code == 2
    assert "the bench restore needs Apache Kafka (-b HOST:PORT)" in alone.stderr
