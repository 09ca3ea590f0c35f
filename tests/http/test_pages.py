"""The files of the page, and how they are served."""

from __future__ import annotations

import re

import pytest

from streamer.http.pages import FILES
from tests.support.serving import small_index

pytestmark = pytest.mark.anyio


def test_the_page_is_light_and_asks_nobody_else() -> None:
    assert sum(map(len, FILES.values())) < 60_000
    for name, content in FILES.items():
        text = content.decode()
        assert len(text.splitlines()) < 300, name
        foreign = set(re.findall(r"https?://[^\s\"'`\\]+", text)) - {"http://www.w3.org/2000/svg", "http://host:8081"}
        assert not foreign, name
        assert "innerHTML" not in text, name
        # A proxy may serve it below a path of its own.
        assert not re.search(r"(?:href|src)=\"/|(?:fetch|ask)\([\"'`]/", text), name


def test_all_that_the_page_loads_is_there() -> None:
    for name, content in FILES.items():
        for loaded in re.findall(r"(?:href|src)=\"page/([^\"]+)\"|from \"\./([^\"]+)\"", content.decode()):
            assert "".join(loaded) in FILES, name


@pytest.mark.parametrize("path", ["/", "/page/page.css", "/page/index.js", "/page/icon.svg", "/page/worker.js"])
async def test_it_is_served_with_its_policy_and_asked_for_again_for_little(path: str) -> None:
    async with small_index() as client:
        response = await client.get(path)
        assert response.status_code == 200
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        again = await client.get(path, headers={"if-none-match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/page/nothing.js", "/page/../api.py", "/page/%2e%2e%2fapi.py", "/page/"])
async def test_there_is_nothing_else(path: str) -> None:
    async with small_index() as client:
        assert (await client.get(path)).status_code == 404
