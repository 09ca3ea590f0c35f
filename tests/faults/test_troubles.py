"""A real Prometheus in front of two workers and an indexer: troubles are caused, told apart, and clear by themselves.

Each trouble alone and without a broker: tests/app/test_troubles.py.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
import yaml

from streamer.adapters.child import dying_with_us
from tests.faults.causes import STRANGE, Clock, commits_refused, damaged, in_place_of, log_of, ordinary
from tests.faults.scenarios import small_disk
from tests.faults.scene import Member, Scene, scene
from tests.faults.watching import StatusWatch, watching_status
from tests.support.brokers import Broker, NewTopicName
from tests.support.processes import StreamerProcess
from tests.support.schemas import check_lines
from tests.support.stages import free_port
from tests.support.topics import produce
from tests.support.troubles import TROUBLES
from tests.support.vendors.misbehaviour import refusal

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600)]

# Each within twice the time that it takes on a machine with nothing else to do: 5 and 10 seconds.
NAMED_WITHIN, SEEN_WELL_WITHIN = 10.0, 20.0
IN_STATUS_WITHIN = 5.0  # seconds from when the process itself knows it: times of its clock, whatever the load

SOONER = {"commit old": ("> 60", "> 5"), "restore too long": ("> 600", "> 3"), "flood of anomalies": ("[1m]", "[20s]")}
EXPRESSIONS = {trouble: said.replace(*SOONER.get(trouble, ("", ""))) for trouble, said in TROUBLES.items()}
PLAIN = ordinary()


class Prometheus:
    def __init__(self, folder: Path, jobs: Mapping[str, list[int]]) -> None:
        self.port = free_port()
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
                for job, ports in jobs.items()
            ],
        }
        path = folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        self.log = (folder / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            dying_with_us([
                shutil.which("prometheus") or "", f"--config.file={path}", f"--storage.tsdb.path={folder / 'series'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ]),
            stdout=self.log, stderr=self.log,
        )  # fmt: skip

    async def told(self) -> set[str]:
        """The troubles whose expressions hold now."""
        found = set()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=10) as client:
            for trouble, expression in EXPRESSIONS.items():
                response = await client.get("/api/v1/query", params={"query": expression})
                if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                    return {"Prometheus is not ready yet"}
                answer = response.json()
                assert answer["status"] == "success", (expression, answer)
                if answer["data"]["result"]:
                    found.add(trouble)
        return found

    async def tells(self, wanted: set[str], timeout: float = 120.0) -> float:
        """Waits for just these, which takes its time on a loaded machine; how long that took."""
        begun, last = time.monotonic(), {"nothing was asked yet"}
        while time.monotonic() - begun < timeout:
            try:
                # The clock of a record is remembered for a minute, so it is looked at by itself.
                last = await self.told() - ({"clock of records ahead"} - wanted)
            except httpx.TransportError:
                assert self.process.poll() is None
            if last == wanted:
                return time.monotonic() - begun
            await anyio.sleep(0.2)
        raise AssertionError(f"Prometheus tells of {last} and not of {wanted} within {timeout:g} s")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


class Indexer:
    """Its place: its process comes and goes, its port stays."""

    process: StreamerProcess

    def __init__(self, port: int, settings: dict[str, object]) -> None:
        self.port = port
        self._settings = settings

    def start(self) -> None:
        self.process = StreamerProcess("index", self._settings)

    async def has_judged(self, count: int) -> None:
        """Until there are so many verdicts."""
        with anyio.fail_after(120):
            while await Member(self.port, {}).metric("streamer_indexer_verdicts_total") < count:  # noqa: ASYNC110 - only asking tells
                await anyio.sleep(0.2)

    async def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert await self.process.wait() == 0, self.process.stderr
        self.process.close()

    def close(self) -> None:
        self.process.close()


@asynccontextmanager
async def deployment(
    broker: Broker, new_topic: NewTopicName, folder: Path, disk: Path
) -> AsyncIterator[tuple[Scene, Prometheus, Indexer, dict[str, object]]]:
    """Two workers, an indexer, and the settings of a second one that is not started yet."""
    cache = disk / "cache.sqlite"
    async with scene(broker, new_topic, folder, cache__path=cache, provider__dimensions=64) as stage:
        stage.provider.always = PLAIN
        await stage.start(2)
        index_port, other_port = free_port(), free_port()
        settings = {**stage.members[0].settings, "http.port": index_port, "index.snapshot_path": ""}
        other = {**settings, "http.port": other_port, "kafka.group_id": "other", "topics.verdicts": "other-verdicts"}
        with ExitStack() as stack:
            indexer = Indexer(index_port, settings)
            stack.callback(indexer.close)
            indexer.start()
            await indexer.process.ready(index_port)
            ports = {"worker": [member.port for member in stage.members], "indexer": [index_port, other_port]}
            prometheus = Prometheus(folder, ports)
            stack.callback(prometheus.close)
            yield stage, prometheus, indexer, other


async def waits_for(members: Sequence[Member], reason: str) -> tuple[Member, dict[str, Any]]:
    """The first one whose `/readyz` lists this reason, once one does, and what it lists."""
    async with httpx.AsyncClient(timeout=5) as client:
        while True:
            for member in members:
                answer = (await client.get(f"http://127.0.0.1:{member.port}/readyz")).json()
                for waits in answer.get("waits", []):
                    if waits["reason"] == reason:
                        return member, waits
            await anyio.sleep(0.05)


def outages(member: Member, part: str) -> int:
    """Log lines so far about an outage of this part, with since when."""
    assert member.process is not None
    return sum(_is_outage(line, part) for line in member.process.logs)


def _is_outage(line: dict[str, Any], part: str) -> bool:
    return line.get("part") == part and "since" in line


async def named(
    watch: StatusWatch, members: Sequence[Member], reason: str, part: str, before: Sequence[int]
) -> tuple[Member, str]:
    """Who waits, and how soon that is named by `/readyz`, by `streamer status` and by one more log line than `before`,
    all with since when."""
    begun, caused = time.monotonic(), datetime.now(UTC)
    with anyio.fail_after(NAMED_WITHIN):
        member, waits = await waits_for(members, reason)
    assert waits["since"]
    page = time.monotonic() - begun
    assert member.process is not None
    with anyio.fail_after(NAMED_WITHIN + SEEN_WELL_WITHIN):
        at, since = await watch.named(url_of(member), reason)
    status = (at - caused).total_seconds()
    assert (at - since).total_seconds() <= IN_STATUS_WITHIN
    assert status <= NAMED_WITHIN
    count = before[members.index(member)] + 1
    await member.process.logged(count, lambda line: _is_outage(line, part), timeout=NAMED_WITHIN)
    log = time.monotonic() - begun
    return member, f"/readyz after {page:.1f} s, status after {max(0.0, status):.1f} s, log after {log:.1f} s"


def url_of(member: Member) -> str:
    return f"http://127.0.0.1:{member.port}"


async def stuck(
    stage: Scene,
    prometheus: Prometheus,
    watch: StatusWatch,
    log: Path,
    texts: Callable[[int], list[tuple[bytes, bytes]]],
) -> str:
    """The last batch of the first input partition is damaged before anybody reads it."""
    servers, before = stage.broker.bootstrap_servers, [outages(member, "Kafka input") for member in stage.members]
    for member in stage.members:
        member.signal(signal.SIGSTOP)
    await produce(servers, stage.texts, texts(4), partition=0)  # what is asked for already is answered with these
    await produce(servers, stage.texts, texts(4), partition=0)
    with damaged(log):
        for member in stage.members:
            member.signal(signal.SIGCONT)
        owner, said = await named(watch, stage.members, "partition", "Kafka input", before)
        [waits] = (await in_status(stage, owner))["waits"]
        assert waits["text"].startswith(f"{stage.texts}/0 cannot be read: ")
        assert waits["since"] < waits["until"]
        await prometheus.tells({"partition stuck"})
    return f"{said}; well after {await well(stage):.1f} s"


async def well(stage: Scene) -> float:
    begun = time.monotonic()
    for member in stage.members:
        await member.says(None, timeout=SEEN_WELL_WITHIN)
    return time.monotonic() - begun


def fill(file: Path) -> None:
    """Take all the room that its disk has left."""
    with suppress(OSError), file.open("wb", buffering=0) as opened:
        while True:
            opened.write(bytes(65_536))


async def look_at_all(stage: Scene, index_port: int) -> None:
    """`streamer status` answers by its schema, and promtool finds nothing about what is scraped."""
    urls = [f"http://127.0.0.1:{port}" for port in (*(member.port for member in stage.members), index_port)]
    arguments = [argument for url in urls for argument in ("--url", url)]
    status = StreamerProcess("status", stage.members[0].settings, "--json", "--timeout", "20", *arguments)
    try:
        assert await status.wait() == 0, status.stderr
        assert status.process.stdout is not None
        documents = check_lines("status-line", status.process.stdout.read().decode())
    finally:
        status.close()
    assert [document.get("role") for document in documents] == ["worker", "worker", "indexer", None, None]
    assert [document["state"] for document in documents[3:]] == ["Stable", "Stable"]
    assert len(documents[3]["members"]) == 2
    async with httpx.AsyncClient(timeout=10) as client:
        for url in urls:
            text = (await client.get(f"{url}/metrics")).content
            found = await anyio.run_process(["promtool", "check", "metrics"], input=text, check=False)
            assert (found.returncode, found.stderr + found.stdout) == (0, b""), found


async def in_status(stage: Scene, member: Member) -> dict[str, Any]:
    """This worker, as `streamer status` tells of it."""
    status = StreamerProcess("status", stage.members[0].settings, "--json", "--timeout", "20", "--url", url_of(member))
    try:
        assert await status.wait() == 0, status.stderr
        assert status.process.stdout is not None
        [found, *_] = check_lines("status-line", status.process.stdout.read().decode())
    finally:
        status.close()
    return dict(found)


async def uncommitted(stage: Scene, member: Member) -> dict[str, Any]:
    """Why it commits nothing, as `streamer status` says; `/readyz` and the log have said so before."""
    with anyio.fail_after(120):
        while not (await member.lacks() or "").startswith("commits: "):  # noqa: ASYNC110 - only asking tells
            await anyio.sleep(0.2)
    assert member.process is not None
    await member.process.logged(1, lambda line: _is_outage(line, "commits"))
    document = await in_status(stage, member)
    assert [lack["since"] for lack in document["degraded"]] == [document["commit_failure"]["since"]]
    return dict(document["commit_failure"])


class Told:
    """How long what took, for whoever reads the output of the test."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, what: str) -> None:
        now = time.monotonic()
        print(f"{now - self._last:5.1f} s  {what}", flush=True)
        self._last = now


