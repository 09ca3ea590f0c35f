"""Which metrics, and which values of their labels, PromQL expressions name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tests.support.metrics import METRICS

# What every process exposes beside the table: prometheus-client's own, and what Prometheus adds.
OF_OTHERS = {
    "up": (),
    "process_start_time_seconds": (),
    "process_resident_memory_bytes": (),
    "process_cpu_seconds_total": (),
}
ADDED = {"instance", "job", "namespace"}  # labels that scraping adds

_SELECTOR = re.compile(r"\b([a-z_]+)(\{[^}]*\})?(?=\[|\)| |$)")
_MATCHER = re.compile(r'(\w+)(=~?|!=|!~)"([^"]*)"')


class Selector(NamedTuple):
    metric: str
    matchers: Mapping[str, str]


def known() -> dict[str, tuple[str, ...]]:
    """Each series' name and its labels. A histogram has three series."""
    names: dict[str, tuple[str, ...]] = dict(OF_OTHERS)
    for metric in METRICS:
        if metric.type == "histogram":
            names[f"{metric.name}_bucket"] = (*metric.labels, "le")
            names[f"{metric.name}_count"] = names[f"{metric.name}_sum"] = metric.labels
        else:
            names[metric.name] = metric.labels
    return names


def selectors(expression: str) -> Iterator[Selector]:
    """What is selected: every name that looks like a metric's."""
    for name, matchers in _SELECTOR.findall(expression):
        if name.startswith(("streamer_", "process_")) or name == "up":
            yield Selector(name, {label: value for label, _, value in _MATCHER.findall(matchers or "")})


def groupings(expression: str) -> set[str]:
    """Labels by which results are grouped or matched."""
    inside = re.findall(r"\b(?:by|without|on|ignoring) ?\(([^)]*)\)", expression)
    return {label.strip() for labels in inside for label in labels.split(",") if label.strip()}


def faults(expression: str) -> list[str]:
    """What it names that no process exposes."""
    series = known()
    found, labels = [], set(ADDED)
    chosen = list(selectors(expression))
    for name, matchers in chosen:
        if name not in series:
            found.append(f"there is no metric {name}")
            continue
        labels |= set(series[name])
        found += [f"{name} has no label {label}" for label in matchers if label not in {*series[name], *ADDED}]
    if not chosen:
        found.append("it names no metric")
    return found + [f"nothing has the label {label}" for label in groupings(expression) - labels]
