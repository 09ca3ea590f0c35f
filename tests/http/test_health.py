"""Liveness, readiness and metrics of a worker, over HTTP."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamer.http.health import create_health_app
from streamer.http.role_state import RoleState
from streamer.telemetry.waiting import Held
from tests.support.serving import serving

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class CacheStatistics:
    hits_total: int = 7


@dataclass(frozen=True)
class WorkerStatistics:
    records_total: int = 41
    in_flight: int = 3
    oldest_seconds: float | None = None
    paused: bool = True
    provider: str = "p"
    dead_letters_total: Mapping[str, int] = field(
        default_factory=lambda: {"too_long": 2, 'od"d\n': 1}, metadata={"label": "kind", "help": "Given up, by kind"}
    )
    cache: CacheStatistics = CacheStatistics()


class Worker:
    def __init__(self) -> None:
        self.reason: str | None = "rate limited by the provider"
        self.waits: list[Held] = []
        self.lacks: list[Held] = []
        self.numbers = WorkerStatistics()

    def state(self) -> RoleState:
        return RoleState(not_ready=self.reason, waits=self.waits, degraded=self.lacks)

    def statistics(self) -> WorkerStatistics:
        return self.numbers


def samples(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_readiness_says_why_not() -> None:
    worker = Worker()
    async with serving(create_health_app("worker", worker)) as client:
        assert (await client.get("/healthz")).json() == {"alive": True}
        response = await client.get("/readyz")
        assert (response.status_code, response.json()) == (503, {"error": "rate limited by the provider"})
        worker.reason = None
        response = await client.get("/readyz")
        assert (response.status_code, response.json()) == (200, {"ready": True})


NINE = 1_795_856_400.0
DISK = Held("disk_full", "cache: database or disk is full", NINE, None)
DOWN = Held("provider_down", "provider down: answered 500", NINE, NINE + 4)


async def test_readiness_says_what_it_does_without() -> None:
    worker = Worker()
    worker.lacks = [DISK]
    told = [{"reason": "disk_full", "text": DISK.text, "since": "2026-11-28T09:00:00Z", "until": None}]
    async with serving(create_health_app("worker", worker)) as client:
        answer = await client.get("/readyz")
        assert answer.json() == {"error": "rate limited by the provider", "degraded": told}
        worker.reason = None
        response = await client.get("/readyz")
        assert (response.status_code, response.json()) == (200, {"ready": True, "without": DISK.text, "degraded": told})
        worker.lacks = []
        assert (await client.get("/readyz")).json() == {"ready": True}


async def test_readiness_says_since_when_and_until_when_and_so_does_the_overview() -> None:
    worker = Worker()
    worker.waits = [DOWN]
    waits = [
        {"reason": "provider_down", "text": DOWN.text, "since": "2026-11-28T09:00:00Z", "until": "2026-11-28T09:00:04Z"}
    ]
    async with serving(create_health_app("worker", worker)) as client:
        assert (await client.get("/readyz")).json() == {"error": "rate limited by the provider", "waits": waits}
        overview = (await client.get("/v1/overview")).json()
        assert (overview["not_ready"], overview["without"]) == ("rate limited by the provider", None)
        assert (overview["waits"], overview["degraded"]) == (waits, [])
        worker.reason = None  # as of an indexer, which goes on answering searches
        assert (await client.get("/readyz")).json() == {"ready": True, "without": DOWN.text, "waits": waits}


async def test_a_status_is_what_the_role_says() -> None:
    async with serving(create_health_app("worker", Worker(), status=lambda: {"role": "worker"})) as client:
        assert (await client.get("/v1/status")).json() == {"role": "worker"}


async def test_metrics_are_read_at_scrape_time() -> None:
    worker = Worker()
    async with serving(create_health_app("worker", worker)) as client:
        response = await client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=")
        assert samples(response.text) == {
            ("streamer_worker_records_total", ""): 41,
            ("streamer_worker_in_flight", ""): 3,
            ("streamer_worker_paused", ""): 1,
            ("streamer_worker_dead_letters_total", "too_long"): 2,
            ("streamer_worker_dead_letters_total", 'od"d\n'): 1,
            ("streamer_worker_cache_hits_total", ""): 7,
        }
        assert "# TYPE streamer_worker_records_total counter" in response.text
        assert "# TYPE streamer_worker_in_flight gauge" in response.text
        assert "# HELP streamer_worker_dead_letters_total Given up, by kind" in response.text

        worker.numbers = WorkerStatistics(records_total=42)
        response = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
        assert response.headers["content-type"].startswith("application/openmetrics-text")
        assert "streamer_worker_records_total 42.0" in response.text


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer geheim-ß", 200),
        ("bearer  geheim-ß", 200),
        ("Bearer geheim", 401),
        (basic("anybody", "geheim-ß"), 200),
        (basic("", "geheim-ß"), 200),
        (basic("geheim-ß", ""), 401),
        ("Basic geheim-ß", 401),
        ("Basic", 401),
        ("geheim-ß", 401),
        ("", 401),
    ],
)
async def test_a_token_guards_all_but_probes(header: str, status: int) -> None:
    worker = Worker()
    worker.reason = None
    headers = {b"authorization": header.encode()} if header else {}
    async with serving(create_health_app("worker", worker, "geheim-ß")) as client:
        assert (await client.get("/healthz")).status_code == 200
        paths = {"/readyz": status if header else 200, "/metrics": status, "/nothing": 404 if status == 200 else 401}
        for path, expected in paths.items():
            response = await client.get(path, headers=headers)
            assert response.status_code == expected
            if expected == 401:
                assert response.headers["www-authenticate"].startswith('Bearer, Basic realm="streamer')
                assert "geheim" not in response.text
                assert "Authorization" in response.json()["error"]


async def test_without_the_token_readiness_is_a_status_and_no_reason() -> None:
    worker = Worker()
    worker.lacks = [Held("cache", "cache: /home/secret", NINE, None)]
    async with serving(create_health_app("worker", worker, "geheim")) as client:
        refused = await client.get("/readyz")
        assert refused.status_code == 503
        assert "provider" not in refused.text
        assert "Authorization" in refused.json()["error"]
        worker.reason = None
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"ready": True})
        told = await client.get("/readyz", headers={"authorization": "Bearer geheim"})
        assert told.json()["without"] == "cache: /home/secret"
