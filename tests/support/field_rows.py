"""The field cases: what other people's data, servers, files and callers did to the product, each a row with a test.

A test names its rows in its name (`test_row_10c_...`, `test_rows_13_and_f7_...`), in the id of a parameter ("row 3b,
all 0"), or in its docstring or that of its module: "Field cases 2, F6 and 12", "First hour B1".
`python -m tests.support.field_rows` counts the test cases of each row.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]

WORLD = (
    "1 2 3 3b 4 4b 5 6 7 8 9 10 10b 10c 11 12 12b 13 14 14b 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 "
    "34 35 36 37 38 39 40 41 42 F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 F11 F12 F13 F14 R1 R2 R3 R4 R5 R6 "
    "E1 E2 E3 E4 E5 E6 E7 E8"
)
FIRST_HOUR = "B1 B2 D1 D2 D3 D4 D5 D6 D7 D8 D9 D10 D11 D12 D13 R1 R2 R3 R4 R5 R6 R7 R8 R9 R10 R11 R12"
ROWS = (*WORLD.split(), *(f"hour {row}" for row in FIRST_HOUR.split()))

_ID = r"[A-Za-z]?\d+[a-z]?"
_LIST = rf"({_ID}(?:(?:, | and ){_ID})*)\b"
_IN_DOCSTRING = re.compile(rf"\b([Ff]ield cases?|[Ff]irst hour|[Rr]ows?),? {_LIST}".replace(" ", r"\s+"))
_IN_NAME = re.compile(r"^test_(?:rows?_)?((?:(?:and_)?[a-z]?\d+[a-z]?_)+)")
_IN_PARAMETER = re.compile(rf'"row ({_ID})\b')


@dataclass(frozen=True, slots=True)
class NamedBy:
    """A test function, `file::name`, or `file::` where any of a file's may be meant, and the rows that it names."""

    node: str
    rows: frozenset[str]


def named() -> Iterator[NamedBy]:
    """Everything in the tests that names rows."""
    for path in sorted(TESTS.rglob("test_*.py")):
        source, file = path.read_text(), str(path.relative_to(TESTS.parent))
        if rows := frozenset(_known(match) for match in _IN_PARAMETER.findall(source)) - {""}:
            yield NamedBy(f"{file}::", rows)
        module = ast.parse(source)
        shared = rows_in(ast.get_docstring(module) or "")
        for function in module.body:
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and function.name.startswith("test_"):
                own = rows_in(ast.get_docstring(function) or "") | rows_in_name(function.name)
                if rows := own or shared:
                    yield NamedBy(f"{file}::{function.name}", rows)


def rows_in(docstring: str) -> frozenset[str]:
    return frozenset(
        _known(row, "hour " if kind.lower() == "first hour" else "")
        for kind, rows in _IN_DOCSTRING.findall(docstring)
        for row in re.findall(_ID, rows)
    ) - {""}


def rows_in_name(name: str) -> frozenset[str]:
    found = _IN_NAME.match(name)
    return frozenset(map(_known, re.findall(r"[a-z]?\d+[a-z]?", found.group(1)))) - {""} if found else frozenset()


def _known(row: str, prefix: str = "") -> str:
    """The row as it is listed; "" for what is none."""
    spelled = prefix + (row[0].upper() + row[1:])
    return spelled if spelled in ROWS else ""


def cases(nodes: Mapping[str, frozenset[str]], collected: list[str]) -> Counter[str]:
    """How many test cases each row has. `collected`: node ids of pytest."""
    count: Counter[str] = Counter()
    for node in collected:
        function, _, parameters = node.partition("[")
        count.update(nodes.get(function, frozenset()) | rows_in(parameters))
    return count


def main() -> None:
    """Prints each row with its number of test cases, and the totals."""
    nodes = {by.node: by.rows for by in named() if not by.node.endswith("::")}
    files = sorted({node.partition("::")[0] for node in nodes})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    output = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=True).stdout
    collected = [line for line in output.splitlines() if "::" in line]
    count = cases(nodes, collected)
    for row in ROWS:
        print(f"{row:9} {count[row]:5}")
    tests = {node for node in collected if node.partition("[")[0] in nodes}
    print(f"{len(ROWS)} rows, {len(nodes)} tests that name them, {len(tests)} cases")


if __name__ == "__main__":
    main()
