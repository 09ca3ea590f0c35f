"""What the demo shows: a live picture on a terminal, plain lines elsewhere, and the summary."""

from __future__ import annotations

import os
import shutil
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from streamer.commands.demo_ledger import Found, Latency, Ledger, Sighting, Summary

SHOWN_DUPLICATES = 8
SHOWN_ANOMALIES = 3
PLAIN_STEP = 50  # published events between two plain progress lines


class View(Protocol):
    def saw(self, sighting: Sighting) -> None:
        """A verdict has arrived."""
        ...

    def refresh(self, ledger: Ledger) -> None:
        """Called several times a second."""
        ...


@contextmanager
def open_view(console: Console, ledger: Ledger) -> Iterator[View]:
    """The view that suits where the output goes."""
    if not console.is_terminal:
        yield PlainView(console)
        return
    view = LiveView(ledger.planned)
    # No thread of its own: it would read what the event loop is writing.
    with Live(view, console=console, auto_refresh=False) as live:
        view.live = live
        yield view


class LiveView:
    """Bars that fill, the latest near-duplicates with the messages they are like, and anomalies with their reasons."""

    def __init__(self, planned: int) -> None:
        self.live: Live | None = None
        self._duplicates: deque[Sighting] = deque(maxlen=SHOWN_DUPLICATES)
        self._anomalies: deque[Sighting] = deque(maxlen=SHOWN_ANOMALIES)
        self._latest = ""
        self._bars = Progress(
            TextColumn("{task.description:<10}"), BarColumn(40), MofNCompleteColumn(), auto_refresh=False
        )
        self._tasks = {name: self._bars.add_task(name, total=planned) for name in ("published", "vectors", "verdicts")}

    def saw(self, sighting: Sighting) -> None:
        if sighting.like is not None:
            self._duplicates.append(sighting)
        elif sighting.reason is not None:
            self._anomalies.append(sighting)
        else:
            self._latest = sighting.text

    def refresh(self, ledger: Ledger) -> None:
        for name, task in self._tasks.items():
            total = ledger.planned if name == "published" else ledger.expected_vectors
            self._bars.update(task, completed=getattr(ledger, name), total=total)
        if self.live:
            self.live.refresh()

    def __rich__(self) -> RenderableType:
        table = Table(box=None, show_header=False, pad_edge=False, expand=True, padding=(0, 1, 0, 0))
        table.add_column(width=4, style="bold yellow")
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(width=5, style="dim")
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis", style="dim")
        for sighting in self._duplicates:
            relation, like = _relation(sighting)
            table.add_row(f"{sighting.similarity:.2f}", Text(sighting.text), relation, Text(like))
        for _ in range(SHOWN_DUPLICATES - len(self._duplicates)):
            table.add_row("", "", "", "")
        strange = Table(box=None, show_header=False, pad_edge=False, expand=True, padding=(0, 1, 0, 0))
        strange.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        strange.add_column(ratio=1, no_wrap=True, overflow="ellipsis", style="dim")
        for sighting in self._anomalies:
            strange.add_row(Text(sighting.text), Text(sighting.reason or ""))
        for _ in range(SHOWN_ANOMALIES - len(self._anomalies)):
            strange.add_row("", "")
        # Neither of the two; whether it is ordinary nobody can say before the indexer has warmed up.
        latest = Text(f"latest: {self._latest}", style="dim", no_wrap=True, overflow="ellipsis")
        titles = Text("near-duplicates", style="bold"), Text("anomalies", style="bold")
        return Group(self._bars, "", titles[0], table, titles[1], strange, latest, "")


class PlainView:
    """A line for every near-duplicate and anomaly, and one for every so many published events."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = PLAIN_STEP

    def saw(self, sighting: Sighting) -> None:
        if sighting.like is not None:
            parts = filter(None, (sighting.text, *_relation(sighting)))
            line = f"near-duplicate {sighting.similarity:.2f}: {' … '.join(parts)}"
            say(self._console, line)
        elif sighting.reason is not None:
            say(self._console, f"anomaly, {sighting.reason}: {sighting.text}")

    def refresh(self, ledger: Ledger) -> None:
        if ledger.published >= self._next:
            self._next = ledger.published + PLAIN_STEP
            counts = f"vectors {ledger.vectors}, verdicts {ledger.verdicts}"
            say(self._console, f"published {ledger.published} of {ledger.planned}, {counts}")


def say(console: Console, text: str) -> None:
    """Print a text as it is; its lines can be copied from the screen whole."""
    console.print(text, markup=False, soft_wrap=True)


def _relation(sighting: Sighting) -> tuple[str, str]:
    """What links a near-duplicate to the text that follows; a text is not shown twice."""
    return ("again", "") if sighting.like == sighting.text else ("like", sighting.like or "")


def summary_table(summary: Summary) -> Table:
    """One row a figure."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column()
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(summary.dead_letters.items()))
    table.add_row("events in", str(summary.events))
    table.add_row("vectors", f"{summary.vectors}  ({summary.cache_hits} from the cache)")
    table.add_row("tombstones", str(summary.tombstones))
    table.add_row("dead letters", f"{summary.dead_letters.total()}  ({kinds or 'none'})")
    table.add_row("exact repeats", _found(summary.repeats))
    table.add_row("rewordings", _found(summary.rewordings))
    table.add_row("out of place", _found(summary.out_of_place))
    table.add_row("other anomalies", str(summary.other_anomalies))
    table.add_row("false near-duplicates", str(summary.other_near_duplicates))
    table.add_row("events/s", f"{summary.events_per_second:.0f}")
    table.add_row("publish to vector", _latency(summary.to_vector))
    table.add_row("publish to verdict", _latency(summary.to_verdict))
    return table


def try_next(bootstrap_servers: str, url: str) -> str:
    """Commands for another terminal, as they have to be typed there, each below a line that says what it shows."""
    streamer = _program()
    kafka = f"-b {bootstrap_servers}"
    commands = [
        (
            f'{streamer} search "it rained on my parcel" -k 3 --url {url}',
            "the three messages that mean most nearly that",
        ),
        (
            f'curl -s {url}/v1/search -H "content-type: application/json" '
            '-d \'{"text": "it rained on my parcel", "k": 3}\'',
            "the same over HTTP, as JSON",
        ),
        (f"{streamer} tail verdicts {kafka}", "each verdict as it is given, until Ctrl-C"),
        (
            f'echo "my parcel got wet" | {streamer} publish {kafka} --set kafka.idempotent=false',
            "a message of yours, and a second later its verdict in the dashboard",
        ),
    ]
    lines = [
        "It goes on: a message a second, now and then a copy, once a minute a stranger, until Ctrl-C.",
        f"See it move at {url}, or in another terminal:",
        *(line for command, shows in commands for line in (f"  # {shows}", f"  {command}")),
        "Ctrl-C ends it.",
    ]
    return "\n".join(lines)


def _program() -> str:
    """How to call us from where the user is."""
    name = Path(sys.argv[0])
    if name.name == "__main__.py":
        return f"{sys.executable} -m streamer"
    found = shutil.which(name.name)
    if found and Path(found).absolute() == name.absolute():
        return name.name
    return min(str(name), os.path.relpath(name), key=len)


def _found(found: Found) -> str:
    return f"{found.found} of {found.planted} found"


def _latency(latency: Latency | None) -> str:
    return "nothing received" if latency is None else f"p50 {latency.p50:.0f} ms, p95 {latency.p95:.0f} ms"
