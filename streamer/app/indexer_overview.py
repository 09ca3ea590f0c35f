"""What the indexer's dashboard shows: the indexer's own numbers and those of the workers it asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import anyio

from streamer.http.history import Rates, Values
from streamer.indexer.indexer import Indexer

_SHOWN: Final = (
    "not_ready", "without", "waits", "degraded", "model", "provider", "totals", "spend", "now", "partitions",
    "dead_letters",
)  # fmt: skip
_SUMMED: Final = ("embedded", "dead_letters", "lag", "tokens", "usd", "in_flight")


class AskedWorkers(Protocol):
    """`overviews`: by address what workers say about themselves, or why they say nothing."""

    @property
    def url(self) -> str: ...

    async def overviews(self) -> Mapping[str, Mapping[str, Any] | str]: ...


class IndexerOverview:
    def __init__(self, indexer: Indexer, workers: Sequence[AskedWorkers]) -> None:
        self._indexer = indexer
        self._workers = workers
        self._said: dict[str, Mapping[str, Any] | str] = {each.url: "has not been asked yet" for each in workers}
        self._rates = Rates()
        self._sampled_at = 0.0

    async def sample(self, now: float) -> Values:
        """Asks the workers, too."""
        said: list[Mapping[str, Mapping[str, Any] | str]] = []

        async def ask(workers: AskedWorkers) -> None:
            said.append(await workers.overviews())

        async with anyio.create_task_group() as tasks:
            for workers in self._workers:
                tasks.start_soon(ask, workers)
        self._said = dict(sorted((url, words) for answers in said for url, words in answers.items()))
        verdicts = self._indexer.statistics().verdicts()
        rates = self._rates.per_second(
            now,
            {
                "events": sum(verdicts.values()),
                "near_duplicates": verdicts.get("near_duplicate", 0),
                "anomalies": verdicts.get("anomaly", 0),
            },
        )
        since, self._sampled_at = self._sampled_at, now
        return {**rates, "delay": self._indexer.showcase.recent.delay(int(since * 1000)), **self._of_workers()}

    def facts(self) -> Mapping[str, Any]:
        numbers, space = self._indexer.statistics(), self._indexer.space
        return {
            "model": space.model,
            "space": space.id,
            "dimensions": space.dimensions,
            "vectors": numbers.vectors,
            "capacity": numbers.capacity,
            "verdicts": numbers.verdicts(),
            "foreign": sum(numbers.foreign_total.values()),
            "malformed": numbers.malformed_total,
            "events_missing": self._indexer.showcase.events_missing(),
            "workers": [{"url": url, **_worker(said)} for url, said in self._said.items()],
        }

    def _of_workers(self) -> Values:
        """The sum over all that answer; the share of cache hits by how much each embeds. Empty where none does."""
        latest = [said["now"] for said in self._said.values() if not isinstance(said, str) and _is_sample(said)]
        if not latest:
            return {}
        weighed = [(now["hit_share"], now.get("embedded") or 0.0) for now in latest if now.get("hit_share") is not None]
        weight = sum(each for _, each in weighed)
        return {
            **{name: _sum(now.get(name) for now in latest) for name in _SUMMED},
            "hit_share": sum(hit * each for hit, each in weighed) / weight if weight else None,
        }


def _worker(said: Mapping[str, Any] | str) -> Mapping[str, Any]:
    return {"silent": said} if isinstance(said, str) else {name: said.get(name) for name in _SHOWN}


def _is_sample(said: Mapping[str, Any]) -> bool:
    now = said.get("now")
    return isinstance(now, dict) and all(value is None or isinstance(value, int | float) for value in now.values())


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
