"""A headless Chromium, driven over its debugging pipe: no driver program, no port, no package."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--no-proxy-server", "--hide-scrollbars",
    "--disable-dev-shm-usage", "--remote-debugging-pipe", "--enable-precise-memory-info",
)  # fmt: skip
# The browser listens at 3 and speaks at 4.
LAUNCH = """import os, sys
to_it, from_it = (os.dup(int(number)) for number in sys.argv[1:3])
os.dup2(to_it, 3), os.dup2(from_it, 4)
os.set_inheritable(3, True), os.set_inheritable(4, True)
os.execv(sys.argv[3], sys.argv[3:])"""
PATIENCE = 60.0  # seconds: machines that test are busy ones


class PageError(AssertionError):
    """What the page's script threw."""


class Page:
    """One page of a browser. `problems`: what its console and its network had to complain of; `requested`: all that it
    asked for. Both grow while something is waited for."""

    def __init__(self, send: Callable[[bytes], None], receive: int) -> None:
        self.problems: list[str] = []
        self.requested: list[str] = []
        self._send = send
        self._receive = receive
        self._buffer = b""
        self._ids = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, and its result."""
        number = next(self._ids)
        session = {"sessionId": self._session} if self._session else {}
        self._send(json.dumps({"id": number, "method": method, "params": parameters, **session}).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while number not in self._answers:
            assert time.monotonic() < deadline, f"{method} was not answered"
            self._read(deadline - time.monotonic())
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def js(self, expression: str) -> Any:
        """The value of an expression, awaited. It runs whatever the page's policy says."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise PageError(answer["exceptionDetails"].get("exception", {}).get("description", str(answer)))
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = PATIENCE) -> Any:
        """Wait until it is true; its value."""
        deadline = time.monotonic() + seconds
        while True:
            error = ""
            try:
                if value := self.js(expression):
                    return value
            except PageError as exc:  # what it looks at is not there yet
                error = str(exc)
            assert time.monotonic() < deadline, (
                f"never true: {expression}\n{error}\n{self.problems[-5:]}\n{self.js('document.body.innerText')}"
            )
            self.settle(0.05)

    def settle(self, seconds: float) -> None:
        """Let the page go on, and hear what it has to say."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._read(left)

    def press(self, key: str, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            code = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowLeft": 37, "ArrowRight": 39}.get(
                key, ord(key[0].upper())
            )
            shown = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **shown)

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of what the selector finds."""
        box = self.js(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)}); "
            "found.scrollIntoView({block: 'center'}); const {x, y, width, height} = found.getBoundingClientRect(); "
            "return [x + width / 2, y + height / 2] })()"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def look(self, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Sizes in CSS pixels; below 500 it is a phone. Nothing is animated, so that pictures do not depend on time."""
        phone = width < 500
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, still])

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of what is seen, or of the `whole` page."""
        options: dict[str, Any] = {"captureBeyondViewport": True} if whole else {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            options["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **options)["data"]))

    def _read(self, seconds: float) -> None:
        if not select([self._receive], [], [], max(0.0, seconds))[0]:
            return
        read = os.read(self._receive, 1 << 20)
        assert read, "the browser has ended"
        *messages, self._buffer = (self._buffer + read).split(b"\0")
        for message in messages:
            self._hear(json.loads(message))

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = dict(message)
            return
        said = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requested.append(said["request"]["url"])
            case "Runtime.exceptionThrown":
                self.problems.append(str(said["exceptionDetails"].get("exception", {}).get("description", said)))
            case "Runtime.consoleAPICalled" if said["type"] in ("error", "warning", "assert"):
                self.problems.append(
                    f"console: {[each.get('value', each.get('description')) for each in said['args']]}"
                )
            case "Log.entryAdded" if said["entry"]["level"] in ("error", "warning"):
                self.problems.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")


@contextmanager
def browsing(folder: Path) -> Iterator[Page]:
    """A page in a browser of its own, whose profile is in `folder`."""
    assert BROWSER is not None
    (to_it, ours), (theirs, from_it) = os.pipe(), os.pipe()
    log = (folder.parent / f"{folder.name}.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(to_it), str(from_it), BROWSER, *FLAGS, f"--user-data-dir={folder}"],
        pass_fds=(to_it, from_it),
        stdout=subprocess.DEVNULL,
        stderr=log,
    )
    log.close()
    os.close(to_it)
    os.close(from_it)
    try:
        yield Page(lambda message: _write(ours, message), theirs)
    finally:
        os.close(ours)  # without its pipe it ends
        os.close(theirs)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _write(pipe: int, message: bytes) -> None:
    while message:
        message = message[os.write(pipe, message) :]
