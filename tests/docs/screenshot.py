"""A picture of a running indexer's dashboard, for the README: see `docs/images/README.md`.

python -m tests.docs.screenshot http://localhost:8080 docs/images/dashboard.png
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.support.browser import BROWSER, browsing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--seconds", type=float, default=10, help="how long to look before the picture is taken")
    parser.add_argument("--search", default="", metavar="TEXT", help="search for this first")
    parser.add_argument("--size", default="1280x900", metavar="WIDTHxHEIGHT")
    parser.add_argument("--wait-for", default="", metavar="KIND", help="until a verdict of this kind is at the top")
    parser.add_argument("--dark", action="store_true")
    args = parser.parse_args()
    if BROWSER is None:
        raise SystemExit("no Chromium on this machine")
    width, height = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder, browsing(Path(folder) / "browser") as page:
        page.look(width=width, height=height, dark=args.dark)
        page.open(args.url)
        if args.search:
            page.until("document.querySelector('#search') !== null")
            page.js(f"location.hash = '#' + new URLSearchParams({{text: {args.search!r}}})")
        page.settle(args.seconds)
        if args.wait_for:
            page.until(f"document.querySelector('#feed > li:nth-child(-n + 2).{args.wait_for}') !== null", seconds=600)
        page.picture(args.picture)


if __name__ == "__main__":
    main()
