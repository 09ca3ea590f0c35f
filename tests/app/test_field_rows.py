"""Rows and indices as servers of the field write them. Rows are those of the field cases, named in the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamer.errors import ProviderBlocked, RetriableError
from streamer.protocols import Embedding, Rejection
from tests.app.field_servers import POISON, TEXTS, assert_only_poison_is_refused, blocked_state, dispatching
from tests.support.vendors.ollama import FakeOllama
from tests.support.vendors.openai import FakeOpenAI
from tests.support.vendors.services import KEY, assert_same

pytestmark = pytest.mark.anyio

Edit = Callable[[Any, Any], Any]

BAD_ROWS: dict[str, Any] = {
    "empty": [],
    "empty base64": "",
    "short": [0.1] * 7,
    "long": [0.1] * 5000,
    "nan": [float("nan")] * 1536,
    "infinite": [1e300] * 1536,
    "null": None,
    "null inside": [None] * 1536,
    "zero": [0.0] * 1536,
    "an object": {"values": [0.1]},
    "a number": 3,
    "words": ["a"] * 1536,
    "vectors of tokens": [[0.1] * 1536, [0.2] * 1536],
    "half a base64": "AAAAAAA",
    "true": True,
}


def spoiling(row: Any) -> Edit:
    """The row of the poisonous text."""

    def edit(answer: Any, asked: Any) -> Any:
        for item, text in zip(answer["data"], asked["input"], strict=True):
            if text == "POISON":
                item["embedding"] = row
        return answer

    return edit


@pytest.mark.parametrize("row", BAD_ROWS.values(), ids=BAD_ROWS)
async def test_row_1_one_bad_row_is_one_bad_row(row: Any) -> None:
    async with FakeOpenAI(key=KEY) as server, dispatching(server) as service:
        server.edit = spoiling(row)
        assert_only_poison_is_refused(server, await service.embed(TEXTS, "document"), "invalid_vector")
        assert service.state() is None
        # Once with the others, alone until it is given up, and a harmless one between.
        assert len(server.requests) <= 5
        # And alone from the start, as in a trickle.
        [alone] = await service.embed(["POISON"], "document")
        assert isinstance(alone, Rejection)
        assert alone.kind == "invalid_vector"


@pytest.mark.parametrize("row", [[], [0.1] * 7, None, [0.1] * 1000], ids=["empty", "short", "null", "long"])
async def test_row_1_the_same_with_ollama(row: Any) -> None:
    def edit(answer: Any, asked: Any) -> Any:
        answer["embeddings"] = [
            row if text == "POISON" else vector
            for text, vector in zip(asked["input"], answer["embeddings"], strict=True)
        ]
        return answer

    async with FakeOllama(key=KEY) as server, dispatching(server, "ollama", document_prefix="") as service:
        server.edit = edit
        assert_only_poison_is_refused(server, await service.embed(TEXTS, "document"), "invalid_vector")


async def test_row_1_ollama_answers_no_row_at_all_for_one_text() -> None:
    def edit(answer: Any, asked: Any) -> Any:
        answer["embeddings"] = [v for t, v in zip(asked["input"], answer["embeddings"], strict=True) if t != "POISON"]
        return answer

    async with FakeOllama(key=KEY) as server, dispatching(server, "ollama", document_prefix="") as service:
        server.edit = edit
        assert_only_poison_is_refused(server, await service.embed(TEXTS, "document"), "invalid_vector")


async def test_row_1_two_bad_rows_of_one_width_are_no_change_of_model() -> None:
    def edit(answer: Any, asked: Any) -> Any:
        for item, text in zip(answer["data"], asked["input"], strict=True):
            if text.startswith("odd"):
                item["embedding"] = [0.1] * 7
        return answer

    async with FakeOpenAI(key=KEY) as server, dispatching(server) as service:
        server.edit = edit
        outcomes = await service.embed(["odd one", "odd two"], "document")
        assert [outcome.kind for outcome in outcomes if isinstance(outcome, Rejection)] == ["invalid_vector"] * 2


@pytest.mark.parametrize("name", ["empty", "null", "short", "zero", "an object", "half a base64"])
async def test_row_1_all_rows_wrong_is_the_providers_problem(name: str) -> None:
    def edit(answer: Any, asked: Any) -> Any:
        for item in answer["data"]:
            item["embedding"] = BAD_ROWS[name]
        return answer

    async with FakeOpenAI(key=KEY) as server, dispatching(server, max_items=1) as service:
        server.edit = edit
        said = await blocked_state(server, service)
        assert "the provider rejects even a trivial text" in said
    async with FakeOpenAI(key=KEY) as server, dispatching(server, give_up_after=0.2) as service:
        server.edit = edit
        with pytest.raises(RetriableError, match=r"none of \d|even a trivial text"):
            await service.embed(TEXTS, "document")


async def test_r2_another_width_in_mid_run_pauses_and_recovers() -> None:
    def edit(answer: Any, asked: Any) -> Any:
        for item in answer["data"]:
            item["embedding"] = [0.1] * 768
        return answer

    async with FakeOpenAI(key=KEY) as server, dispatching(server) as service:
        await service.embed(["before"], "document")
        server.edit = edit
        said = await blocked_state(server, service)
        assert "vectors of 1536 dimensions were expected, the provider sent 768" in said
        assert service.state() is None


async def test_r2_another_model_in_mid_run_pauses_and_recovers() -> None:
    async with FakeOpenAI(key=KEY) as server, dispatching(server) as service:
        await service.embed(["before"], "document")
        server.edit = lambda answer, asked: answer | {"model": "bge-m3"}
        said = await blocked_state(server, service)
        assert "answers with the model 'bge-m3' now and with 'text-embedding-3-small' before" in said
        server.edit = lambda answer, asked: answer | {"model": "openai/text-embedding-3-small-v2"}
        [same] = await service.embed(["after"], "document")
        assert isinstance(same, Embedding)


def without_zero(index: int) -> int | None:
    return index or None


INDICES: dict[str, Callable[[int], Any]] = {
    "0 is left out": without_zero,
    "the last is left out": lambda index: None if index == len(TEXTS) - 1 else index,
    "null": lambda index: None,
    "strings": str,
    "strings without 0": lambda index: str(index) if index else None,
    "floats": float,
    "strings of floats": lambda index: f"{index}.0",
    "from 1": lambda index: index + 1,
}


@pytest.mark.parametrize("order", ["as asked", "backwards"])
@pytest.mark.parametrize("name", INDICES)
async def test_row_3_an_index_is_read_leniently(name: str, order: str) -> None:
    """3 and 3b. Out of order (row 35) only where the index says so."""

    def edit(answer: Any, asked: Any) -> Any:
        for item in answer["data"]:
            index = INDICES[name](item.pop("index"))
            if index is not None or name == "null":
                item["index"] = index
        if order == "backwards" and name != "null":
            answer["data"].reverse()
        return answer

    async with FakeOpenAI(key=KEY) as server, dispatching(server) as service:
        server.edit = edit
        outcomes = await service.embed(TEXTS, "document")
        for text, outcome in zip(TEXTS, outcomes, strict=True):
            assert isinstance(outcome, Embedding), outcome
            assert_same(outcome.vector[None], server.expected([text]))
        assert len(server.requests) == 1


ODD: dict[str, Callable[[int], Any]] = {
    "all 0": lambda index: 0,
    "all 1": lambda index: 1,
    "0 and 1 again and again": lambda index: index % 2,
    "words": lambda index: f"item {index}",
    "halves": lambda index: index / 2,
    "negative": lambda index: -index,
    "beyond": lambda index: 2 * index,
}


@pytest.mark.parametrize("name", ODD)
async def test_row_3b_indices_without_an_order_are_refused_clearly_and_at_once(name: str) -> None:
    def edit(answer: Any, asked: Any) -> Any:
        for item in answer["data"]:
            item["index"] = ODD[name](item["index"])
        return answer

    async with FakeOpenAI(key=KEY) as server, dispatching(server, give_up_after=60.0) as service:
        server.edit = edit
        with pytest.raises(ProviderBlocked, match=r"8 texts need 0 to 7, each once; .*set provider\.max_items = 1"):
            await service.embed(TEXTS, "document")
        assert len(server.requests) == 1
    async with FakeOpenAI(key=KEY) as server, dispatching(server, max_items=1) as service:
        server.edit = edit
        outcomes = await service.embed(TEXTS, "document")
        assert all(isinstance(outcome, Embedding) for outcome in outcomes)


async def test_row_3_a_missing_item_is_the_bad_row() -> None:
    def edit(answer: Any, asked: Any) -> Any:
        answer["data"] = [item for item in answer["data"] if asked["input"][item["index"]] != "POISON"]
        return answer

    async with FakeOpenAI(key=KEY) as server, dispatching(server) as service:
        server.edit = edit
        outcomes = await service.embed(TEXTS, "document")
        assert_only_poison_is_refused(server, outcomes, "invalid_vector")
        assert len(server.requests) <= 5
        assert isinstance(outcomes[POISON], Rejection)
