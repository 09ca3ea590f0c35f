"""`streamer demo` as a program: what it finds, and what it leaves behind however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from streamer.commands.sample import sample_records

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.own_broker


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

    def goes_on(self) -> None:
        """Wait for a verdict on what it publishes after its summary."""
        found = re.search(r"See it move at (\S+),", self.output)
        assert found is not None, self.output

        def is_live() -> bool:
            with urlopen(f"{found[1]}/v1/recent?limit=5") as answer:
                return b'"id":"live-' in answer.read()

        self._until(is_live)

    def send(self, number: signal.Signals) -> int:
        self._popen.send_signal(number)
        return self.ends()

    def ends(self) -> int:
        """Its exit code."""
        self._until(lambda: self._popen.poll() is not None)
        return int(self._popen.returncode)

    def leaves(self) -> list[str]:
        """Processes that live on, and files."""
        deadline = time.monotonic() + 60
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
        deadline = time.monotonic() + 100
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


def test_once_everything_that_was_planted_is_found_and_nothing_is_left(start_demo: Callable[..., Demo]) -> None:
    """First hour D4."""
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
    strange = counts["strange"]
    assert f"out of place {strange} of {strange} found" in lines
    assert "other anomalies 0" in lines
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
def test_stopped_at_any_time_it_stops_all(
    start_demo: Callable[..., Demo], moment: str, number: signal.Signals, code: int
) -> None:
    demo = start_demo()
    demo.says(moment)
    if number == signal.SIGINT:
        demo.goes_on()
    assert demo.send(number) == code
    assert "Traceback" not in demo.output
    assert demo.output.endswith("stopping …\n")
    assert demo.leaves() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes children along with a killed parent")
def test_killed_it_takes_its_processes_along(start_demo: Callable[..., Demo]) -> None:
    demo = start_demo()
    demo.says("near-duplicate")
    assert demo.send(signal.SIGKILL) == -signal.SIGKILL
    assert not [left for left in demo.leaves() if "psutil" in left]


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
