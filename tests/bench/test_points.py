"""Which points are measured for what is asked."""

from __future__ import annotations

import pytest

from streamer.bench.points import NAMES, Wanted, points


def test_every_bench_has_a_point_by_itself() -> None:
    for name in NAMES:
        for point in points(name, Wanted(runs=3)):
            assert point["runs"] == 3


def test_each_value_is_a_point() -> None:
    assert [point["vectors"] for point in points("index", Wanted(vectors=(10, 20)))] == [10, 20]
    assert [point["tokens"] for point in points("local", Wanted(tokens=(10, 8000)))] == [10, 8000]
    crossed = points("overhead", Wanted(partitions=(1, 12)))
    assert [(point["format"], point["partitions"]) for point in crossed] == [
        ("json", 1), ("json", 12), ("binary", 1), ("binary", 12)
    ]  # fmt: skip


def test_what_is_no_bench() -> None:
    with pytest.raises(ValueError, match="none of overhead"):
        points("speed", Wanted())
