"""The sentences of `/metrics`: what a person reads beside a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from streamer.app.worker import WorkerStatistics
from streamer.indexer.statistics import IndexerStatistics


def numbers(statistics: type[Any]) -> Iterator[tuple[str, Field[Any]]]:
    """Every field that becomes a metric."""
    hints = get_type_hints(statistics)
    for field in fields(statistics):
        kinds = get_args(hints[field.name]) or (hints[field.name],)
        nested = [kind for kind in kinds if is_dataclass(kind)]
        if nested:
            assert isinstance(nested[0], type)
            yield from numbers(nested[0])
        elif get_origin(hints[field.name]) is Mapping or {int, float, bool} & set(kinds):
            yield f"{statistics.__name__}.{field.name}", field


METRICS = dict([*numbers(WorkerStatistics), *numbers(IndexerStatistics)])


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_explained_in_a_sentence(name: str) -> None:
    field = METRICS[name]
    sentence = field.metadata.get("help", "")
    assert sentence[:1].isupper()
    assert sentence.endswith(".")
    assert sentence.lower().rstrip(".") != field.name.replace("_", " ")


def test_all_parts_of_both_roles_are_there() -> None:
    parts = {name.split(".")[0] for name in METRICS}
    assert parts == {
        "CacheStatistics", "DispatchStatistics", "IndexerStatistics", "PipelineStatistics", "SinkStatistics",
        "SnapshotStatistics", "SourceStatistics", "SqliteStatistics", "WorkerStatistics",
    }  # fmt: skip