@pytest.mark.real_kafka("its brokers answer what lag and members need")
async def test_prometheus_tells_troubles_apart(broker: Broker, new_topic: NewTopicName, tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    numbers, tell = iter(range(1_000_000)), Told()

    def texts(count: int) -> list[tuple[bytes, bytes]]:
        return [(b"k%d" % n, b"text number %d" % n) for n in (next(numbers) for _ in range(count))]

    with small_disk(tmp_path, 64) as disk:
        async with (
            deployment(broker, new_topic, tmp_path, disk) as (stage, prometheus, indexer, other),
            watching_status(stage.members[0].settings, [url_of(member) for member in stage.members]) as watch,
        ):
            servers, (first, second) = broker.bootstrap_servers, stage.members
            await produce(servers, stage.texts, texts(200))
            await prometheus.tells(set())
            tell("started")

            for trouble, fault, reason in (
                ("provider down", refusal(503), "provider_down"),
                ("quota used up", refusal(429, "insufficient_quota"), "provider_quota"),
                ("key rejected", refusal(401), "provider_key"),
            ):
                before = outages(first, "provider")
                stage.provider.always = fault
                await produce(servers, stage.texts, texts(200))
                _, said = await named(watch, [first], reason, "provider", [before])
                await prometheus.tells({trouble})
                stage.provider.always = PLAIN
                tell(f"{trouble}: {said}; well after {await well(stage):.1f} s")
                await prometheus.tells(set())

            await produce(servers, stage.texts, texts(1), timestamp_ms=int(time.time() * 1000) + 600_000)
            await prometheus.tells({"clock of records ahead"})
            tell("clock of records ahead")

            stage.provider.always = ordinary(delay=3.0)
            await produce(servers, stage.texts, texts(8_000))
            await prometheus.tells({"lag grows"})
            stage.provider.always = PLAIN
            await prometheus.tells(set())
            tell("lag grows")

            await stage.all_committed()  # or texts that are embedded meanwhile would be the latest ones
            await produce(servers, stage.texts, [(b"k%d" % (n % 64), b'{"body": "t"}') for n in range(1200)])
            await prometheus.tells({"dead-letter flood"})
            await produce(servers, stage.texts, texts(1200))
            tell("dead-letter flood")

            if disk.is_mount():
                await prometheus.tells(set())
                filler = disk / "filler"
                fill(filler)
                await produce(servers, stage.texts, texts(2000))
                await prometheus.tells({"disk full"})
                filler.unlink()
                await produce(servers, stage.texts, texts(200))
                await prometheus.tells(set())
                tell("disk full")

            # Each of those that follow is over when the next one is told alone.
            with in_place_of(first.cache):
                await produce(servers, stage.texts, texts(200))
                await prometheus.tells({"cache off"})
            tell("cache off")

            if (log := log_of(broker, stage.texts, 0)) is not None:
                tell(f"partition stuck: {await stuck(stage, prometheus, watch, log, texts)}")
                async with commits_refused(broker):
                    await produce(servers, stage.texts, texts(200))
                    await prometheus.tells({"commit old"})
                    failure = await uncommitted(stage, first)
                tell(f"commit old: {failure['reason']}, since {failure['since']}")

            await prometheus.tells(set())
            await first.kill()
            await prometheus.tells({"worker dead"})
            clock = Clock(tmp_path)
            first.environ, first.settings = clock.environ, first.settings | {"provider.max_tokens_per_day": 1000}
            first.start()
            assert first.process is not None
            await first.process.ready(first.port)
            await prometheus.tells(set())
            tell("worker dead")

            before = outages(first, "provider")
            await produce(servers, stage.texts, texts(60))
            _, said = await named(watch, [first], "spend_limit", "provider", [before])
            [waits] = (await in_status(stage, first))["waits"]
            assert (waits["reason"], waits["until"][10:]) == ("spend_limit", "T00:00:00Z")
            await prometheus.tells({"spend limit"})
            clock.forward(24)
            tell(f"spend limit: {said}; well after {await well(stage):.1f} s")

            await indexer.has_judged(next(numbers))
            stage.provider.always = STRANGE
            await produce(servers, stage.texts, texts(100))
            await prometheus.tells({"flood of anomalies"})
            stage.provider.always = PLAIN
            tell("flood of anomalies")

            if (log := log_of(broker, stage.vectors, 0)) is not None:
                await prometheus.tells(set())
                await indexer.stop()
                with damaged(log):
                    indexer.start()
                    await prometheus.tells({"restore too long"})
                tell("restore too long")

            await prometheus.tells(set())
            twin = StreamerProcess("index", other)
            try:
                await prometheus.tells({"two indexers"})
            finally:
                twin.close()
            await prometheus.tells(set())
            tell("two indexers")
            await look_at_all(stage, indexer.port)

            if broker.can_restart:
                before = outages(second, "Kafka input")
                await anyio.to_thread.run_sync(broker.kill)
                _, said = await named(watch, [second], "consuming", "Kafka input", [before])
                await anyio.to_thread.run_sync(broker.start)
                tell(f"brokers gone: {said}; well after {await well(stage):.1f} s")
