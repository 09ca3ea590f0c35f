"""Liveness, readiness and metrics of a worker, over HTTP."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamer.http.health import create_health_app
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
        self.numbers = WorkerStatistics()

    def ready(self) -> str | None:
        return self.reason

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


async def test_readiness_says_what_it_does_without() -> None:
    worker = Worker()
    lacking: str | None = "cache: database or disk is full"
    async with serving(create_health_app("worker", worker, degraded=lambda: lacking)) as client:
        assert (await client.get("/readyz")).json() == {"error": "rate limited by the provider"}
        worker.reason = None
        response = await client.get("/readyz")
        assert (response.status_code, response.json()) == (200, {"ready": True, "without": lacking})
        lacking = None
        assert (await client.get("/readyz")).json() == {"ready": True}


async def test_readiness_says_since_when_and_until_when() -> None:
    worker, waits = Worker(), [{"reason": "provider_down", "text": "t", "since": "2026-11-28T09:00:00Z", "until": None}]
    status: dict[str, object] = {"role": "worker", "waits": waits, "degraded": []}
    async with serving(create_health_app("worker", worker, status=lambda: status)) as client:
        response = await client.get("/readyz")
        assert response.json() == {"error": "rate limited by the provider", "waits": waits}
        worker.reason = None
        status |= {"waits": [], "degraded": waits}
        assert (await client.get("/readyz")).json() == {"ready": True, "degraded": waits}
        assert (await client.get("/v1/status")).json() == status


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
    async with serving(create_health_app("worker", worker, "geheim", degraded=lambda: "cache: /home/secret")) as client:
        refused = await client.get("/readyz")
        assert refused.status_code == 503
        assert "provider" not in refused.text
        assert "Authorization" in refused.json()["error"]
        worker.reason = None
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"ready": True})
        told = await client.get("/readyz", headers={"authorization": "Bearer geheim"})
        assert told.json() == {"ready": True, "without": "cache: /home/secret"}
