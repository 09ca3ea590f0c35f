"""The demo's books and pictures as pure functions; then the real thing, and what is left of it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from streamer.commands.demo import PACKAGES
from streamer.commands.demo import demo as run_demo
from streamer.commands.demo_ledger import Found, Ledger, Sighting
from streamer.commands.demo_services import (
    Service,
    demo_services,
    demo_settings,
    environment_of,
    running,
    until_ready,
)
from streamer.commands.demo_view import LiveView, PlainView, say, summary_table, try_next
from streamer.commands.running import report
from streamer.commands.sample import Expectation, SampleRecord, sample_records
from streamer.core.events import Record, TopicPartition
from streamer.errors import MissingExtra
from streamer.settings import load_settings

ROOT = Path(__file__).parent.parent.parent
TP = TopicPartition("any", 0)


def sample(id: str, kind: str = "ordinary", of: str | None = None) -> SampleRecord:
    value = None if kind == "tombstone" else b"{}"
    return SampleRecord(id.encode(), value, Expectation(kind, of), f"text of {id}")  # type: ignore[arg-type]


def vector(id: str, *, hit: bool = False) -> Record:
    return Record(TP, 0, id.encode(), orjson.dumps({"id": id, "cache_hit": hit}), 0)


def deletion(id: str) -> Record:
    return Record(TP, 0, id.encode(), None, 0)


def dead_letter(id: str, kind: str) -> Record:
    return Record(TP, 0, id.encode(), b"{", 0, (("streamer-error-kind", kind.encode()),))


def verdict(id: str, of: str | None = None) -> Record:
    kind = "ordinary" if of is None else "near_duplicate"
    body = {"id": id, "verdict": kind, "similarity": 0.93, "duplicate_of": of}
    return Record(TP, 0, id.encode(), orjson.dumps(body), 0)


def ledger_of(*records: SampleRecord) -> Ledger:
    ledger = Ledger(records)
    for record in records:
        ledger.note_published(record, 0.0)
    return ledger


FEW = (sample("a"), sample("b", "repeat", "a"), sample("bad", "dead_letter", "empty_text"), sample("a", "tombstone"))


def balanced() -> Ledger:
    ledger = ledger_of(*FEW)
    ledger.note_vector(vector("a"), 0.010)
    ledger.note_vector(vector("b", hit=True), 0.030)
    ledger.note_dead_letter(dead_letter("bad", "empty_text"), 0.040)
    ledger.note_vector(deletion("a"), 2.0)
    ledger.note_verdict(verdict("a"), 0.1)
    ledger.note_verdict(verdict("b", "a"), 0.2)
    return ledger


def test_balanced_books_and_their_summary() -> None:
    ledger = balanced()
    assert ledger.complete()
    assert ledger.errors() == []
    summary = ledger.summary()
    assert summary.events == summary.vectors + summary.tombstones + summary.dead_letters.total() == 4
    assert (summary.vectors, summary.tombstones, dict(summary.dead_letters)) == (2, 1, {"empty_text": 1})
    assert (summary.cache_hits, summary.verdicts) == (1, 2)
    assert (summary.repeats, summary.rewordings) == (Found(1, 1), Found(0, 0))
    assert summary.other_near_duplicates == 0
    assert summary.events_per_second == pytest.approx(2.0)
    assert summary.to_vector is not None
    assert (summary.to_vector.p50, summary.to_vector.p95) == pytest.approx((20, 29))


@given(st.sets(st.integers(0, 4)), st.sets(st.integers(0, 4)))
def test_whatever_is_lost_or_doubled_is_named(lost: set[int], doubled: set[int]) -> None:
    ids = [f"id-{number}" for number in range(5)]
    ledger = ledger_of(*(sample(id) for id in ids))
    for number, id in enumerate(ids):
        for _ in range((number not in lost) * (1 + (number in doubled))):
            ledger.note_vector(vector(id), 1.0)
            ledger.note_verdict(verdict(id), 1.0)
    assert ledger.complete() == (not lost)
    problems = "; ".join(ledger.errors())
    assert all((f"id-{number}" in problems) == (number in lost | doubled) for number in range(5))


def test_two_wrongs_do_not_make_a_right() -> None:
    """One lost and another doubled: the sums agree, the events do not."""
    ledger = ledger_of(sample("a"), sample("b"))
    ledger.note_vector(vector("a"), 1.0)
    ledger.note_vector(vector("a"), 1.0)
    assert ledger.errors() == [
        "1 events without an outcome: b",
        "1 events with more than one outcome: a",
        "2 vectors without a verdict",
    ]


def test_a_deletion_is_not_the_outcome_of_the_event_it_deletes() -> None:
    ledger = ledger_of(sample("a"), sample("a", "tombstone"))
    ledger.note_vector(deletion("a"), 1.0)
    assert not ledger.complete()
    assert ledger.errors() == ["1 events without an outcome: a"]


def test_a_strange_outcome_is_named() -> None:
    ledger = ledger_of(sample("a"))
    for id in ("a", "x"):
        ledger.note_vector(vector(id), 1.0)
        ledger.note_verdict(verdict(id), 1.0)
    assert ledger.errors() == ["1 events never published, yet with an outcome: x"]


def test_it_is_not_complete_before_the_verdicts_are_in() -> None:
    ledger = ledger_of(sample("a"))
    ledger.note_vector(vector("a"), 1.0)
    assert not ledger.complete()
    ledger.note_verdict(verdict("a"), 1.0)
    assert ledger.complete()


def test_it_is_not_complete_before_all_is_published() -> None:
    assert not Ledger(FEW).complete()


@pytest.mark.parametrize(
    ("verdicts", "found"),
    [
        ({"b": "a"}, 1),
        ({"a": "b"}, 1),  # overtaken on the way: the original came second
        ({"c": "a"}, 1),
        ({"c": "b", "a": "b"}, 2),  # both copies came before their original
        ({"b": "z"}, 0),  # linked to a stranger
        ({"z": "a"}, 0),
        ({}, 0),
    ],
)
def test_copies_are_found_in_whatever_order_they_come(verdicts: dict[str, str], found: int) -> None:
    ledger = ledger_of(sample("a"), sample("b", "reworded", "a"), sample("c", "reworded", "a"), sample("z"))
    for id, first in verdicts.items():
        ledger.note_verdict(verdict(id, first), 1.0)
    assert ledger.summary().rewordings == Found(found, 2)
    assert ledger.summary().other_near_duplicates == ("z" in {*verdicts, *verdicts.values()})


def printed(width: int = 100) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width, highlight=False), out


def test_plain_lines() -> None:
    console, out = printed(40)  # narrower than the texts: lines are for other programs and are not cut
    view = PlainView(console)
    view.saw(Sighting("nothing like it"))
    view.saw(Sighting("the box is [bold]wet[/bold] and torn", "wet box", 0.91234))
    view.saw(Sighting("the box is wet", "the box is wet", 1.0))
    assert out.getvalue().splitlines() == [
        "near-duplicate 0.91: the box is [bold]wet[/bold] and torn … like … wet box",
        "near-duplicate 1.00: the box is wet … again",
    ]


def test_the_live_picture_keeps_its_height_and_its_width() -> None:
    console, out = printed(60)
    ledger = Ledger(FEW)
    view = LiveView(ledger.planned)
    heights = set()
    for number in range(20):
        view.saw(Sighting(f"[{number}] {'long ' * 40}", "like " * 40, 0.9))
        view.saw(Sighting("ordinary " * 40))
        view.refresh(ledger)
        console.print(view)
        heights.add(out.getvalue().count("\n"))
        assert all(len(line) <= 60 for line in out.getvalue().splitlines())
        assert f"[{number}] long" in out.getvalue()
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


@pytest.mark.anyio
@pytest.mark.parametrize("module", PACKAGES)
async def test_a_missing_package_is_one_clear_line(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"{PACKAGES[module]} is not installed.*'embedding-streamer\[demo\]'"):
        await run_demo(once=True)


def test_the_processes_get_the_demo_s_settings_and_nobody_else_s(tmp_path: Path) -> None:
    indexer, worker = Service("indexer", "index", 1111), Service("worker", "run", 2222)
    values = demo_settings("127.0.0.1:9", tmp_path, indexer, worker)
    mine = {
        "STREAMER_KAFKA__GROUP_ID": "production",
        "streamer_topics__input": "real",
        "PATH": "/bin",
        "PYTHONPATH": "/x",
    }
    environment = environment_of(values, mine)
    assert environment["PATH"] == "/bin"
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/x"]
    settings = load_settings(None, environment)
    assert settings.kafka.group_id == "streamer"
    assert settings.kafka.bootstrap_servers == "127.0.0.1:9"
    assert not settings.kafka.idempotent
    assert settings.topics.input == "texts"
    assert settings.input.on_too_long == "reject"
    assert (settings.http.port, settings.http.worker_port) == (1111, 2222)
    assert settings.cache.path == tmp_path / "cache.sqlite"


def test_services_have_ports_of_their_own() -> None:
    indexer, worker = demo_services()
    assert indexer.port != worker.port


@pytest.mark.anyio
async def test_a_service_that_dies_says_why_in_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service = Service("worker", "run", 1)
    environment = environment_of({"kafka": {"sesion_timeout_ms": 1}}, os.environ)
    with pytest.raises(ExceptionGroup) as raised:
        async with running(service, environment, tmp_path):
            await until_ready(service)
    assert report(raised.value, debug=False) == 1
    said = capsys.readouterr().err
    assert "the worker ended unexpectedly (exit code 2)" in said
    assert "unknown key kafka.sesion_timeout_ms" in said


class Demo:
    """`streamer demo` with a temporary folder of its own, so that what it leaves there can be seen."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self._out = (folder / "out").open("w+b")
        environment = {**os.environ, "TMPDIR": str(folder)}
        command = [sys.executable, "-m", "streamer", "demo", *arguments]
        self._popen = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=self._out, stderr=self._out)
        self._process = psutil.Process(self._popen.pid)
        self.seen: set[psutil.Process] = set()

    @property
    def output(self) -> str:
        return (self.folder / "out").read_text()

    def says(self, text: str) -> None:
        """Wait for it."""
        self._until(lambda: text in self.output)

    def send(self, number: signal.Signals) -> int:
        self._popen.send_signal(number)
        return self.ends()

    def ends(self) -> int:
        """Its exit code."""
        self._until(lambda: self._popen.poll() is not None)
        return int(self._popen.returncode)

    def leaves(self) -> list[str]:
        """Processes that live on, and files."""
        deadline = time.monotonic() + 10
        while (living := [p for p in self.seen if _runs(p)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        return [str(p) for p in living] + [str(p) for p in self.folder.iterdir() if p.name != "out"]

    def close(self) -> None:
        for process in [self._process, *self.seen]:
            if _runs(process):
                process.kill()
        self._popen.wait()
        self._out.close()

    def _until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not true():
            assert time.monotonic() < deadline, self.output
            if self._popen.poll() is None:
                self.seen.update(self._children())
            elif not true():
                pytest.fail(f"it has ended with {self._popen.returncode}: {self.output}")
            time.sleep(0.05)

    def _children(self) -> list[psutil.Process]:
        try:
            return self._process.children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def _runs(process: psutil.Process) -> bool:
    """Not merely in the process table: who adopts an orphan may be slow to bury it."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    demos: list[Demo] = []

    def start(*arguments: str) -> Demo:
        demos.append(Demo(tmp_path, *arguments))
        return demos[-1]

    yield start
    for demo in demos:
        demo.close()


@pytest.mark.own_broker
def test_once_everything_that_was_planted_is_found_and_nothing_is_left(start_demo: Callable[..., Demo]) -> None:
    demo = start_demo("--once")
    assert demo.ends() == 0, demo.output
    lines = [" ".join(line.split()) for line in demo.output.splitlines()]
    counts = Counter(record.expectation.kind for record in sample_records())
    repeats, rewordings = counts["repeat"], counts["reworded"]
    vectors = counts.total() - 4
    assert f"events in {counts.total()}" in lines
    assert f"vectors {vectors} ({repeats} from the cache)" in lines
    assert "dead letters 3 (empty_text 1, too_long 1, undecodable 1)" in lines
    assert f"exact repeats {repeats} of {repeats} found" in lines
    assert f"rewordings {rewordings} of {rewordings} found" in lines
    assert "false near-duplicates 0" in lines
    assert len(demo.seen) >= 3
    assert demo.leaves() == []


@pytest.mark.parametrize(
    ("moment", "number", "code"),
    [
        ("near-duplicate", signal.SIGTERM, 130),
        ("Ctrl-C ends it", signal.SIGINT, 0),
    ],
)
@pytest.mark.own_broker
def test_stopped_at_any_time_it_stops_all(
    start_demo: Callable[..., Demo], moment: str, number: signal.Signals, code: int
) -> None:
    demo = start_demo()
    demo.says(moment)
    assert demo.send(number) == code
    assert "Traceback" not in demo.output
    assert demo.output.endswith("stopping …\n")
    assert demo.leaves() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes children along with a killed parent")
@pytest.mark.own_broker
def test_killed_it_takes_its_processes_along(start_demo: Callable[..., Demo]) -> None:
    demo = start_demo()
    demo.says("near-duplicate")
    assert demo.send(signal.SIGKILL) == -signal.SIGKILL
    assert not [left for left in demo.leaves() if "psutil" in left]


@pytest.mark.own_broker
def test_a_part_that_dies_ends_it_and_its_log_is_kept(start_demo: Callable[..., Demo]) -> None:
    demo = start_demo()
    demo.says("near-duplicate")
    (worker,) = [process for process in demo.seen if _runs(process) and process.cmdline()[-1] == "run"]
    worker.kill()
    assert demo.ends() == 1
    assert "the worker ended unexpectedly (exit code -9)" in demo.output
    (folder,) = demo.leaves()
    assert f"The logs are in {folder}" in demo.output
    assert (Path(folder) / "worker.log").stat().st_size
