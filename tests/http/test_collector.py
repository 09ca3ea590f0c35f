"""Any dataclass of statistics as metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest

from streamer.http.metrics import StatisticsCollector


@dataclass
class Inner:
    bytes: int = 7
    saved_total: int = 2


@dataclass
class Statistics:
    records_total: int = 5
    ready: bool = True
    lag: float = 0.5
    verdicts_total: Mapping[str, int] = field(
        default_factory=lambda: {"a b": 1, 'quo"te': 2}, metadata={"label": "kind"}
    )
    partitions: Mapping[int, float] = field(default_factory=lambda: {3: 1.5}, metadata={"label": "partition"})
    snapshot: Inner | None = field(default_factory=Inner)
    unknown: float | None = None
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
        "# TYPE streamer_lag gauge",
        "streamer_lag 0.5",
        "# TYPE streamer_verdicts_total counter",
        'streamer_verdicts_total{kind="a b"} 1.0',
        'streamer_verdicts_total{kind="quo\\"te"} 2.0',
        "# TYPE streamer_partitions gauge",
        'streamer_partitions{partition="3"} 1.5',
        "# TYPE streamer_snapshot_bytes gauge",
        "streamer_snapshot_bytes 7.0",
        "# TYPE streamer_snapshot_saved_total counter",
        "streamer_snapshot_saved_total 2.0",
    ]


def test_what_is_not_known_has_no_metric() -> None:
    assert not [line for line in lines(Statistics(snapshot=None)) if "snapshot" in line or "unknown" in line]


def test_they_are_read_when_they_are_asked_for() -> None:
    registry, statistics = CollectorRegistry(), Statistics()
    registry.register(StatisticsCollector("streamer", lambda: statistics))
    statistics.records_total = 6
    assert registry.get_sample_value("streamer_records_total") == 6
