"""Answers that no service should give: whatever they are, the process lives and the error is one of ours."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from streamer.errors import ProviderBlocked, RejectedError, RetriableError, StreamerError
from tests.support.vendors.misbehaviour import NOTHING, Fault
from tests.support.vendors.services import TEXTS, assert_same, every_adapter, failure, running

pytestmark = pytest.mark.anyio

DEEP = {
    "arrays": b"[" * 100_000,
    "objects": b'{"data":' * 100_000,
    "closed": b'{"embeddings":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "an error": b'{"error":' * 3_000 + b"1" + b"}" * 3_000,
}
VALUES: list[Any] = [
    None, True, False, 0, -1, 2**70, 1e308, float("nan"), float("inf"), "", "x", "0", "AAAA", "\ud800", "\0",
    [], {}, [[]], [None], [{}], {"": None}, {"embedding": [1.0]}, {"base64": "AAAA"}, {"message": "no"}, [[[1.0]]],
]  # fmt: skip


@every_adapter
@pytest.mark.parametrize("status", [200, 400, 503])
async def test_an_answer_nested_beyond_what_python_reads_is_one_that_cannot_be_used(service, status):
    kind = {200: RetriableError, 400: RejectedError, 503: RetriableError}[status]
    async with running(service) as (server, provider):
        for name, body in DEEP.items():
            server.misbehave(Fault(status=status, body=body))
            error = await failure(provider)
            assert type(error) is kind, name
            assert error.status == status, name
        assert_same((await provider.embed(TEXTS, "document")).vectors, service.expected(TEXTS, "document"))


@every_adapter
async def test_a_refusal_keeps_its_meaning_when_its_body_cannot_be_read(service):
    """As with a number of more digits than Python takes."""
    async with running(service) as (server, provider):
        for status, kind in ((401, ProviderBlocked), (400, RejectedError)):
            server.misbehave(Fault(status=status, body=b'{"code": ' + b"9" * 5_000 + b"}"))
            error = await failure(provider)
            assert type(error) is kind
            assert error.status == status


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Of all that is inside of a JSON value, but the numbers of a vector after the first."""
    inner = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    numbers = bool(inner) and isinstance(inner[0][1], float)
    return [path, *(found for name, each in (inner[:1] if numbers else inner) for found in places(each, (*path, name)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


@every_adapter
async def test_any_part_of_an_answer_may_be_anything(service):
    chance = random.Random(5)
    async with running(service) as (server, provider):
        await provider.embed(TEXTS[:2], "document")
        honest = json.loads(server._reply(server.requests[-1], NOTHING).body)
        everywhere = places(honest)
        for round_ in range(100):
            new = chance.choice(VALUES)
            for path in chance.sample(everywhere, 1 + round_ % 2):
                try:
                    body = json.dumps(changed(honest, path, new)).encode("utf-8", "surrogatepass")
                except (KeyError, IndexError, TypeError):
                    continue
                server.misbehave(Fault(body=body, status=chance.choice([200, 200, 200, 400, 500])))
                try:
                    answer = await provider.embed(TEXTS[:2], "document")
                except StreamerError:
                    continue
                assert answer.vectors.dtype == np.float32
                assert answer.vectors.ndim == 2
