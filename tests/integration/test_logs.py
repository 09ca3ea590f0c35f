"""The log of real processes: what an outage leaves there, what is counted, and that no text or secret is in it."""

from __future__ import annotations

import signal
import time
from collections import Counter
from typing import Any

import httpx
import orjson
import pytest

from tests.support.processes import StreamerProcess, streamer
from tests.support.stages import Stage
from tests.support.topics import read_until
from tests.support.vendors.misbehaviour import NOTHING, Fault, refusal
from tests.support.vendors.openai import FakeOpenAI
from tests.support.vendors.server import Request

pytestmark = [pytest.mark.anyio, pytest.mark.kafka]

KEY = "sk-planted-key-0123456789"
TOKEN = "planted-token-0123456789"
TEXT = "the planted words of a letter nobody else may read"


def is_outage(line: dict[str, Any]) -> bool:
    return line.get("part") == "provider"


def is_dead_letter(line: dict[str, Any]) -> bool:
    return str(line["event"]).startswith("dead letter")


async def readiness(stage: Stage) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://127.0.0.1:{stage.port}/readyz")).text


async def stopped(process: StreamerProcess) -> None:
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0, process.stderr


async def test_an_outage_is_a_line_at_its_beginning_at_each_change_and_at_its_end(stage: Stage) -> None:
    """First hour D1. Refused for all that the provider can say; the account's probes, 15 and then 30 seconds apart, set
    the pace."""
    kinds = [refusal(500), refusal(429), refusal(429, "insufficient_quota"), refusal(401)]
    async with FakeOpenAI(key=KEY) as service:
        stage.with_fake_openai(service)
        with streamer("run", stage.settings) as worker:
            await worker.ready(stage.port)
            service.always = kinds[0]
            await stage.produce([(b"%d" % n, b"text number %d" % n) for n in range(50)])
            for told, fault in enumerate(kinds, 1):
                service.always = fault
                await worker.logged(told, is_outage)
            assert "answered 401" in await readiness(stage)
            service.always = NOTHING
            await worker.logged(5, is_outage)
            await worker.ready(stage.port)
            await read_until(stage.bootstrap_servers, stage.vectors, lambda records: len(records) >= 50)
            await stopped(worker)
    outage = [line for line in worker.logs if is_outage(line)]
    assert [(line["level"], line["event"]) for line in outage] == [
        ("warning", "provider unavailable"),
        *[("warning", "provider still unavailable, for another reason")] * 3,
        ("info", "provider available again"),
    ]
    reasons = ["down: openai answered 500", "rate limited until", "quota", "401: “…”; check the API key"]
    for line, words in zip(outage[:-1], reasons, strict=True):
        assert words in line["reason"]
    seconds = [line["seconds"] for line in outage[1:]]
    assert seconds == sorted(seconds)
    assert seconds[-1] > 5
    assert {line["logger"].partition(".")[0] for line in worker.logs} == {"streamer"}


async def test_equal_dead_letters_are_counted(stage: Stage) -> None:
    await stage.produce([(b"%d" % n, b'{"body": "number %d"}' % n) for n in range(1_000)])
    began = time.monotonic()
    with streamer("run", stage.settings) as worker:  # never ready: nearly all of its records are dead letters
        await read_until(stage.bootstrap_servers, stage.dead_letters, lambda records: len(records) >= 1_000)
        await stopped(worker)
    took = time.monotonic() - began
    first, *counted = [line for line in worker.logs if is_dead_letter(line)]
    assert (first["kind"], first["reason"]) == (
        "missing_text",
        "no text at 'text'; the record has body: set input.text_field",
    )
    assert first["source"].startswith(f"{stage.texts}/")
    assert len(counted) <= 1 + took / 5  # seconds between two of them, and the end
    assert sum(line["count"] for line in counted) == 999
    assert all(line["source"] != first["source"] for line in counted)


def quoting(request: Request) -> Fault:
    """What a talkative vendor says: 400 with the text in it, unless the text is harmless."""
    text = request.json["input"]
    said = text[0] if isinstance(text, list) else text
    if "planted" not in str(text):
        return NOTHING
    body = {"error": {"message": f"{KEY}: cannot embed {said}", "type": "invalid_request_error"}}
    return Fault(status=400, body=orjson.dumps(body))


@pytest.mark.parametrize("guarantee", ["at-least-once", "exactly-once"])
async def test_no_text_key_or_token_is_in_any_line_at_debug_level(stage: Stage, guarantee: str) -> None:
    if guarantee == "exactly-once" and not stage.settings["kafka.idempotent"]:
        pytest.skip("the embedded broker has no transactions")
    stage.settings |= {
        "log.level": "debug",
        "http.token": TOKEN,
        "output.include_text": True,
        "delivery.guarantee": guarantee,
    }
    said = {"error": {"message": f"cannot serve {TEXT} to {KEY}"}}
    async with FakeOpenAI(key=KEY) as service:
        stage.with_fake_openai(service)
        service.misbehave(*[Fault(status=status, body=orjson.dumps(said)) for status in (500, 503, 429, 502, 500)])
        service.always = quoting
        pairs = [(b"bad%d" % n, f"{TEXT} {n}".encode()) for n in range(3)]
        pairs += [(b"good%d" % n, b"a harmless letter, number %d" % n) for n in range(20)]
        pairs += [(b"json", orjson.dumps({"body": TEXT})), (b"broken", f"{{{TEXT}".encode())]
        await stage.produce(pairs)
        with streamer("run", stage.settings) as worker, streamer("index", stage.settings) as indexer:
            await read_until(stage.bootstrap_servers, stage.dead_letters, lambda records: len(records) >= 5)
            await read_until(stage.bootstrap_servers, stage.vectors, lambda records: len(records) >= 20)
            headers = {"authorization": f"Bearer {TOKEN}"}
            async with httpx.AsyncClient(headers=headers, base_url=f"http://127.0.0.1:{stage.index_port}") as client:
                await indexer.logged(1, lambda line: line["event"] == "caught up")
                (await client.post("/v1/search", json={"text": "a harmless letter, number 3"})).raise_for_status()
                await client.post("/v1/search", json={"text": TEXT})
            await stopped(worker)
            await stopped(indexer)
    for process in (worker, indexer):
        for planted in ("planted words", "harmless letter", KEY, TOKEN):
            assert planted not in process.stderr
        assert all(line.startswith("{") for line in process.stderr.splitlines())
    levels = Counter(line["level"] for line in worker.logs)
    assert {"info", "warning"} <= levels.keys()
    assert any(line["logger"].startswith("httpx") for line in worker.logs), "the libraries are heard"
    assert {line["kind"] for line in worker.logs if is_dead_letter(line)} == {"rejected", "missing_text", "undecodable"}
