"""A picture of a running indexer's dashboard, for the README: see `docs/images/README.md`.

    python -m tests.docs.screenshot http://localhost:8080 docs/images/dashboard.png

A headless browser takes its picture when a page has loaded, which is before anything has happened on this one. So the
page comes through a server that adds an element to it which takes its time to load.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
)  # fmt: skip
ADDED = """<img src="/slow" hidden><script>
const wanted = {text}
if (wanted) setTimeout(() => {{
  document.querySelector("form input").value = wanted
  document.querySelector("form").requestSubmit()
}}, {milliseconds})
</script>"""


def serve(url: str, text: str, seconds: float) -> ThreadingHTTPServer:
    """Hands on what is at `url`; half-way the page searches for `text`."""
    added = ADDED.format(text=json.dumps(text), milliseconds=seconds * 500)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["content-length"])))

        def _answer(self, body: bytes | None) -> None:
            if self.path == "/slow":
                time.sleep(seconds)
                self.send_error(404)
                return
            try:
                answer = urlopen(Request(url.rstrip("/") + self.path, body))
            except HTTPError as error:
                answer = error
            with answer:
                self.send_response(answer.status)
                self.send_header("content-type", answer.headers["content-type"])
                self.end_headers()
                while data := answer.read1():  # live verdicts come as they are made
                    self.wfile.write(data)
                self.wfile.write(added.encode() if self.path == "/" else b"")

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--seconds", type=float, default=15, help="how long to look before the picture is taken")
    parser.add_argument("--search", default="", metavar="TEXT", help="search for this half-way")
    parser.add_argument("--size", default="1120,760", metavar="WIDTH,HEIGHT")
    args = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("neither chromium nor google-chrome is installed")
    server = serve(args.url, args.search, args.seconds)
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", f"--window-size={args.size}"]
        command += [f"--screenshot={args.picture.resolve()}", f"http://127.0.0.1:{server.server_port}/"]
        subprocess.run(command, check=True, timeout=args.seconds + 60, stderr=subprocess.DEVNULL)
    server.shutdown()


if __name__ == "__main__":
    main()
