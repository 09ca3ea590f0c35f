"""What operators read is true: metric names, sentences of /readyz, settings, the ports."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from streamer.settings import Settings
from tests.support.metrics import METRICS

ROOT = Path(__file__).parent.parent.parent
PAGES = {
    name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("operations", "delivery", "verdicts", "security")
}
TEXT = PAGES["operations"]
SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "streamer").rglob("*.py")))


def test_the_table_is_that_of_the_statistics() -> None:
    listed = re.findall(r"^\| `(streamer_(?:worker|indexer)_\w+)` \| ([\w, ]*?) ?\| (.+) \|$", TEXT, flags=re.MULTILINE)
    made = [(metric.name, ", ".join(metric.labels), metric.help) for metric in METRICS]
    table = "\n".join(f"| `{name}` | {label}{' ' if label else ''}| {sentence} |" for name, label, sentence in made)
    assert listed == made, f"the table of docs/operations.md should be:\n{table}"


def test_metrics_named_elsewhere_exist() -> None:
    named = set(re.findall(r"\bstreamer_(?:worker|indexer)_\w+", "".join(PAGES.values())))
    histograms = {f"{m.name}{end}" for m in METRICS if m.type == "histogram" for end in ("_bucket", "_sum", "_count")}
    assert named
    assert named <= {metric.name for metric in METRICS} | histograms


def sentences() -> list[str]:
    return re.findall(r"^\| `(?:error|without)` \| `(.+?)` \|", TEXT, flags=re.MULTILINE)


def test_readyz_says_that() -> None:
    """The fixed parts of its sentences stand in the source; `provider ` is put before what the gate says."""
    for sentence in sentences():
        for part in re.split(r"<\w+>", sentence.removeprefix("provider ")):
            if len(part.strip()) > 2:
                assert part.strip() in SOURCE, sentence


def test_readyz_is_described() -> None:
    assert len(sentences()) > 15


def test_settings_named_exist() -> None:
    sections = "|".join(Settings.model_fields)
    named = set(re.findall(rf"`<?({sections})\.(\w+)>?[`\s=-]", "".join(PAGES.values())))
    assert len(named) > 20
    for section, key in named:
        kind: Any = Settings.model_fields[section].annotation
        assert key in kind.model_fields, f"{section}.{key}"


def test_defaults_named_are_the_defaults() -> None:
    settings = Settings()
    http, batch, delivery = settings.http, settings.batch, settings.delivery
    assert f"{http.worker_port} (`http.worker_port`)" in TEXT
    assert f"{http.port} (`http.port`)" in TEXT
    assert f"`batch.max_in_flight_events` ({batch.max_in_flight_events:,})" in TEXT
    assert f"`batch.max_in_flight_bytes` ({batch.max_in_flight_bytes // 1_000_000} MB)" in TEXT
    assert f"`delivery.drain_timeout_ms` ({delivery.drain_timeout_ms // 1000} s)" in TEXT
