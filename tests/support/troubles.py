"""Fifteen troubles, each with the expression on the metrics that tells it from the others, and what evaluates them.

The expressions are PromQL, and small enough to be evaluated here as well, where there is no Prometheus. Thresholds are
those of tests; what to alert on is in deploy/prometheus.
"""

from __future__ import annotations

import operator
import re
from collections import Counter
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
    "flood of anomalies": 'sum by (instance) (increase(streamer_indexer_verdicts_total{verdict="anomaly"}[1m])) / '
                          "sum by (instance) (increase(streamer_indexer_verdicts_total[1m])) > 0.1",
    "worker dead": 'up{job="worker"} == 0',
    "two indexers": 'count by (space) (streamer_build_info{role="indexer"}) > 1',
}  # fmt: skip

# Parsing takes long: only the lines of what some expression names.
_NAMES: Final = "|".join(set(re.findall(r"streamer_\w+", " ".join(TROUBLES.values()))))
_NAMED: Final = re.compile(rf"(?:# (?:HELP|TYPE) )?(?:{_NAMES})\b")
_OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = {"==": operator.eq, ">": operator.gt}
_SELECTOR: Final = r"(?P<name>\w+)(?:\{(?P<label>\w+)=\"(?P<value>\w+)\"\})?"
_TERM: Final = re.compile(rf"{_SELECTOR} (?P<operator>==|>) (?P<threshold>\d+)")
_COUNT: Final = re.compile(rf"count by \((?P<by>\w+)\) \({_SELECTOR}\) > (?P<threshold>\d+)")
_SHARE: Final = re.compile(
    rf"sum by \(instance\) \(increase\({_SELECTOR}\[1m\]\)\) / "
    r"sum by \(instance\) \(increase\((?P<whole>\w+)\[1m\]\)\) > (?P<threshold>[\d.]+)"
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
    if match := _TERM.fullmatch(term):
        compare, threshold = _OPERATORS[match["operator"]], float(match["threshold"])
        return {s.labels["instance"] for s in now if _is_meant(s, match) and compare(s.value, threshold)}
    if match := _COUNT.fullmatch(term):
        groups = Counter(sample.labels[match["by"]] for sample in now if _is_meant(sample, match))
        return {group for group, count in groups.items() if count > float(match["threshold"])}
    match = _SHARE.fullmatch(term)
    assert match, f"not evaluated here: {term}"
    part = _increases([s for s in now if _is_meant(s, match)], before)
    whole = _increases([s for s in now if s.name == match["whole"]], before)
    return {i for i, grown in part.items() if whole[i] and grown / whole[i] > float(match["threshold"])}


def _increases(now: Sequence[_Sample], before: Sequence[_Sample]) -> Counter[str]:
    """By instance, of series that were there before."""
    earlier = {(sample.name, *sample.labels.items()): sample.value for sample in before}
    grown: Counter[str] = Counter()
    for sample in now:
        was = earlier.get((sample.name, *sample.labels.items()), sample.value)
        grown[sample.labels["instance"]] += int(sample.value - was)
    return grown


def _is_meant(sample: _Sample, match: re.Match[str]) -> bool:
    return sample.name == match["name"] and (not match["label"] or sample.labels.get(match["label"]) == match["value"])


def _samples(scrapes: Sequence[Scrape]) -> list[_Sample]:
    found = []
    for scrape in scrapes:
        target = {"job": scrape.job, "instance": scrape.instance}
        found.append(_Sample("up", target, float(scrape.text is not None)))
        lines = [line for line in (scrape.text or "").splitlines(keepends=True) if _NAMED.match(line)]
        for family in text_string_to_metric_families("".join(lines)):
            found += [_Sample(sample.name, {**target, **sample.labels}, sample.value) for sample in family.samples]
    return found
