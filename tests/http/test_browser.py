"""What the dashboard makes of hostile ids, texts, metadata and errors, in a real browser: no script of theirs runs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import orjson
import pytest
from starlette.responses import Response, StreamingResponse

from streamer.http import dashboard
from tests.support.indexing import Topic
from tests.support.serving import serving_an_index

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

if BROWSER is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(180)]

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


async def dom_of(url: str, folder: Path) -> str:
    """The document once it is complete, see `in_two_pieces`."""
    assert BROWSER is not None
    command: Sequence[str] = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--no-proxy-server", f"--user-data-dir={folder}", "--dump-dom", url,
    ]  # fmt: skip
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run(command, capture_output=True, timeout=120, check=False, text=True)
    )
    assert "<html" in done.stdout, done.stderr[-2000:]
    return done.stdout


# What a person does: a search, once the page is there. It is part of the page, so the page's policy lets it run.
ASK = """
setTimeout(() => { at("search").elements.text.value = WANTED; at("search").requestSubmit() }, 300)
setTimeout(() => { document.body.dataset.seen = "asked" }, 2500)
"""


def in_two_pieces(page: bytes, **options: Any) -> Response:
    """A page whose last tags come late: its scripts run meanwhile, and the browser takes it for complete afterwards."""
    shown, end, rest = page.partition(b"</body>")

    async def pieces() -> AsyncIterator[bytes]:
        yield shown
        await anyio.sleep(5)
        yield end + rest

    return StreamingResponse(pieces(), **options)


def page_that_asks(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    """The dashboard with a hand that searches for `wanted`; its policy is made for its script as ever."""
    monkeypatch.setattr(dashboard, "Response", in_two_pieces)
    literal = orjson.dumps(wanted).decode().replace("<", "\\u003c")
    script = dashboard._SCRIPT + ASK.replace("WANTED", literal).encode()
    policy = dashboard._POLICY.partition("script-src")[0]
    digest = b64encode(hashlib.sha256(script).digest()).decode()
    monkeypatch.setattr(dashboard, "_PAGE", dashboard._PAGE.replace(dashboard._SCRIPT, script))
    monkeypatch.setattr(dashboard, "_POLICY", f"{policy}script-src 'sha256-{digest}'")


def nothing_ran(dom: str) -> None:
    head = dom.partition("<body")[0]
    assert "<title>streamer</title>" in head
    for markup in ("<img", "<svg", "<iframe"):
        assert markup not in dom, "a stranger's markup became part of the page"
    assert dom.count("<script>") == 1


async def test_hostile_ids_texts_and_metadata_are_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    topic = Topic()
    for number, hostile in enumerate(HOSTILE):
        odd: Any = {"note": hostile, hostile: [hostile]}
        topic.append(f"{number} {hostile}", number, text=hostile, **odd)
        topic.append(f"{number} bare {hostile}", 90 + number, **odd)
    page_that_asks(monkeypatch, f"id:0 {HOSTILE[0]}")
    async with serving_an_index(topic) as (client, this):
        async with anyio.create_task_group() as tasks:

            async def verdicts() -> None:
                """Live ones, hostile as well, for as long as the browser looks."""
                for number in range(1000):
                    topic.append(f"live {number} {HOSTILE[number % len(HOSTILE)]}", 30)
                    await anyio.sleep(0.05)

            tasks.start_soon(verdicts)
            dom = await dom_of(str(client.base_url), tmp_path / "browser")
            tasks.cancel_scope.cancel()
        del this
    nothing_ran(dom)
    assert 'data-seen="asked"' in dom, "the search was made"
    assert "&lt;script&gt;" in dom, "and what it found is shown"
    assert dom.count("&lt;img src=x") >= 2
    assert "near duplicate</td>" in dom, "live verdicts are shown, too"


async def test_a_hostile_error_is_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page_that_asks(monkeypatch, f"id:{HOSTILE[1]}")
    async with serving_an_index(Topic()) as (client, this):
        monkeypatch.setattr(this.indexer, "ready", lambda: f"restoring {HOSTILE[0]} {HOSTILE[1]}")
        dom = await dom_of(str(client.base_url), tmp_path / "browser")
    nothing_ran(dom)
    assert "no vector of id" in dom, "the error is shown"
    assert "restoring &lt;script&gt;" in dom


async def test_the_check_would_see_a_script_that_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same page, careless: markup instead of text, and no policy."""
    page_that_asks(monkeypatch, f"id:{HOSTILE[1]}")
    careless = dashboard._PAGE.replace(b'at("failure").textContent = error', b'at("failure").innerHTML = error')
    monkeypatch.setattr(dashboard, "_PAGE", careless)
    monkeypatch.setattr(dashboard, "_POLICY", "default-src * 'unsafe-inline'")
    async with serving_an_index(Topic()) as (client, _):
        dom = await dom_of(str(client.base_url), tmp_path / "browser")
    with pytest.raises(AssertionError):
        nothing_ran(dom)
    assert SENTINEL in dom.partition("<body")[0]
