"""The pages for contributors are true: their files and identifiers, private attributes, threads and locks."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "streamer"
TEXT = (ROOT / "docs" / "architecture.md").read_text()
BOTH = TEXT + (ROOT / "docs" / "contributing.md").read_text()
PATH = r"[\w/]+\.py"
REFERENCES = sorted(set(re.findall(rf"`({PATH}):([\w.]+)`", BOTH)))
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def section(title: str) -> str:
    """The text of a section of second order, with its subsections."""
    return re.split(r"^## ", TEXT.partition(f"\n## {title}\n")[2], flags=re.MULTILINE)[0]


@cache
def names_in(file: str) -> frozenset[str]:
    """What the file defines: classes, functions, variables, and attributes as `Class.attribute`."""
    found: set[str] = set()

    def visit(nodes: list[ast.stmt], prefix: str) -> None:
        for node in nodes:
            match node:
                case ast.ClassDef():
                    found.add(f"{prefix}{node.name}")
                    visit(node.body, f"{node.name}.")
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    found.add(f"{prefix}{node.name}")
                    own = [n for n in ast.walk(node) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)]
                    found.update(f"{prefix}{n.attr}" for n in own if ast.unparse(n.value) == "self")
                case ast.Assign():
                    found.update(f"{prefix}{ast.unparse(target)}" for target in node.targets)
                case ast.AnnAssign():
                    found.add(f"{prefix}{ast.unparse(node.target)}")
                case _:
                    pass

    visit(ast.parse(SOURCES[file]).body, "")
    return frozenset(found)


def test_what_is_named_exists() -> None:
    assert not [(file, name) for file, name in REFERENCES if file not in SOURCES or name not in names_in(file)]


def test_files_named_exist() -> None:
    """Without an identifier, too; those of the tests are named from the top of the repository."""
    named = set(re.findall(rf"`({PATH})`", BOTH))
    assert not [file for file in named if file not in SOURCES and not (ROOT / file).exists()]


def test_the_walks_name_what_they_pass() -> None:
    assert len(REFERENCES) > 80


def test_every_file_is_listed_once() -> None:
    listed = re.findall(rf"^\| `({PATH})` \|", section("Files"), flags=re.MULTILINE)
    files = {file for file, source in SOURCES.items() if source.strip()}
    assert not files - set(listed), "each needs a row in docs/architecture.md"
    assert not set(listed) - files, "their rows should go"
    assert len(listed) == len(files)


def test_data_files_are_listed() -> None:
    found = [p for p in PACKAGE.rglob("*") if p.suffix in {".html", ".txt", ".jsonl"}]
    assert found
    assert not [p for p in found if f"`{p.relative_to(PACKAGE).as_posix()}`" not in section("Files")]


def test_every_private_attribute_of_the_kafka_client_is_listed() -> None:
    listed = re.findall(rf"^\| `({PATH})` \| `(\w+)` \|", section("Private attributes of aiokafka"), flags=re.MULTILINE)
    used: set[tuple[str, str]] = set()
    for file, source in SOURCES.items():
        lines = [line.partition("# noqa: SLF001") for line in source.splitlines()]
        code = "\n".join(before for before, marker, _ in lines if marker)
        used |= {(file, name) for name in re.findall(r"(?<!self)(?:\.|\")(_[a-z]\w*)", code)}
    assert sorted(listed) == sorted(used)


def test_every_thread_and_lock_is_listed() -> None:
    """A file that makes a lock or moves work to a thread is named in the section about them."""
    makes = re.compile(r"(?<![\w.])(?:threading\.|asyncio\.|anyio\.)?(?:Lock|ThreadPoolExecutor|CapacityLimiter)\(")
    moves = re.compile(r"\b(?:to_thread(?:\.run_sync)?|run_sync|run_in_executor|start_blocking_portal)\(")
    files = [file for file, source in SOURCES.items() if makes.search(source) or moves.search(source)]
    assert len(files) > 10
    assert not [file for file in files if f"`{file}:" not in section("Threads and locks")]


def test_state_of_a_partition_has_the_seven_places() -> None:
    assert len(re.findall(r"^\| `", section("Who owns the state of a partition"), flags=re.MULTILINE)) == 7
