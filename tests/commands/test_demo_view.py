"""What the demo shows: lines for other programs, a picture that keeps its place, a summary, commands to try."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from streamer.commands.demo_ledger import Ledger, Sighting
from streamer.commands.demo_view import LiveView, PlainView, say, summary_table, try_next
from tests.commands.demo_books import FEW, balanced

ROOT = Path(__file__).parent.parent.parent


def printed(width: int = 100) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width, highlight=False), out


def test_lines_for_other_programs_are_not_cut() -> None:
    console, out = printed(40)  # narrower than the texts: lines are for other programs and are not cut
    view = PlainView(console)
    view.saw(Sighting("nothing like it"))
    view.saw(Sighting("the box is [bold]wet[/bold] and torn", "wet box", 0.91234))
    view.saw(Sighting("the box is wet", "the box is wet", 1.0))
    view.saw(Sighting("whisk [two] eggs", reason="nothing before says such a thing"))
    assert out.getvalue().splitlines() == [
        "near-duplicate 0.91: the box is [bold]wet[/bold] and torn … like … wet box",
        "near-duplicate 1.00: the box is wet … again",
        "anomaly, nothing before says such a thing: whisk [two] eggs",
    ]


def test_the_live_picture_keeps_its_height_and_its_width() -> None:
    console, out = printed(60)
    ledger = Ledger(FEW)
    view = LiveView(ledger.planned)
    heights = set()
    for number in range(20):
        view.saw(Sighting(f"[{number}] {'long ' * 40}", "like " * 40, 0.9))
        view.saw(Sighting("ordinary " * 40))
        if number % 3:
            view.saw(Sighting(f"[{number}] {'strange ' * 40}", reason="why " * 40))
        view.refresh(ledger)
        console.print(view)
        heights.add(out.getvalue().count("\n"))
        assert all(len(line) <= 60 for line in out.getvalue().splitlines())
        assert f"[{number}] long" in out.getvalue()
        assert (f"[{number}] strange" in out.getvalue()) == bool(number % 3)
        out.seek(0)
        out.truncate()
    assert len(heights) == 1


def test_the_summary_says_it_all() -> None:
    console, out = printed()
    console.print(summary_table(balanced().summary()))
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert lines == [
        "events in 4",
        "vectors 2 (1 from the cache)",
        "tombstones 1",
        "dead letters 1 (empty_text 1)",
        "exact repeats 1 of 1 found",
        "rewordings 0 of 0 found",
        "out of place 0 of 0 found",
        "other anomalies 0",
        "false near-duplicates 0",
        "events/s 2",
        "publish to vector p50 20 ms, p95 29 ms",
        "publish to verdict p50 150 ms, p95 195 ms",
    ]


def test_an_empty_summary_can_be_shown() -> None:
    console, out = printed()
    console.print(summary_table(Ledger(FEW).summary()))
    assert "nothing received" in out.getvalue()


def test_commands_to_try_are_not_broken_into_lines() -> None:
    console, out = printed(30)
    say(console, try_next("127.0.0.1:1234", "http://127.0.0.1:8080"))
    assert any(line.endswith("tail verdicts -b 127.0.0.1:1234") for line in out.getvalue().splitlines())
    assert any("search" in line and "--url http://127.0.0.1:8080" in line for line in out.getvalue().splitlines())


def test_the_program_is_named_as_it_has_to_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "streamer"
    program.parent.mkdir()
    program.touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", "/usr/bin")
    assert "  bin/streamer tail" in try_next("b", "u")
    monkeypatch.setenv("PATH", str(program.parent))
    assert "  streamer tail" in try_next("b", "u")
    monkeypatch.setattr(sys, "argv", [str(ROOT / "streamer" / "__main__.py")])
    assert f"  {sys.executable} -m streamer tail" in try_next("b", "u")
