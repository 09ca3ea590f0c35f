"""The tests of `make check` in several processes that share one collection, as a pytest plugin.

pytest-xdist has each process import and collect all tests, and passes on much about each: a quarter of the time, where
most tests take milliseconds. Here the process that has collected them forks, and its children take pieces of the list
until none is left. `--side-by-side` asks for it, and changes nothing where pytest-xdist (`-n`), a debugger or a broker
is wanted, or tests are named one by one.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NoReturn

import pytest
from _pytest.runner import runtestprotocol

from tests.support.brokers import kafka
from tests.support.distribution import LONG, ports_of, processes

PIECE = 16  # tests; a file's follow each other, so that few things are set up twice


def pieces_of(units: Sequence[Hashable], most: int = PIECE) -> list[list[int]]:
    """The numbers of the tests that are taken together. `units`: of each test, in order.

    A unit that is a tuple, of an `xdist_group`, is not divided.
    """
    numbers: dict[Hashable, list[int]] = {}
    for number, unit in enumerate(units):
        numbers.setdefault(unit, []).append(number)
    found: list[list[int]] = []
    for unit, together in numbers.items():
        size = len(together) if isinstance(unit, tuple) else most
        found += [together[first : first + size] for first in range(0, len(together), size)]
    return found


def _unit(item: pytest.Item) -> Hashable:
    """Its file, or its group with what stands in other files."""
    group = item.get_closest_marker("xdist_group")
    return group.args if group else str(item.path)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--side-by-side", action="store_true", help="fork after collection, for tests without a broker")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    count = _processes(session)
    if count < 2:
        return None  # as pytest does it
    Run(session).spread(count)
    return True


def _processes(session: pytest.Session) -> int:
    option = session.config.option
    spread = getattr(option, "numprocesses", None) is not None  # by pytest-xdist, or by nobody: `-n 0`
    if not option.side_by_side or spread or option.collectonly or option.usepdb or option.trace or session.testsfailed:
        return 0
    if sys.platform != "linux":  # elsewhere libraries of the system do not outlive a fork
        return 0
    if any(item.get_closest_marker(marker) for item in session.items for marker in LONG[:3]):
        return 0  # a process with a broker has more to do at its end
    # One more than with a broker: these tests wait a third of their time.
    return processes((os.cpu_count() or 1) + 1, session.config.args)


@dataclass
class Child:
    pid: int
    running: int | None = None  # number of a test
    results: list[tuple[int, list[dict[str, Any]]]] = field(default_factory=list)  # of a piece, not yet shown


class Run:
    """One loop over the tests of a session."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._pieces = pieces_of([_unit(item) for item in session.items])
        self._ends = {piece[-1] for piece in self._pieces}
        self._children: dict[Connection, Child] = {}
        self._done = 0

    def spread(self, count: int) -> None:
        """Raises what pytest's own loop does: Failed or Interrupted, where a result asks for it."""
        factory: pytest.TempPathFactory | None = getattr(self._session.config, "_tmp_path_factory", None)
        if factory is not None:
            factory.getbasetemp()  # empties the folder that it was given: not once more under the others
        queue, filled = os.pipe()  # holds them all; each number is read by one process
        os.write(filled, b"".join(number.to_bytes(4, "big") for number in range(len(self._pieces))))
        os.close(filled)
        try:
            for number in range(count):
                self._fork(queue, number)
            while self._children:
                for reader in wait(list(self._children)):
                    assert isinstance(reader, Connection)
                    self._hear(reader)
        finally:
            os.close(queue)
            for child in self._children.values():
                os.kill(child.pid, signal.SIGINT)
                os.waitpid(child.pid, 0)
        if missing := len(self._session.items) - self._done:
            self._session.shouldfail = f"{missing} tests have no result, since their process ended"
            raise self._session.Failed(self._session.shouldfail)

    def _fork(self, queue: int, number: int) -> None:
        reader, writer = Pipe(duplex=False)
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which the child minds in its own way
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on threads: those of numpy know of forks
            pid = os.fork()
        if pid == 0:
            # One that is chosen is free until its program starts.
            kafka.candidates = kafka.shuffled(ports_of(f"gw{number}", kafka.PORTS))
            self._work(queue, writer)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        writer.close()
        self._children[reader] = Child(pid)

    def _work(self, queue: int, writer: Connection) -> NoReturn:
        config, items = self._session.config, self._session.items
        code = 1
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            capture: Any = config.pluginmanager.getplugin("capturemanager")
            if capture is not None:  # its file would be everybody's
                capture.stop_global_capturing()
                capture.start_global_capturing()
                capture.suspend_global_capture()
            teller = Teller(writer)
            config.pluginmanager.register(teller)
            taken = self._taken(queue)
            teller.number = next(taken, None)
            while teller.number is not None:
                following = next(taken, None)
                writer.send((teller.number, None))
                config.hook.pytest_runtest_protocol(
                    item=items[teller.number], nextitem=None if following is None else items[following]
                )
                teller.number = following
            code = 0
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._session._setupstate.teardown_exact(None)
        except BaseException:  # noqa: BLE001 - whatever it is, it ends here and is told
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # what is done at the end of a session is the first process's

    def _taken(self, queue: int) -> Iterator[int]:
        while piece := os.read(queue, 4):
            yield from self._pieces[int.from_bytes(piece, "big")]

    def _hear(self, reader: Connection) -> None:
        child = self._children[reader]
        try:
            number, reports = reader.recv()
        except EOFError:
            del self._children[reader]
            self._show(child)
            status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
            if child.running is not None:
                self._session.config.hook.pytest_runtest_logreport(report=self._crash(child.running, status))
            return
        child.running = number
        if reports is None:
            return
        self._done += 1
        child.running = None
        child.results.append((number, reports))
        if number in self._ends or any(report["outcome"] == "failed" for report in reports):
            self._show(child)
        if self._session.shouldfail:
            raise self._session.Failed(self._session.shouldfail)
        if self._session.shouldstop:
            raise self._session.Interrupted(self._session.shouldstop)

    def _show(self, child: Child) -> None:
        """A piece at once, so that lines of files side by side are not mixed."""
        config = self._session.config
        for number, reports in child.results:
            item = self._session.items[number]
            config.hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
            for data in reports:
                report = config.hook.pytest_report_from_serializable(config=config, data=data)
                config.hook.pytest_runtest_logreport(report=report)
            config.hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        child.results.clear()

    def _crash(self, number: int, status: int) -> pytest.TestReport:
        item = self._session.items[number]
        message = f"the process ended in this test, with exit code {status}"
        return pytest.TestReport(item.nodeid, item.location, {}, "failed", message, "call")


class Teller:
    """In a child: what is said of a test goes to the first process."""

    def __init__(self, writer: Connection) -> None:
        self._writer = writer
        self.number: int | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        hook, config = item.config.hook, item.config
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        told = [hook.pytest_report_to_serializable(config=config, report=report) for report in reports]
        self._writer.send((self.number, told))
        return True
