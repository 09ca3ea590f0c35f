from __future__ import annotations

from tests.support.field_rows import ROWS, cases, named, rows_in, rows_in_name


def test_every_row_has_a_test_that_names_it() -> None:
    covered = {row for by in named() for row in by.rows}
    assert [row for row in ROWS if row not in covered] == []


def test_names_and_docstrings_are_read() -> None:
    assert rows_in_name("test_rows_12b_and_f5_a_dead_letter") == {"12b", "F5"}
    assert rows_in_name("test_f11_f12_a_worker_that_joins") == {"F11", "F12"}
    assert rows_in_name("test_row_99_is_none") == rows_in_name("test_rows_come_out") == frozenset()
    assert rows_in("Field cases 13 and F7: the worker.") == {"13", "F7"}
    assert rows_in("Before. First hour B1, D6 and R8.") == {"hour B1", "hour D6", "hour R8"}
    assert rows_in("The first hour of 24, and 7 of 12 rows.") == frozenset()


def test_cases_are_counted_by_function() -> None:
    count = cases({"a.py::f": frozenset({"1", "F1"})}, ["a.py::f[x]", "a.py::f[y]", "a.py::g", "b.py::f"])
    assert (count["1"], count["F1"], count["2"]) == (2, 2, 0)
