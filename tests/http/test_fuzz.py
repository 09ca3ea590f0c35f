"""Requests made up from the interface's own description, valid and not, against a real server: never a 5xx.

Schemathesis takes a second to import, so only the process that runs these tests does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, given, settings

from streamer.http.api import create_api
from streamer.http.server import serve
from tests.support.examples import examples
from tests.support.indexing import Running, Topic
from tests.support.serving import DegreesEmbedder


class NumbersEmbedder(DegreesEmbedder):
    """Never waits and never fails: what a provider does to a search is tested elsewhere."""

    async def embed(self, texts: Any, purpose: Any) -> Any:
        return await super().embed([text if text.isascii() and text.isdigit() else "none" for text in texts], purpose)


async def _serve(stop: anyio.Event, *, task_status: TaskStatus[int]) -> None:
    topic = Topic()
    for i in range(36):
        topic.append(f"id-{i}", i * 10, text=f"text {i}", number=i)
    this = Running(topic)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(this.indexer.run)
        await this.settle()
        task_status.started(await tasks.start(serve, create_api(this.indexer, NumbersEmbedder()), "127.0.0.1", 0))
        await stop.wait()
        this.indexer.stop()
        tasks.cancel_scope.cancel()


@pytest.fixture(scope="module")
def described() -> Iterator[Any]:
    import schemathesis

    with start_blocking_portal() as portal:
        stop = portal.call(anyio.Event)
        future, port = portal.start_task(_serve, stop)
        # The live verdicts have no end.
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json").exclude(path="/v1/events")
        portal.call(stop.set)
        future.result(20)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_no_request_upsets_it(described: Any, mode: str) -> None:
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

    checks = (not_a_server_error, status_code_conformance, response_schema_conformance)
    for found in described.get_all_operations():
        operation = found.ok()
        if mode == "negative" and operation.path != "/v1/search":
            continue  # nothing about these can be wrong

        @given(case=operation.as_strategy(generation_mode=GenerationMode(mode)))
        @settings(
            max_examples=examples(40) if operation.path.startswith("/v1/") else 3,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        def holds(case: Any) -> None:
            case.call_and_validate(checks=checks)

        holds()
