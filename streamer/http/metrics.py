"""Statistics as Prometheus metrics, read at scrape time: the flow counts in plain numbers and knows nothing of this."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from itertools import accumulate
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from starlette.requests import Request
from starlette.responses import Response

from streamer.telemetry.histogram import Exemplar as Mark
from streamer.telemetry.histogram import Histogram

Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class StatisticsCollector(Collector):
    """Metrics from a dataclass of statistics, each called `prefix_field`.

    A field ending in `_total` is a counter, any other number or truth value a gauge, a Histogram a histogram; a mapping
    gives one sample (or histogram) for each key, under the label that the field's metadata names (`{"label": ...}`), or
    under several: `{"label": ("topic", "partition")}` for keys like `texts/0`. A nested dataclass lends its field's
    name to the prefix. None, text and the rest are left out.
    """

    def __init__(self, prefix: str, read: Callable[[], Any]) -> None:
        self._prefix = prefix
        self._read = read

    def collect(self) -> Iterator[Family]:
        yield from _families(self._prefix, self._read())


class BuildInfo(Collector):
    """`streamer_build_info`, whose labels say what is running."""

    def __init__(self, facts: Mapping[str, str]) -> None:
        self._facts = facts

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "streamer_build_info", "What is running, in labels; always 1.", labels=[*self._facts]
        )
        family.add_metric([*self._facts.values()], 1.0)
        yield family


def metrics_endpoint(
    prefix: str, reads: Iterable[Callable[[], Any]], build: Mapping[str, str] | None = None
) -> Callable[[Request], Response]:
    """Answers a scrape in whichever format it asks for: the statistics, what is running, and the process (`process_*`).

    `reads`: each returns a dataclass of statistics. `build`: labels of `streamer_build_info`; without them neither that
    nor the process is told of.
    """
    registry = CollectorRegistry()
    for read in reads:
        registry.register(StatisticsCollector(prefix, read))
    if build is not None:
        registry.register(BuildInfo(build))
        ProcessCollector(registry=registry)

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    return metrics


def _families(prefix: str, statistics: Any) -> Iterator[Family]:
    for field in fields(statistics):
        value = getattr(statistics, field.name)
        name = f"{prefix}_{field.name}"
        if is_dataclass(value) and not isinstance(value, Histogram):
            yield from _families(name, value)
        elif isinstance(value, Mapping):
            labels = labels_of(field)
            # A name may hold the separator; a partition does not.
            yield _family(name, field, labels, [(str(key).rsplit("/", len(labels) - 1), v) for key, v in value.items()])
        elif isinstance(value, int | float | Histogram):
            yield _family(name, field, [], [([], value)])


def labels_of(field: Field[Any]) -> list[str]:
    """The labels that a mapping of statistics has by its field."""
    label = field.metadata["label"]
    return [label] if isinstance(label, str) else list(label)


def _family(
    name: str, field: Field[Any], labels: Sequence[str], samples: Sequence[tuple[Sequence[str], float | Histogram]]
) -> Family:
    help = field.metadata.get("help", field.name.replace("_", " "))
    histogram = HistogramMetricFamily(name, help, labels=labels)
    numbers = (CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily)(name, help, labels=labels)
    for values, sample in samples:
        if isinstance(sample, Histogram):
            bounds = [*(str(float(bound)) for bound in sample.bounds), "+Inf"]
            buckets = zip(bounds, accumulate(sample.counts), sample.exemplars(), strict=True)
            histogram.add_metric(values, [_bucket(*bucket) for bucket in buckets], sample.sum)
        else:
            numbers.add_metric(values, float(sample))
    return histogram if histogram.samples else numbers


def _bucket(bound: str, count: int, mark: Mark | None) -> tuple[str, float] | tuple[str, float, Exemplar]:
    if mark is None:
        return bound, count
    return bound, count, Exemplar({"trace_id": mark.trace}, mark.value, mark.at)
