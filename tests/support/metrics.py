"""The metrics that statistics make: names, types, labels and sentences, from the dataclasses alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from streamer.app.indexer_state import SurroundingsStatistics
from streamer.app.worker_state import WorkerStatistics
from streamer.http.metrics import labels_of
from streamer.indexer.statistics import IndexerStatistics
from streamer.telemetry.histogram import Histogram


@dataclass(frozen=True)
class Metric:
    name: str
    type: str
    labels: tuple[str, ...]
    help: str


def metrics_of(prefix: str, kind: Any) -> Iterator[Metric]:
    """What `StatisticsCollector` makes of such statistics."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        hint = hints[field.name]
        options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        (only,) = [option for option in options if option is not type(None)]
        name = f"{prefix}_{field.name}"
        help = field.metadata.get("help", "")
        if only is Histogram:
            yield Metric(name, "histogram", (), help)
        elif is_dataclass(only):
            yield from metrics_of(name, only)
        elif get_origin(only) in (Mapping, dict):
            type_ = "histogram" if get_args(only)[1] is Histogram else _type(name)
            yield Metric(name, type_, tuple(labels_of(field)), help)
        elif issubclass(only, int | float):
            yield Metric(name, _type(name), (), help)


def _type(name: str) -> str:
    return "counter" if name.endswith("_total") else "gauge"


METRICS = [
    *metrics_of("streamer_worker", WorkerStatistics),
    *metrics_of("streamer_indexer", IndexerStatistics),
    *metrics_of("streamer_indexer", SurroundingsStatistics),
]
