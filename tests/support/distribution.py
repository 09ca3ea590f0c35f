"""How the tests are spread over the processes of pytest-xdist, as a pytest plugin.

`--dist worksteal` gives each process one piece of the list, in order, and takes from the end of the longest piece for
those that are done. So the list is arranged: each piece begins with its share of the tests that wait for brokers and
programs, and ends with the short ones, which are easily moved.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

MOST = 6  # each may have a broker of its own, and what its tests start
LONG = ("kafka", "real_kafka", "own_broker", "slow")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    return processes(os.cpu_count() or 1, config.args)


def processes(processors: int, named: Sequence[str]) -> int:
    """For that many processors and the tests named on the command line."""
    return 0 if any("::" in name for name in named) else min(processors + 1, MOST)


def ports_of(process: str, ports: range) -> range:
    """Its share of the ports. `process`: as pytest-xdist names it, "gw0" to "gw5"."""
    return ports[int(process.removeprefix("gw")) % MOST :: MOST]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Last, when what `-m` and `-k` leave out is gone. Each process collects all tests, so each arranges them alike."""
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is not None:
        items[:] = arranged(items, worker["workercount"], _long_unit)


def _long_unit(item: pytest.Item) -> Hashable:
    """Tests of one `xdist_group` share something expensive, and stay together."""
    if not any(item.get_closest_marker(marker) for marker in LONG):
        return None
    group = item.get_closest_marker("xdist_group")
    return group.args if group else item.nodeid


def arranged(tests: Sequence[T], pieces: int, long_unit: Callable[[T], Hashable]) -> list[T]:
    """The tests in an order that, cut into so many equal pieces, has long ones at the beginning of each.

    `long_unit`: tests with an equal unit are long and stay together; those with None are short and keep their order.
    """
    units: dict[Hashable, list[T]] = {}
    short: list[T] = []
    for test in tests:
        unit = long_unit(test)
        (short if unit is None else units.setdefault(unit, [])).append(test)
    dealt = [[test for unit in list(units.values())[piece::pieces] for test in unit] for piece in range(pieces)]
    found: list[T] = []
    for piece, long in enumerate(dealt):
        size = (len(tests) - len(found)) // (pieces - piece)  # as pytest-xdist cuts them
        room = max(0, size - len(long)) if piece < pieces - 1 else len(short)
        found += [*long, *short[:room]]
        del short[:room]
    return found
