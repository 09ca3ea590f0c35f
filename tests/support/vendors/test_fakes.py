"""The fakes themselves: a fake that lets a fault pass makes every test against it worthless."""

from __future__ import annotations

from math import inf

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.vendors.cohere import FakeCohere
from tests.support.vendors.limits import Limits, SlidingWindow
from tests.support.vendors.ollama import FakeOllama
from tests.support.vendors.openai import FakeOpenAI
from tests.support.vendors.server import FakeVendor
from tests.support.vendors.voyage import FakeVoyage

# Whole seconds: sums of floats would differ in the last digit.
steps = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), max_size=60)


@given(steps, st.integers(5, 20), st.integers(1, 10))
def test_a_window_never_holds_more_than_its_limit(steps, limit, seconds):
    window, now = SlidingWindow(limit, seconds), 0
    admitted: list[tuple[int, int]] = []
    for pause, amount in steps:
        now += pause
        wait = window.wait(now, amount)
        used = sum(units for at, units in admitted if at > now - seconds)
        assert (wait == 0) == (used + amount <= limit)
        if wait == 0:
            window.admit(now, amount)
            admitted.append((now, amount))
        else:
            assert sum(units for at, units in admitted if at > now + wait - seconds) + amount <= limit


def test_what_never_fits_is_told_so():
    assert SlidingWindow(3, 60).wait(0.0, 4) == inf


RIGHT = {
    FakeOpenAI: ("/v1/embeddings", {"model": "text-embedding-3-small", "input": ["a"]}, "input"),
    FakeVoyage: ("/v1/embeddings", {"model": "voyage-3", "input": ["a"]}, "input"),
    FakeCohere: (
        "/v2/embed",
        {"model": "embed-english-v3.0", "texts": ["a"], "input_type": "search_query"},
        "texts",
    ),
    FakeOllama: ("/api/embed", {"model": "nomic-embed-text", "input": ["a"]}, "input"),
}
MOST = {FakeOpenAI: 2048, FakeVoyage: 1000, FakeCohere: 96}


@pytest.mark.anyio
@pytest.mark.parametrize("fake", RIGHT, ids=lambda fake: fake.__name__)
async def test_a_fake_accepts_what_is_right_and_nothing_else(fake: type[FakeVendor]):
    path, body, texts = RIGHT[fake]
    async with fake(key="k") as server, httpx.AsyncClient(headers={"authorization": "Bearer k"}) as client:
        url = server.origin + path

        async def status(**changes: object) -> int:
            return (await client.post(url, json=body | changes)).status_code

        assert await status() == 200
        assert await status(unknown_field=1) == 400
        assert await status(**{texts: "one text"}) == 400
        assert await status(**{texts: []}) == 400
        assert await status(**{texts: [1]}) == 400
        assert await status(model="other") in (400, 404)
        if fake in MOST:
            assert await status(**{texts: ["a"] * MOST[fake]}) == 200
            assert await status(**{texts: ["a"] * (MOST[fake] + 1)}) == 400
            assert await status(**{texts: [""]}) == 400
        assert (await client.get(url)).status_code == 404
        assert (await client.post(server.origin + "/other", json=body)).status_code == 404
        assert (await client.post(url, content=b"a", headers={"content-type": "text/plain"})).status_code == 415
        assert (await client.post(url, json=body, headers={"authorization": "Bearer other"})).status_code == 401


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fake", "most"), [(FakeOpenAI, 300_000), (FakeVoyage, 320_000)], ids=lambda value: getattr(value, "__name__", "")
)
async def test_the_tokens_of_a_request_have_a_limit(fake, most):
    path, body, texts = RIGHT[fake]
    full = ["abcd" * 8000] * (most // 8000) + (["abcd" * (most % 8000)] if most % 8000 else [])
    async with fake() as server, httpx.AsyncClient() as client:
        for more, status in (([], 200), (["a"], 400)):
            response = await client.post(server.origin + path, json=body | {texts: full + more})
            assert response.status_code == status


@pytest.mark.anyio
async def test_limits_are_enforced_on_the_clock_that_is_given():
    now = 0.0
    path, body, _ = RIGHT[FakeOpenAI]
    limits = Limits(requests=2, window_seconds=60)
    async with FakeOpenAI(limits=limits, clock=lambda: now) as server, httpx.AsyncClient() as client:
        url = server.origin + path
        assert [(await client.post(url, json=body)).status_code for _ in range(3)] == [200, 200, 429]
        now = 59.0
        refused = await client.post(url, json=body)
        assert refused.headers["retry-after-ms"] == "1000"
        now = 60.0
        assert (await client.post(url, json=body)).headers["x-ratelimit-remaining-requests"] == "1"
