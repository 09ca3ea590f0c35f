"""A real Prometheus scrapes a real worker and indexer: every query of the dashboard finds data, alerts run."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import pytest
import yaml

from tests.deploy.generated import ALERTS, DASHBOARD
from tests.deploy.manifests import tool
from tests.support.processes import streamer
from tests.support.stages import Stage, free_port
from tests.support.topics import produce
from tests.support.vendors.openai import FakeOpenAI

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.kafka,
    pytest.mark.real_kafka("end offsets to be relied on"),
    pytest.mark.timeout(240),
]

PANELS = [panel for panel in orjson.loads(DASHBOARD.read_bytes())["panels"] if panel["type"] != "row"]
QUERIES = {(panel["title"], target["refId"]): target for panel in PANELS for target in panel["targets"]}
TOKEN = "a-token"


@contextmanager
def prometheus(program: str, folder: Path, targets: list[str]) -> Iterator[str]:
    """Scrapes every second. Gives its address."""
    (folder / "token").write_text(TOKEN)
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [
            {
                "job_name": "streamer",
                "authorization": {"credentials_file": str(folder / "token")},
                "static_configs": [{"targets": targets}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(30)


def has_data(answer: dict[str, Any]) -> bool:
    """Whether a series holds a number."""
    samples = [sample for series in answer["result"] for sample in series.get("values", [series.get("value")])]
    return any(math.isfinite(float(value)) for _, value in samples)


async def ask(client: httpx.AsyncClient, target: dict[str, Any]) -> bool:
    expression = target["expr"].replace("$instance", ".*")
    expression = expression.replace("$__rate_interval", "10s").replace("$__range", "1m")
    now = time.time()
    if target["instant"]:
        answer = await client.get("/api/v1/query", params={"query": expression, "time": now})
    else:
        span = {"start": now - 60, "end": now, "step": 1}
        answer = await client.get("/api/v1/query_range", params={"query": expression, **span})
    assert answer.status_code == 200, answer.text
    return has_data(answer.json()["data"])


async def test_every_panel_of_the_dashboard_shows_what_ran(stage: Stage, tmp_path: Path) -> None:
    program = tool("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed; Debian's package prometheus brings it")
    foreign = {"id": "x", "vector": [1.0, 0.0], "space": "somebody-elses", "dimensions": 2, "model": "other"}
    async with FakeOpenAI(key="sk-test") as service:
        more = {"http.token": TOKEN, "index.snapshot_interval_seconds": 2}
        settings = stage.with_fake_openai(service).settings | more
        targets = [f"127.0.0.1:{stage.port}", f"127.0.0.1:{stage.index_port}"]
        with (
            streamer("run", settings) as worker,
            streamer("index", settings) as indexer,
            prometheus(program, tmp_path, targets) as url,
        ):
            await worker.ready(stage.port)
            await indexer.ready(stage.index_port)
            await produce(stage.bootstrap_servers, stage.vectors, [(b"x", orjson.dumps(foreign))])
            missing, deadline, rounds = dict(QUERIES), time.monotonic() + 120, 0
            async with httpx.AsyncClient(base_url=url) as client:
                while missing:
                    assert time.monotonic() < deadline, f"no data: {missing}\n{worker.stderr[-2000:]}"
                    rounds += 1  # of everything that a stream brings, for as long as rates are asked for
                    await stage.produce(
                        [
                            (b"new", f"parcel {rounds} was left in the rain".encode()),
                            (b"again", b"the same words each time"),
                            (b"bad", b'{"no": "text"}'),
                            (b"gone", None),
                        ]
                    )
                    try:
                        found = [name for name, target in missing.items() if await ask(client, target)]
                    except httpx.TransportError:
                        found = []  # it has just been started
                    for name in found:
                        del missing[name]
                    await anyio.sleep(0.5)
                rules = (await client.get("/api/v1/rules")).json()["data"]["groups"]
                while not all(rule["health"] == "ok" for group in rules for rule in group["rules"]):
                    assert time.monotonic() < deadline, rules
                    await anyio.sleep(0.5)
                    rules = (await client.get("/api/v1/rules")).json()["data"]["groups"]
                alerts = {rule["name"]: rule["state"] for group in rules for rule in group["rules"]}
                # The one record of another space is what this alert is about. Dead letters have not lasted long enough.
                assert {name for name, state in alerts.items() if state == "firing"} <= {"StreamerForeignVectors"}
                assert len(alerts) == ALERTS.read_text().count("- alert: ")
