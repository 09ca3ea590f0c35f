"""What the pages make of hostile ids, texts, metadata, errors and dead letters, in a real browser: no script of theirs
runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync

from streamer.http import pages
from tests.support.browser import BROWSER, Page, browsing
from tests.support.dashboards import SaidWorker, Stream, at_work, dashboard

if BROWSER is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(240)]

SENTINEL = "owned-by-a-stranger"
RUN = f"document.title=`{SENTINEL}`"  # quotes would be escaped in some messages, and the script be none
HOSTILE = (
    f"<script>{RUN}</script>",
    f'<img src=x onerror="{RUN}">',
    f"</script><script>{RUN}</script>",
    f'"><svg/onload={RUN}>',
    f"javascript:{RUN}",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'></iframe>",
    "${" + RUN + "}{{" + RUN + "}}\u2028'\"`--><!--",
)
STRANGE = "document.querySelectorAll('main img, main iframe, main script, main svg[onload], main a[href^=java]').length"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with browsing(tmp_path / "browser") as opened:
        opened.look()
        yield opened


def hostile_stream() -> Stream:
    stream = Stream()
    for number, hostile in enumerate(HOSTILE):
        odd: Any = {"note": hostile, hostile: hostile}
        stream.publish(f"{number} {hostile}", f"ordinary words {hostile}", **odd)
        stream.publish(f"{number} again {hostile}", f"ordinary words {hostile}", **odd)
    return stream


def see_all(page: Page, url: str) -> None:
    """The feed, the map's text, a search and its results, the filter by a value of metadata, a failure."""
    page.open(url)
    page.until("document.querySelectorAll('#feed > li').length > 3")
    page.click("label:has(input[value=all])")
    page.until("document.querySelector('#feed').innerText.includes('<iframe srcdoc')")
    page.js("document.querySelector('#map').focus()")
    page.until("document.querySelector('#map-share').innerText.includes('events')")
    for _ in range(len(HOSTILE)):
        page.press("ArrowLeft")
    page.js(f"location.hash = '#' + new URLSearchParams({{like: {('0 ' + HOSTILE[0])!r}}})")
    page.until("document.querySelector('#matches').innerText.includes('<img src=x')")
    page.until("document.querySelector('#results-title').innerText.includes('<script>')")
    page.js("document.querySelector('#matches .chip').click()")
    page.js(f"location.hash = '#' + new URLSearchParams({{like: {HOSTILE[1]!r}}})")
    page.until("document.querySelector('#failure').innerText.includes('no vector of id')")
    page.settle(1.0)


async def test_hostile_ids_texts_metadata_and_dead_letters_are_text(page: Page) -> None:
    letters = [{"at": 0, "kind": text, "reason": text, "source": text, "key": text} for text in HOSTILE]
    waits = [{"reason": "provider_key", "text": HOSTILE[3], "until": None}]
    worker = SaidWorker(at_work(model=HOSTILE[1], waits=waits, dead_letters=letters), url=f"http://{HOSTILE[1]}")
    async with dashboard(hostile_stream(), worker, without=lambda: f"a cache {HOSTILE[0]} {HOSTILE[1]}") as (url, _):
        await run_sync(partial(see_all, page, url))
        assert await run_sync(page.js, "document.title") == "streamer"
        assert await run_sync(page.js, STRANGE) == 0, "a stranger's markup became part of the page"
        assert await run_sync(page.js, "document.scripts.length") == 1
        assert "<script>" in await run_sync(page.js, "document.querySelector('#words').innerText")
        assert "<img src=x" in await run_sync(page.js, "document.querySelector('#letters').innerText")
        assert [said for said in page.problems if "404" not in said] == [], "but for the id that nobody knows"


async def test_the_check_would_see_a_script_that_runs(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same page, careless: markup instead of text, and no policy."""
    careless = pages.FILES["texts.js"].replace(
        b'return make("p", { class: "text" }, ...parts)',
        b'const it = make("p", { class: "text" }); it.innerHTML = text; return it',
    )
    assert careless != pages.FILES["texts.js"]
    monkeypatch.setitem(pages.FILES, "texts.js", careless)
    monkeypatch.setattr(pages, "POLICY", "default-src * 'unsafe-inline'")
    async with dashboard(hostile_stream()) as (url, _):
        await run_sync(partial(page.open, url))
        await run_sync(partial(page.until, f"document.title === {SENTINEL!r}"))
        assert await run_sync(page.js, STRANGE) > 0


async def test_the_policy_alone_would_stop_it(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    careless = pages.FILES["texts.js"].replace(
        b'return make("p", { class: "text" }, ...parts)',
        b'const it = make("p", { class: "text" }); it.innerHTML = text; return it',
    )
    monkeypatch.setitem(pages.FILES, "texts.js", careless)
    async with dashboard(hostile_stream()) as (url, _):
        await run_sync(partial(page.open, url))
        await run_sync(partial(page.until, "document.querySelector('#words').innerText.length > 12"))
        await run_sync(page.settle, 3.0)
        assert await run_sync(page.js, "document.title") == "streamer"
        assert await run_sync(page.js, STRANGE) == 0
        assert any("TrustedHTML" in said or "trusted" in said.lower() for said in page.problems), page.problems
