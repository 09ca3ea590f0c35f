"""Requests that servers of the field refuse for their size or fail now and then: rows 34 and 35."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.protocols import Embedding
from tests.app.field_servers import dispatching, refusing
from tests.support.vendors.misbehaviour import Fault
from tests.support.vendors.openai import FakeOpenAI
from tests.support.vendors.services import KEY, assert_same

pytestmark = pytest.mark.anyio

TEXTS = [f"text number {i}" for i in range(30)]

TOO_MANY: dict[str, tuple[int, Any]] = {
    "nginx": (413, "<html><h1>413 Request Entity Too Large</h1></html>"),
    "TEI": (422, {"error": "batch size 30 > maximum allowed batch size 16", "error_type": "Validation"}),
    "TEI, 413": (413, {"error": "batch size 30 > maximum allowed batch size 16", "error_type": "Validation"}),
    "SiliconFlow": (
        413,
        {"code": 20042, "message": "input batch size 30 > maximum allowed batch size 16", "data": None},
    ),
    "Azure": (400, {"error": {"message": "Too many inputs. The max number of inputs is 16.", "param": None}}),
    "DashScope": (
        400,
        {"error": {"message": "batch size is invalid, it should not be larger than 10.: input.contents"}},
    ),
    "FastAPI": (422, {"detail": [{"loc": ["body", "input"], "msg": "List should have at most 16 items"}]}),
}


@pytest.mark.parametrize("name", TOO_MANY)
async def test_row_34_too_many_texts_are_split_and_the_number_is_remembered(name: str) -> None:
    status, body = TOO_MANY[name]
    async with FakeOpenAI(key=KEY) as server, dispatching(server) as service:
        server.always = refusing(status, body, lambda asked: len(asked["input"]) > 16)
        for _ in range(2):
            server.requests.clear()
            outcomes = await service.embed(TEXTS, "document")
            for text, outcome in zip(TEXTS, outcomes, strict=True):
                assert isinstance(outcome, Embedding), outcome
                assert_same(outcome.vector[None], server.expected([text]))
        assert max(len(request.json["input"]) for request in server.requests) <= 16
        assert service.state() is None


@pytest.mark.parametrize("status", [424, 429, 500, 503, 529])
async def test_row_35_what_passes_is_waited_out(status: int) -> None:
    async with FakeOpenAI(key=KEY) as server, dispatching(server) as service:
        server.misbehave(*[Fault(status=status, body=b"{}")] * 3)
        outcomes = await service.embed(TEXTS, "document")
        assert all(isinstance(outcome, Embedding) for outcome in outcomes)
