"""Any dataclass of statistics as metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from streamer.http.metrics import StatisticsCollector
from streamer.telemetry.histogram import Histogram


def histogram(*values: float) -> Histogram:
    made = Histogram((0.1, 1.0))
    made.observe_all(values)
    return made


@dataclass
class Inner:
    bytes: int = 7
    saved_total: int = 2


@dataclass
class Statistics:
    records_total: int = 5
    ready: bool = True
    delay: float = 0.5
    verdicts_total: Mapping[str, int] = field(
        default_factory=lambda: {"a b": 1, 'quo"te': 2}, metadata={"label": "kind"}
    )
    partitions: Mapping[int, float] = field(default_factory=lambda: {3: 1.5}, metadata={"label": "partition"})
    snapshot: Inner | None = field(default_factory=Inner)
    unknown: float | None = None
    lag: Mapping[str, int] = field(default_factory=lambda: {"a/b/0": 3}, metadata={"label": ("topic", "partition")})
    seconds: Histogram = field(default_factory=lambda: histogram(0.05, 0.5, 7.0))
    stages: Mapping[str, Histogram] = field(
        default_factory=lambda: {"queue": histogram(), "cache": histogram(1.0)}, metadata={"label": "stage"}
    )
    state: str = "well"


def lines(statistics: Statistics) -> list[str]:
    registry = CollectorRegistry()
    registry.register(StatisticsCollector("streamer", lambda: statistics))
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("# HELP")]


def test_counters_gauges_labels_and_nested_statistics_have_names_of_their_fields() -> None:
    assert lines(Statistics()) == [
        "# TYPE streamer_records_total counter",
        "streamer_records_total 5.0",
        "# TYPE streamer_ready gauge",
        "streamer_ready 1.0",
        "# TYPE streamer_delay gauge",
        "streamer_delay 0.5",
        "# TYPE streamer_verdicts_total counter",
        'streamer_verdicts_total{kind="a b"} 1.0',
        'streamer_verdicts_total{kind="quo\\"te"} 2.0',
        "# TYPE streamer_partitions gauge",
        'streamer_partitions{partition="3"} 1.5',
        "# TYPE streamer_snapshot_bytes gauge",
        "streamer_snapshot_bytes 7.0",
        "# TYPE streamer_snapshot_saved_total counter",
        "streamer_snapshot_saved_total 2.0",
        "# TYPE streamer_lag gauge",
        'streamer_lag{partition="0",topic="a/b"} 3.0',
        "# TYPE streamer_seconds histogram",
        'streamer_seconds_bucket{le="0.1"} 1.0',
        'streamer_seconds_bucket{le="1.0"} 2.0',
        'streamer_seconds_bucket{le="+Inf"} 3.0',
        "streamer_seconds_count 3.0",
        "streamer_seconds_sum 7.55",
        "# TYPE streamer_stages histogram",
        'streamer_stages_bucket{le="0.1",stage="queue"} 0.0',
        'streamer_stages_bucket{le="1.0",stage="queue"} 0.0',
        'streamer_stages_bucket{le="+Inf",stage="queue"} 0.0',
        'streamer_stages_count{stage="queue"} 0.0',
        'streamer_stages_sum{stage="queue"} 0.0',
        'streamer_stages_bucket{le="0.1",stage="cache"} 0.0',
        'streamer_stages_bucket{le="1.0",stage="cache"} 1.0',
        'streamer_stages_bucket{le="+Inf",stage="cache"} 1.0',
        'streamer_stages_count{stage="cache"} 1.0',
        'streamer_stages_sum{stage="cache"} 1.0',
    ]


def test_what_is_not_known_has_no_metric() -> None:
    assert not [line for line in lines(Statistics(snapshot=None)) if "snapshot" in line or "unknown" in line]


def test_they_are_read_when_they_are_asked_for() -> None:
    registry, statistics = CollectorRegistry(), Statistics()
    registry.register(StatisticsCollector("streamer", lambda: statistics))
    statistics.records_total = 6
    assert registry.get_sample_value("streamer_records_total") == 6


def test_a_value_with_a_trace_is_an_exemplar_for_those_who_can_read_it() -> None:
    marked = histogram(0.05, 0.5)
    marked.mark(0.5, "0af7651916cd43dd8448eb211c80319c", 1.0)
    registry = CollectorRegistry()
    registry.register(StatisticsCollector("streamer", lambda: Statistics(seconds=marked)))
    text = openmetrics(registry).decode()  # type: ignore[no-untyped-call]
    [line] = [line for line in text.splitlines() if "trace_id" in line]
    assert line == 'streamer_seconds_bucket{le="1.0"} 2.0 # {trace_id="0af7651916cd43dd8448eb211c80319c"} 0.5 1.0'
    assert "trace_id" not in generate_latest(registry).decode()
