"""The dashboard in a real browser: what people do on it, and what it does by itself."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
import pytest
from anyio.to_thread import run_sync
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamer.core.events import DeadLetter, Origin, Record, TopicPartition
from streamer.http.answers import json_response
from streamer.http.health import create_health_app
from streamer.http.history import History
from streamer.http.role_state import RoleState
from streamer.worker.recent_dead_letters import RecentDeadLetters
from tests.support.browser import BROWSER, Page, browsing
from tests.support.dashboards import SaidWorker, Stream, at_work, dashboard
from tests.support.serving import serving

if BROWSER is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(240)]

ROOT = Path(__file__).parent.parent.parent
PICTURES = ROOT / "build" / "pictures"  # looked at by whoever changed the page
AXE = Path(os.environ.get("STREAMER_TEST_AXE", ROOT / "node_modules" / "axe-core" / "axe.min.js"))
FEED = "document.querySelectorAll('#feed > li').length"
LOOKS: Mapping[str, Mapping[str, Any]] = {
    "light": {"width": 1280, "height": 900},
    "dark": {"width": 1280, "height": 900, "dark": True},
    "phone": {"width": 390, "height": 844},
}
Seen = TypeVar("Seen")


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with browsing(tmp_path / "browser") as opened:
        opened.look()
        yield opened


async def beside(look: Callable[[], Seen]) -> Seen:
    """In a thread: the server is in this one."""
    return await run_sync(look)


def is_well(page: Page, url: str) -> None:
    """No complaint of the console, and no request to another server."""
    assert page.problems == []
    assert {urlsplit(asked).netloc for asked in page.requested} == {urlsplit(url).netloc}


def photograph(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    for look, size in LOOKS.items():
        page.look(**size)
        page.settle(1.0)
        page.picture(PICTURES / f"{name}-{look}.png")
        assert page.js("document.documentElement.scrollWidth <= innerWidth"), f"{name}-{look} scrolls sideways"
    page.look()


async def test_what_streams_is_seen_searched_and_followed(page: Page) -> None:
    """First hour R1."""
    stream = Stream()
    stream.publish_sample()
    async with dashboard(stream, SaidWorker(at_work())) as (url, _):

        def look() -> None:
            page.open(url)
            page.until(f"{FEED} > 10")  # what came before the page was opened
            page.until("document.querySelector('#feed mark') !== null")  # and how reworded ones differ
            page.until("document.querySelector('#letters').innerText.includes('Not JSON')")

            page.press("/")
            page.call("Input.insertText", text="the tenor sings a high aria")
            page.press("Enter", "\r")
            page.until("document.querySelector('#matches')?.innerText.includes('second aria')")

            page.click("#matches li:first-child button.plain")  # its neighbours
            page.until("document.querySelector('#results-title').innerText.startsWith('Nearest to msg-')")
            page.js("history.back()")
            page.until("document.querySelector('#results-title').innerText.includes('high aria')")

            page.js("document.querySelector('#map').focus()")
            page.until("document.querySelector('#map-share').innerText.includes('events')")
            page.press("ArrowLeft")
            chosen = page.until(
                "document.querySelector('#map-text').innerText.match(/^(Near|Ordi|Warm|Anom).*: (.*)/)?.[2]"
            )
            page.press("Enter", "\r")
            page.until(f"document.querySelector('#results-title').innerText.includes({chosen[:20]!r})")

            page.js("document.querySelector('#search').elements.where.value = 'channel=nowhere'")
            page.js("document.querySelector('#search').requestSubmit()")
            page.until("document.querySelector('#matches').innerText.includes('Nothing in the index')")

        await beside(look)
        await beside(lambda: is_well(page, url))


DIFFERENCES = [
    ("The box is wet.", "the box is wet.", []),
    ("To the depot: the box is wet.", "The box is wet.", ["To the depot:"]),
    ("The big box is wet.", "The box is very wet.", ["big", "very"]),
    ("", "A box.", ["A box."]),
    ("<b>x</b> and y", "<b>x</b> or y", ["and", "or"]),
]


async def test_the_words_are_marked_in_which_two_texts_differ(page: Page) -> None:
    async with dashboard(Stream()) as (url, _):

        def look() -> Any:
            page.open(url)
            page.until("document.querySelector('#words') !== null")
            given = json.dumps([[one, other] for one, other, _ in DIFFERENCES])
            return page.js(
                f"import('{url}/page/texts.js').then(texts => {given}.map(pair => texts.differences(...pair)))"
            )

        for (one, other, marked), pieces in zip(DIFFERENCES, await beside(look), strict=True):
            assert ["".join(piece for piece, _ in text) for text in pieces] == [one, other]
            assert [piece for text in pieces for piece, differs in text if differs] == marked


async def test_a_verdict_is_there_within_two_seconds(page: Page) -> None:
    stream = Stream()
    stream.publish_sample()
    async with dashboard(stream, SaidWorker("does not answer")) as (url, _):
        await beside(lambda: page.open(url))
        await beside(lambda: page.until(f"{FEED} > 10"))
        waits = []
        for number in range(5):
            stream.publish(
                f"new-{number}", "Could the driver please not block the fire lane in front of the kindergarten"
            )
            published = time.monotonic()
            seen = f"document.querySelector('#feed').innerText.includes('new-{number}')"
            await beside(lambda seen=seen: page.until(seen))  # type: ignore[misc]
            waits.append(time.monotonic() - published)
        assert sorted(waits)[2] < 2.0, waits
        await beside(lambda: is_well(page, url))


async def test_after_a_restart_it_goes_on_with_its_history(page: Page, tmp_path: Path) -> None:
    """First hour R1."""
    stream = Stream()
    stream.publish_sample()
    kept = tmp_path / "index.snapshot.history"
    async with dashboard(stream, kept=kept) as (url, _):
        await beside(lambda: page.open(url))
        await beside(lambda: page.until(f"{FEED} > 10"))
        await beside(lambda: page.until("document.querySelector('.tile .line').getAttribute('d').includes('L')"))
        before = await beside(lambda: page.js("document.querySelector('#feed').innerText.split('\\n')[0]"))
    await beside(lambda: page.until("document.querySelector('#words').innerText.includes('does not answer')"))
    assert page.problems, "the browser tells of connections that were refused, and of nothing else"
    page.problems.clear()
    async with dashboard(stream, kept=kept, port=urlsplit(url).port or 0):
        await beside(lambda: page.until("!document.querySelector('#words').innerText.includes('does not answer')"))
        stream.publish("after", "Could the driver please not block the fire lane in front of the kindergarten")
        await beside(lambda: page.until("document.querySelector('#feed').innerText.includes('after')"))
        assert await beside(lambda: page.js(f"{FEED}")) > 10, "what was there is still there"
        # And whoever comes only now sees what was before.
        page.problems.clear()
        await beside(lambda: page.open(url))
        await beside(lambda: page.until(f"{FEED} > 10"))
        assert before in await beside(lambda: page.js("document.querySelector('#feed').innerText"))
        assert (
            await beside(lambda: page.js("fetch('v1/overview').then(a => a.json()).then(a => a.history.at.length)")) > 3
        )
        await beside(lambda: is_well(page, url))


class Cutting:
    """Cuts the second answer of each path in the middle, and gives the next two as something else might give them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._answers = Counter[str]()
        self.is_done = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self._answers[path] += path.startswith("/v1/")
        if answer := {3: ["something"], 4: {"something": "else"}}.get(self._answers[path]):
            await json_response(answer)(scope, receive, send)
        else:
            await self._app(scope, receive, partial(self._cut, send) if self._answers[path] == 2 else send)
        if all(self._answers[path] > 4 for path in ("/v1/recent", "/v1/map", "/v1/overview")):
            self.is_done.set()

    async def _cut(self, send: Send, message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": message["body"][: len(message["body"]) // 2], "more_body": True}
        await send(message)


async def test_an_answer_that_cannot_be_read_is_one_that_is_asked_for_again(page: Page) -> None:
    stream, between = Stream(), list[Cutting]()
    stream.publish_sample()

    def behind(app: ASGIApp) -> ASGIApp:
        between.append(Cutting(app))
        return between[0]

    async with dashboard(stream, behind=behind) as (url, _):
        await beside(lambda: page.open(url))
        with anyio.fail_after(60):
            await between[0].is_done.wait()
        stream.publish("after", "Could the driver please not block the fire lane in front of the kindergarten")
        await beside(lambda: page.until("document.querySelector('#feed').innerText.includes('after')", 20))
        await beside(lambda: page.until("document.querySelector('#words').innerText.includes('334 remembered')", 20))
        await beside(lambda: page.until("document.querySelector('#map-share').innerText.includes('334 events')", 20))


async def test_a_flood_makes_it_no_larger(page: Page) -> None:
    """Ten thousand events a minute, for a while: the page holds so many of them, and no more."""
    stream = Stream()
    stream.publish_sample()
    async with dashboard(stream) as (url, _), anyio.create_task_group() as tasks:
        await beside(lambda: page.open(url))
        await beside(lambda: page.until(f"{FEED} > 10"))

        async def flood() -> None:
            for number in range(100_000):
                stream.publish(
                    f"flood-{number}", f"The van number {number % 977} has not left the yard of depot {number % 31}."
                )
                await anyio.sleep(60 / 10_000)

        tasks.start_soon(flood)
        nodes = []
        for _ in range(3):
            await anyio.sleep(3)
            nodes.append(await beside(lambda: page.js("document.querySelectorAll('*').length")))
        assert max(nodes) < 1_500, nodes
        assert await beside(lambda: page.js(FEED)) <= 30
        assert await beside(lambda: page.js("document.querySelector('#feed').innerText.includes('flood-')"))
        tasks.cancel_scope.cancel()
        await beside(lambda: is_well(page, url))


@pytest.mark.parametrize("state", ["empty", "first-minute", "busy", "trouble", "without-texts"])
async def test_each_state_explains_itself_is_accessible_and_is_photographed(page: Page, state: str) -> None:
    """First hour D5 and R1."""
    stream = Stream(include_text=state != "without-texts")
    worker, lacking = SaidWorker(at_work()), None
    if state == "empty":
        worker = SaidWorker("does not answer")
    elif state == "first-minute":
        for number in range(12):
            stream.publish(f"msg-{number}", f"Parcel {number} has not arrived in street {number * 7}.", channel="app")
    elif state == "trouble":
        stream.publish_sample()
        blocked = "provider blocked: openai answered 401: Incorrect API key provided"
        worker = SaidWorker(at_work(waits=[{"reason": "provider_key", "text": blocked, "until": time.time() + 30}]))
        lacking = "Kafka input: no broker answers at kafka:9092"
    else:
        stream.publish_sample(trickled=500)
    explained = {
        "empty": "Nothing has arrived yet",
        "first-minute": "Anomalies are told after",
        "busy": "one in",
        "trouble": "no broker answers",
        "without-texts": "output.include_text",
    }
    async with dashboard(stream, worker, without=lambda: lacking) as (url, _):

        def look() -> list[str]:
            page.open(url)
            page.until(f"document.body.innerText.includes({explained[state]!r})")
            page.until("document.querySelector('#map-share').innerText.length > 0")
            page.settle(3.0)
            photograph(page, state)
            return violations(page)

        assert await beside(look) == []
        await beside(lambda: is_well(page, url))


async def test_the_page_of_a_worker(page: Page) -> None:
    """First hour R1."""
    letters = RecentDeadLetters()
    tp = TopicPartition("texts", 0)
    record = Record(tp, 7, b"<b>key</b>", b"", 0)
    letters.add(DeadLetter(Origin(tp, 7, 0), record, "empty_text", "the text is empty"), time.time())
    history = History()
    for number in range(60):
        history.add(time.time() - 300 + number * 5, {"embedded": 40.0 + number % 7, "in_flight": 12.0})

    class Worker:
        def state(self) -> RoleState:
            return RoleState(not_ready="provider rate limited until 05:05:48Z")

        def statistics(self) -> Any:
            raise AssertionError("the page does not scrape")

    facts = {"totals": {"records": 1200}, "partitions": 4, "dead_letters": letters.list()}
    app = create_health_app("worker", Worker(), history=history, facts=lambda: facts)
    async with serving(app) as client:
        url = str(client.base_url)

        def look() -> list[str]:
            page.open(url)
            page.until("document.querySelector('#words').innerText === 'Provider rate limited until 05:05:48Z.'")
            page.until("document.querySelector('#letters').innerText.includes('<b>key</b>')")
            page.until("document.querySelector('#totals').innerText.includes('1,200')")
            photograph(page, "worker")
            return violations(page)

        assert await beside(look) == []
        await beside(lambda: is_well(page, url))


def violations(page: Page) -> list[str]:
    """What axe-core has to complain of, in light and dark; nothing where it is not installed."""
    if not AXE.exists():
        return []
    found = []
    for dark in (False, True):
        page.look(dark=dark)
        page.js(AXE.read_text() + "; true")
        wrong = page.js(
            "axe.run().then(r => r.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html).join(' ')]))"
        )
        found += [f"{impact} {rule}: {where[:300]}" for impact, rule, where in wrong]
    return found


def test_accessibility_is_checked() -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed; to install it: npm install --no-save axe-core")
