"""Statistics as Prometheus metrics, read at scrape time: the flow counts in plain numbers and knows nothing of this."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response


class StatisticsCollector(Collector):
    """Metrics from a dataclass of statistics, each called `prefix_field`.

    A field ending in `_total` is a counter, any other number or truth value a gauge; a mapping gives one sample for
    each key, under the label that the field's metadata names (`{"label": ...}`); a nested dataclass lends its field's
    name to the prefix. None, text and the rest are left out.
    """

    def __init__(self, prefix: str, read: Callable[[], Any]) -> None:
        self._prefix = prefix
        self._read = read

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        yield from _families(self._prefix, self._read())


def metrics_endpoint(prefix: str, read: Callable[[], Any]) -> Callable[[Request], Response]:
    """Answers a scrape in whichever format it asks for."""
    registry = CollectorRegistry()
    registry.register(StatisticsCollector(prefix, read))

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    return metrics


def _families(prefix: str, statistics: Any) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
    for field in fields(statistics):
        value = getattr(statistics, field.name)
        name = f"{prefix}_{field.name}"
        if is_dataclass(value):
            yield from _families(name, value)
        elif isinstance(value, Mapping):
            label = field.metadata["label"]
            family = _family(name, field, [label])
            for key, number in value.items():
                family.add_metric([str(key)], float(number))
            yield family
        elif isinstance(value, int | float):
            family = _family(name, field, [])
            family.add_metric([], float(value))
            yield family


def _family(name: str, field: Field[Any], labels: list[str]) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    return kind(name, field.metadata.get("help", field.name.replace("_", " ")), labels=labels)
