"""Field case 31: what people mean by `where`, whatever their producer makes of numbers, objects and lists."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.indexer.index.conditions import MOST_STEPS, Scalar, holds
from streamer.indexer.index.payloads import Payload

METADATA: dict[str, Any] = {
    "stars": "2",
    "price": "2.50",
    "count": 2,
    "big": 2**60 + 1,
    "active": "True",
    "open": False,
    "none": None,
    "empty": "",
    "zip": "01234",
    "tags": ["red", 7, "8", None],
    "addr": {"city": "Bern", "geo": {"lat": 46.9}, "lines": ["a", "b"]},
    "items": [{"name": "lamp", "n": "3"}, {"name": "bulb"}, "loose"],
    "dotted.key": "yes",
    "a.b": {"c.d": 1},
    "matrix": [[1, 2], [3]],
}


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("stars", 2),
        ("stars", 2.0),
        ("stars", "2"),
        ("price", 2.5),
        ("count", "2"),
        ("count", 2),
        ("count", 2.0),
        ("big", 2**60 + 1),
        ("big", str(2**60 + 1)),
        ("active", True),
        ("active", "True"),
        ("open", False),
        ("open", "false"),
        ("none", None),
        ("zip", "01234"),
        ("tags", "red"),
        ("tags", 7),
        ("tags", 8),
        ("tags", "7"),
        ("tags", None),
        ("addr.city", "Bern"),
        ("addr.geo.lat", 46.9),
        ("addr.lines", "b"),
        ("items.name", "bulb"),
        ("items.n", 3),
        ("items", "loose"),
        ("dotted.key", "yes"),
        ("a.b.c.d", 1),
    ],
)
def test_31_is_found(path: str, wanted: Scalar) -> None:
    assert holds(METADATA, path, wanted)
    assert Payload(None, None, METADATA).satisfies({path: wanted})


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("stars", 3),
        ("stars", True),
        ("stars", "2.0"),
        ("count", True),
        ("big", 2**60),
        ("open", 0),
        ("open", None),
        ("active", 1),
        ("none", "null"),
        ("none", "None"),
        ("empty", None),
        ("empty", 0),
        ("missing", None),
        ("zip", 1234),
        ("tags", "re"),
        ("tags", "red,7"),
        ("addr", "Bern"),
        ("addr.City", "Bern"),
        ("addr.city.x", "Bern"),
        ("addr.", "Bern"),
        (".", None),
        ("addr..city", "Bern"),
        ("items.name", "lam"),
        ("matrix", 1),
        ("", None),
    ],
)
def test_31_is_not_found(path: str, wanted: Scalar) -> None:
    assert not holds(METADATA, path, wanted)


@pytest.mark.parametrize("text", ["nan", "inf", "1_000", " 2", "2 ", "+2", "0x2", "2.", ".5", "9" * 5000, "1e999", "٢"])
def test_31_what_json_does_not_call_a_number_is_none(text: str) -> None:
    for number in (2, 0.5, 1000, float("inf")):
        assert not holds({"n": text}, "n", number) or text == "1e999"


def test_31_a_path_without_end_costs_nothing() -> None:
    deep: Any = "there"
    for _ in range(MOST_STEPS + 1):
        deep = {"a": deep}
    assert holds(deep, ".".join("a" * (MOST_STEPS + 1)), "there")
    assert not holds(deep, ".".join("a" * 100_000), "there")
    assert not holds({}, "." * 100_000, "there")


def test_31_all_conditions_must_hold() -> None:
    payload = Payload(None, None, METADATA)
    assert payload.satisfies({"stars": 2, "addr.city": "Bern"})
    assert not payload.satisfies({"stars": 2, "addr.city": "Basel"})
    assert not Payload(None, None, None).satisfies({"stars": None})
