"""Fifteen troubles, each with the expression on the metrics that tells it from the others, and what evaluates them.

The expressions are PromQL, and small enough to be evaluated here as well, where there is no Prometheus. Thresholds are
those of tests; what to alert on is in deploy/prometheus.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

WAITING: Final = "streamer_worker_waiting"
TROUBLES: Final[Mapping[str, str]] = {
    "provider down": f'{WAITING}{{reason="provider_down"}} == 1',
    "quota used up": f'{WAITING}{{reason="provider_quota"}} == 1',
    "key rejected": f'{WAITING}{{reason="provider_key"}} == 1',
    "spend limit": f'{WAITING}{{reason="spend_limit"}} == 1',
    "partition stuck": f'{WAITING}{{reason="partition"}} == 1',
    "dead-letter flood": f'{WAITING}{{reason="dead_letters"}} == 1',
    "lag grows": "streamer_worker_consumer_lag > 1000 and on(instance) streamer_worker_ready == 1",
    "commit old": "streamer_worker_commit_age_seconds > 60 and on(instance) streamer_worker_ready == 1",
    "clock of records ahead": "streamer_worker_clock_ahead_seconds > 300",
    "cache off": 'streamer_worker_degraded{reason="cache"} == 1',
    "disk full": 'streamer_worker_degraded{reason="disk_full"} == 1',
    "restore too long": 'streamer_indexer_restore_seconds > 600 and on(instance) streamer_indexer_ready == 0',
    "flood of anomalies": 'increase(streamer_indexer_verdicts_total{verdict="anomaly"}[1m]) > 20',
    "worker dead": 'up{job="worker"} == 0',
    "two indexers": 'count by (space) (streamer_build_info{role="indexer"}) > 1',
}  # fmt: skip

_OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = {"==": operator.eq, ">": operator.gt}
_TERM = re.compile(
    r"(?P<function>increase\(|count by \((?P<by>\w+)\) \()?(?P<name>\w+)(?:\{(?P<label>\w+)=\"(?P<value>\w+)\"\})?"
    r"(?:\[1m\])?\)? (?P<operator>==|>) (?P<threshold>\d+)"
)


@dataclass(frozen=True)
class Scrape:
    """What one process answered, None for nothing."""

    job: str
    instance: str
    text: str | None


@dataclass(frozen=True)
class _Sample:
    name: str
    labels: Mapping[str, str]
    value: float


def firing(now: Sequence[Scrape], before: Sequence[Scrape] = ()) -> set[str]:
    """The troubles whose expressions hold; increases are those between the two."""
    return {trouble for trouble, expression in TROUBLES.items() if _holds(expression, _samples(now), _samples(before))}


def _holds(expression: str, now: Sequence[_Sample], before: Sequence[_Sample]) -> bool:
    found = [_instances(term, now, before) for term in expression.split(" and on(instance) ")]
    return bool(set.intersection(*found))


def _instances(term: str, now: Sequence[_Sample], before: Sequence[_Sample]) -> set[str]:
    match = _TERM.fullmatch(term)
    assert match, f"not evaluated here: {term}"
    chosen = [sample for sample in now if _is_meant(sample, match)]
    compare, threshold = _OPERATORS[match["operator"]], float(match["threshold"])
    if match["by"]:
        groups: dict[str, int] = {}
        for sample in chosen:
            groups[sample.labels[match["by"]]] = groups.get(sample.labels[match["by"]], 0) + 1
        return {group for group, count in groups.items() if compare(count, threshold)}
    earlier = {tuple(sample.labels.items()): sample.value for sample in before if _is_meant(sample, match)}
    if match["function"]:
        chosen = [
            _Sample(sample.name, sample.labels, sample.value - earlier.get(tuple(sample.labels.items()), sample.value))
            for sample in chosen
        ]
    return {sample.labels["instance"] for sample in chosen if compare(sample.value, threshold)}


def _is_meant(sample: _Sample, match: re.Match[str]) -> bool:
    return sample.name == match["name"] and (not match["label"] or sample.labels.get(match["label"]) == match["value"])


def _samples(scrapes: Sequence[Scrape]) -> list[_Sample]:
    found = []
    for scrape in scrapes:
        target = {"job": scrape.job, "instance": scrape.instance}
        found.append(_Sample("up", target, float(scrape.text is not None)))
        for family in text_string_to_metric_families(scrape.text or ""):
            found += [_Sample(sample.name, {**target, **sample.labels}, sample.value) for sample in family.samples]
    return found
