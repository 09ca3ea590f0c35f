"""Answers that are longer than memory: of this kind nobody has sent us any yet."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.adapters.providers import answer_size
from streamer.adapters.providers.answer_size import MEBIBYTE, AnswerTooLarge, answer_bytes
from streamer.embedding.backoff import BackoffPolicy
from streamer.embedding.contracts import contract_for
from streamer.embedding.dispatcher import Dispatcher
from streamer.errors import ProviderBlocked, RateLimited, RejectedError, RetriableError
from streamer.protocols import Embedding, Rejection
from tests.support.vendors.misbehaviour import NOTHING, Fault
from tests.support.vendors.server import Request
from tests.support.vendors.services import (
    SERVICES,
    TEXTS,
    assert_same,
    every_adapter,
    failure,
    one_adapter_and_slowly_every,
    running,
)

SPACES = b" " * 65536


@pytest.fixture
def _one_mebibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_size, "LEAST_BYTES", MEBIBYTE)


def packed(body: bytes, *, times: int = 1, bits: int = 31) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    return b"".join(packer.compress(body) for _ in range(times)) + packer.flush()


def gzipped(body: bytes, encoding: str = "gzip") -> Fault:
    return Fault(body=body, headers={"content-encoding": encoding})


TOO_LONG = {
    "without an end": Fault(endless=SPACES),
    "without an end, packed": Fault(endless=packed(b"x" * 65536)[:-8], headers={"content-encoding": "gzip"}),
    "a right one and more": Fault(body=b'{"data": []}', endless=SPACES),
    "gzip bomb": gzipped(packed(bytes(MEBIBYTE), times=60)),
    "deflate bomb": gzipped(packed(bytes(MEBIBYTE), times=60, bits=15), "deflate"),
    "announced": Fault(body=b"{}", headers={"content-length": str(10 << 30)}),
}


@contextmanager
def memory_within(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@pytest.mark.anyio
@pytest.mark.usefixtures("_one_mebibyte")
@one_adapter_and_slowly_every
async def test_no_more_is_read_than_the_vectors_can_take(service):
    """And a later call over the same client is an ordinary one."""
    async with running(service) as (server, provider):
        await provider.embed(TEXTS[:1], "document")
        for name, fault in TOO_LONG.items():
            server.misbehave(fault)
            with memory_within(24 * MEBIBYTE):
                error = await failure(provider)
            assert type(error) is RetriableError, name
            if "end, packed" not in name:  # whose second part is no gzip
                assert "longer than 1.8 MiB, which is more than its vectors can take" in str(error), name
            assert (error.status, error.may_be_billed) == (200, True) or "packed" in name
        assert server.endless_bytes < 32 * MEBIBYTE
        assert_same((await provider.embed(TEXTS, "document")).vectors, service.expected(TEXTS, "document"))


@pytest.mark.slow
@pytest.mark.anyio
@one_adapter_and_slowly_every
async def test_a_refusal_is_known_however_long_it_is(service):
    async with running(service) as (server, provider):
        for status, kind in ((401, ProviderBlocked), (429, RateLimited), (422, RejectedError), (502, RetriableError)):
            server.misbehave(Fault(status=status, body=b"<html>", endless=SPACES, content_type="text/html"))
            server.misbehave(replace(gzipped(packed(SPACES, times=1000)), status=status))
            for _ in range(2):
                with memory_within(24 * MEBIBYTE):
                    error = await failure(provider)
                assert type(error) is kind
                assert error.status == status


@pytest.mark.anyio
@every_adapter
async def test_what_is_packed_as_it_was_asked_for_is_unpacked(service):
    async with running(service) as (server, provider):
        await provider.embed(TEXTS, "document")
        assert server.requests[-1].headers["accept-encoding"] == "gzip, deflate"
        body = server._reply(server.requests[-1], NOTHING).body
        for encoding, bits in (("gzip", 31), ("x-gzip", 31), ("deflate", 15), ("Deflate", -15), ("identity", 0)):
            server.misbehave(gzipped(packed(body, bits=bits) if bits else body, encoding))
            assert_same((await provider.embed(TEXTS, "document")).vectors, service.expected(TEXTS, "document"))
        for encoding in ("br", "zstd", "gzip, gzip"):
            server.misbehave(gzipped(body, encoding))
            error = await failure(provider)
            assert type(error) is RetriableError
            assert f"its content-encoding is {encoding}, which was not asked for" in str(error)


@pytest.mark.anyio
@pytest.mark.usefixtures("_one_mebibyte")
async def test_one_text_whose_answer_has_no_end_costs_no_other_its_vector():
    def fault(request: Request) -> Fault:
        return Fault(endless=SPACES) if "endless" in request.json["input"] else NOTHING

    async with running(SERVICES["openai"]) as (server, provider):
        server.always = fault
        contract = contract_for("openai", "text-embedding-3-small")
        dispatcher = Dispatcher(provider, contract, backoff=BackoffPolicy(initial=0.001, maximum=0.001))
        *outcomes, last = await dispatcher.embed([*TEXTS, "endless"], "document")
    assert all(isinstance(outcome, Embedding) for outcome in outcomes)
    assert isinstance(last, Rejection)
    assert last.kind == "rejected"
    assert "longer than" in last.reason


@given(st.lists(st.text(max_size=40), min_size=1, max_size=5), st.integers(1, 300), st.floats(width=32))
def test_a_right_answer_is_never_too_long(texts: list[str], dimensions: int, number: float) -> None:
    """As the most wordy of servers writes it: printed, in ASCII, with the texts, of a model that is twice as wide."""
    answer = {"data": [{"embedding": [number] * 2 * dimensions, "text": text} for text in texts]}
    body = json.dumps(answer, indent=8)
    assert len(body) < answer_bytes(texts, dimensions) - answer_size.LEAST_BYTES + 1000


def test_the_bound_grows_with_what_was_asked_for() -> None:
    small, texts = answer_bytes(["late"], 384), ["late"] * 2048
    assert small < 9 * MEBIBYTE
    assert 2048 * 8192 * 22 < answer_bytes(texts, 8192) < 2048 * 8192 * 40
    assert answer_bytes(["x" * 10_000_000], 384) > small + 60_000_000  # one that sends escapes of it back


@pytest.mark.anyio
async def test_tiny_chunks_come_as_large_ones() -> None:
    """Each costs the client forty bytes beside its own."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100_000):
            yield b"ab"

    response: Any = SimpleNamespace(status_code=200, headers={})
    pieces = [piece async for piece in answer_size._bounded(response, chunks(), "", 200_000)]
    assert b"".join(pieces) == b"ab" * 100_000
    assert len(pieces) == 4
    with pytest.raises(AnswerTooLarge):
        async for _ in answer_size._bounded(response, chunks(), "", 199_999):
            pass
    with pytest.raises(httpx.DecodingError):
        async for _ in answer_size._bounded(response, chunks(), "gzip", 200_000):
            pass
