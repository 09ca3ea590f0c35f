"""The order in which pytest-xdist's processes get the tests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.distribution import MOST, arranged, ports_of, processes


def unit(test: str) -> str | None:
    """Long ones are written large; equal letters belong together."""
    return test[0] if test.isupper() else None


def pieces(tests: list[str], count: int) -> list[list[str]]:
    """As `--dist worksteal` cuts the list at its beginning."""
    found = []
    for number in range(count):
        size = len(tests) // (count - number)
        found.append(tests[:size])
        tests = tests[size:]
    return found


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, [["A1", "A2", "B1", "C1", "a", "b", "c", "d"]]),
        (2, [["A1", "A2", "C1", "a"], ["B1", "b", "c", "d"]]),
        (3, [["A1", "A2"], ["B1", "a", "b"], ["C1", "c", "d"]]),
    ],
)
def test_each_piece_begins_with_its_share_of_the_long_ones(count: int, expected: list[list[str]]) -> None:
    assert pieces(arranged(["a", "A1", "b", "A2", "B1", "c", "C1", "d"], count, unit), count) == expected


@given(st.lists(st.sampled_from("ABCDEabcde")), st.integers(1, 5))
def test_every_test_is_run_once_and_those_of_a_unit_together(letters: list[str], count: int) -> None:
    tests = [f"{letter}{number}" for number, letter in enumerate(letters)]
    found = arranged(tests, count, unit)
    assert sorted(found) == sorted(tests)
    units = [unit(test) for test in found if unit(test)]
    assert len([one for one, before in zip(units, [None, *units], strict=False) if one != before]) == len(set(units))
    short = [test for test in found if not unit(test)]
    assert short == [test for test in tests if not unit(test)], "in their order"


def test_tests_named_one_by_one_stay_in_one_process() -> None:
    assert processes(2, ["tests"]) == processes(2, ["tests/worker", "tests/http/test_api.py"]) == 3
    assert processes(64, ["tests"]) == MOST
    assert processes(2, ["tests/worker", "tests/http/test_api.py::test_search"]) == 0


def test_no_two_processes_choose_among_the_same_ports() -> None:
    shares = [ports_of(f"gw{number}", range(20000, 32000)) for number in range(MOST)]
    assert sorted(port for share in shares for port in share) == list(range(20000, 32000))
