"""The numbers of several processes as those of one: what `streamer run --workers` serves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streamer.http.answers import json_response
from streamer.http.health import REASON_WITHHELD, create_app, is_anonymous

Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]  # name of the sample, labels

GROWING = ("counter", "histogram")
# Of gauges. What all processes of an account or a store know together must not be counted twice; an age, a lag and a
# flag that somebody waits are those of the worst.
LARGEST = ("_seconds", "_info", "_usd", "_day_tokens", "_day_requests", "_limit_reached", "_waiting", "_degraded",
           "_consumer_lag", "_lowest_unfinished_offset")  # fmt: skip
SMALLEST = ("_ready", "_available", "process_start_time_seconds")


class Sums:
    """Feed it each process's page of metrics; it adds them up. What grows never shrinks when a process ends."""

    def __init__(self) -> None:
        self._latest: dict[int, dict[str, Metric]] = {}
        self._ended: dict[str, Metric] = {}

    def seen(self, process: int, page: str) -> None:
        """The latest page (Prometheus' text format) of a process."""
        self._latest[process] = {metric.name: metric for metric in text_string_to_metric_families(page)}

    def ended(self, process: int) -> None:
        """What it counted stays; the rest is gone with it."""
        growing = {name: m for name, m in self._latest.pop(process, {}).items() if m.type in GROWING}
        self._ended = {metric.name: metric for metric in summed([self._ended, growing])}

    def total(self) -> Iterator[Metric]:
        return summed([self._ended, *self._latest.values()])


class SumsCollector(Collector):
    """The totals, for a registry."""

    def __init__(self, sums: Sums) -> None:
        self._sums = sums

    def collect(self) -> Iterator[Metric]:
        return self._sums.total()


def summed(pages: Iterable[Mapping[str, Metric]]) -> Iterator[Metric]:
    """Each metric once, its samples put together by name and labels."""
    found: dict[str, list[Metric]] = {}
    for page in pages:
        for name, metric in page.items():
            found.setdefault(name, []).append(metric)
    for name, metrics in found.items():
        first = metrics[0]
        total = Metric(name, first.documentation, first.type)
        values: dict[Key, list[float]] = {}
        for metric in metrics:
            for sample in metric.samples:
                if not sample.name.endswith("_created"):
                    values.setdefault((sample.name, tuple(sorted(sample.labels.items()))), []).append(sample.value)
        total.samples = [
            Sample(sample, dict(labels), together(name, first.type, some)) for (sample, labels), some in values.items()
        ]
        yield total


def together(name: str, kind: str, values: list[float]) -> float:
    """What the values of several processes are for all of them."""
    if kind not in GROWING:
        if name.endswith(SMALLEST):
            return min(values)
        if name.endswith(LARGEST):
            return max(values)
    return sum(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Why one is not ready, and what one does without, in words; None where there is nothing to say. `waits`,
    `degraded`: what each of them lists in `/readyz`, with the number of the `worker`."""

    not_ready: str | None = None
    without: str | None = None
    waits: Sequence[Mapping[str, Any]] = ()
    degraded: Sequence[Mapping[str, Any]] = ()


def readiness_of(said: Mapping[int, Mapping[str, Any] | str]) -> Readiness:
    """By the number of a worker, what its `/readyz` answers, or why it does not."""
    unready: list[str] = []
    without: list[str] = []
    conditions: dict[str, list[Mapping[str, Any]]] = {"waits": [], "degraded": []}
    for number, answer in sorted(said.items()):
        if isinstance(answer, str):
            unready.append(f"worker {number}: {answer}")
            continue
        if not answer.get("ready"):
            unready.append(f"worker {number}: {answer.get('error', 'not ready')}")
        elif lack := answer.get("without"):
            without.append(f"worker {number}: {lack}")
        for name, found in conditions.items():
            found += [{"worker": number, **one} for one in answer.get(name, [])]
    return Readiness(not_ready="; ".join(unready) or None, without="; ".join(without) or None, **conditions)


class Observed(Protocol):
    """Several processes of one role."""

    async def readiness(self) -> Readiness: ...

    async def sums(self) -> Sums: ...

    async def documents(self, path: str) -> list[Mapping[str, Any]]:
        """What each says at `path`, or an `error` that says why it does not."""
        ...


def create_sums_app(observed: Observed, token: str | None) -> Starlette:
    """`/healthz`, `/readyz` and `/metrics` as one worker has them, of all; `/v1/status` and `/v1/overview`
    are the lists of theirs."""

    async def healthz(_: Request) -> Response:
        return json_response({"alive": True})

    async def readyz(request: Request) -> Response:
        now = await observed.readiness()
        code = 200 if now.not_ready is None else 503
        if is_anonymous(request):
            return json_response({"ready": True} if now.not_ready is None else {"error": REASON_WITHHELD}, code)
        said: dict[str, Any] = (
            {"ready": True, "without": now.without} if now.not_ready is None else {"error": now.not_ready}
        )
        said |= {"waits": now.waits, "degraded": now.degraded}
        return json_response({name: what for name, what in said.items() if what}, code)

    async def metrics(request: Request) -> Response:
        registry = CollectorRegistry()
        registry.register(SumsCollector(await observed.sums()))
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    async def status(_: Request) -> Response:
        return json_response({"processes": await observed.documents("v1/status")})

    async def overview(request: Request) -> Response:
        return json_response({"processes": await observed.documents(f"v1/overview?{request.url.query}")})

    routes = {
        "/healthz": healthz, "/readyz": readyz, "/metrics": metrics, "/v1/status": status, "/v1/overview": overview,
    }  # fmt: skip
    return create_app([Route(path, answer) for path, answer in routes.items()], token)
