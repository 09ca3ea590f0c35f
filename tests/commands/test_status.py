"""`streamer status` in front of served documents, without a broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from streamer.adapters.kafka.groups import Group
from streamer.commands import status as command
from streamer.commands.status_asks import default_urls, group_document
from streamer.commands.status_view import lines_of
from streamer.core.events import TopicPartition
from streamer.errors import Unreachable
from streamer.http.health import create_health_app
from streamer.http.role_state import RoleState
from streamer.http.sums import Readiness, Sums, create_sums_app
from streamer.settings import Settings
from tests.commands.in_process import empty_folder, streamer  # noqa: F401  a fixture for all tests here
from tests.support.brokers import NOBODY
from tests.support.schemas import check_document, check_lines
from tests.support.serving import serving

pytestmark = pytest.mark.anyio
NO_BROKER = ("-b", NOBODY, "--set", "kafka.connect_timeout_ms=500")

WORKER: dict[str, Any] = {
    "role": "worker", "version": "1", "host": "h", "pid": 1, "started": "2026-11-28T09:00:00Z", "group": "g",
    "provider": "openai", "model": "small", "space": "abc",
    "waits": [{"reason": "provider_quota", "text": "provider blocked: openai answered 429; used up",
               "since": "2026-11-28T09:05:00Z", "until": "2026-11-28T09:05:08Z"}],
    "degraded": [{"reason": "disk_full", "text": "cache: database or disk is full",
                  "since": "2026-11-28T09:04:00Z", "until": None}],
    "rate": 1234.5, "ready": False, "state": "provider blocked: openai answered 429; used up", "lag": 12_000,
    "partitions": [
        {"topic": "texts", "partition": 0, "lag": 0, "commit_age_seconds": 0.0, "oldest_unfinished_seconds": 0.0},
        {"topic": "texts", "partition": 1, "lag": 12_000, "commit_age_seconds": 90.0,
         "oldest_unfinished_seconds": 61.0},
    ],
    "cache": {"texts": 100, "hits": 83, "share": 0.83, "problem": None},
    "spend": {"usd": 0.5, "day_usd": 1.25, "month_usd": 30.0, "day_tokens": 62_500, "day_requests": 120,
              "limit_reached": False},
    "price": {"usd_per_million_tokens": 0.02, "as_of": "2026-11-28"},
    "in_flight": 400, "end_to_end_seconds": {"p50": 0.1, "p95": None},
    "dead_letters": [{"kind": "missing_text", "count": 1_000, "reason": "no text at 'text'"}],
    "forecast": {"usd_per_day": 41.0, "tokens_per_day": 2_050_000_000, "backlog_usd": 312.0,
                 "backlog_seconds": 32_400.0},
}  # fmt: skip


class Observed:
    def state(self) -> RoleState:
        return RoleState(not_ready=WORKER["state"])

    def statistics(self) -> Any:
        raise AssertionError("not asked")


@asynccontextmanager
async def a_worker(token: str | None = None) -> AsyncIterator[str]:
    async with serving(create_health_app("worker", Observed(), token, status=lambda: WORKER)) as client:
        yield str(client.base_url)


async def test_one_look_tells_state_reason_and_price() -> None:
    """First hour D12 and R2."""
    check_document("status", WORKER)
    async with a_worker() as url:
        done = await streamer("status", *NO_BROKER, "--url", url)
    text = done.stdout
    assert text.splitlines()[0] == f"worker    {url}  NOT READY  1,234/s  lag 12,000  400 in flight"
    for said in (
        "waits   since ", "09:05:00Z, until ", "provider blocked: openai answered 429; used up",
        "without since ", "cache: database or disk is full",
        "texts/1 12,000, the oldest event in flight for 61 s, nothing committed for 90 s",
        "1,000 missing_text in the last hour, mostly: no text at 'text'",
        "abc openai small, cache 83% of 100 texts",
        "1.25 USD today for 62,500 tokens in 120 requests, 30.00 USD this month",
        "price   0.02 USD a million tokens (list price of 2026-11-28)",
        "at this rate 41.00 USD a day; the backlog costs 312.00 USD and takes 9 h",
    ):  # fmt: skip
        assert said in text
    assert "texts/0" not in text, "what is not behind is not listed"
    assert "unknown   Kafka at" in text, "the brokers"
    assert done.code == 3


def test_a_price_that_all_pay_is_told_once() -> None:
    other = {**WORKER, "price": {"usd_per_million_tokens": 0.13, "as_of": None}}
    documents = [{"kind": "process", "url": "http://w", **one} for one in (WORKER, WORKER, other)]
    prices = [line.plain.split(maxsplit=1)[1] for line in lines_of(documents) if line.plain.split()[0] == "price"]
    assert [price.split()[0] for price in prices] == ["0.02", "0.13"]


def test_a_forecast_without_a_price_tells_requests_tokens_and_time() -> None:
    forecast = {"usd_per_day": None, "tokens_per_day": 1_728_000, "requests_per_day": 288_000, "backlog_usd": None,
                "backlog_tokens": 1_200, "backlog_seconds": 60.0}  # fmt: skip
    unknown = {"usd_per_million_tokens": None, "as_of": None}
    document = {"kind": "process", "url": "http://w", **WORKER, "price": unknown, "forecast": forecast}
    check_document("status", document)
    lines = [line.plain.split(maxsplit=1) for line in lines_of([document])]
    [said] = [line[1] for line in lines if line[0] == "outlook"]
    start = "at this rate 288,000 requests and 1,728,000 tokens a day; "
    assert said == start + "the backlog has 1,200 tokens and takes 60 s"


def test_why_offsets_are_not_committed_is_told_at_once() -> None:
    failure = {"reason": "no answer to the commit within 4 s", "since": "2026-11-28T09:05:00Z"}
    document = {"kind": "process", "url": "http://w", **WORKER, "commit_failure": failure}
    check_document("status", document)
    [line] = [line.plain for line in lines_of([document]) if "commit" in line.plain.split()[0]]
    assert line.split()[1] == "since"
    assert line.endswith("09:05:00Z: no answer to the commit within 4 s")


@pytest.mark.parametrize(
    ("price", "said"),
    [
        ({"usd_per_million_tokens": 0.015, "as_of": None}, ["0.015 USD a million tokens (your price)"]),
        (
            {"usd_per_million_tokens": None, "as_of": None},
            ["of openai small is not known: set provider.price_per_million_tokens"],
        ),
        (None, []),
    ],
)
def test_whose_price_it_is_or_that_none_is_known(price: Mapping[str, Any] | None, said: list[str]) -> None:
    document = {"kind": "process", "url": "http://w", **WORKER, "price": price}
    check_document("status", document)
    lines = [line.plain.split(maxsplit=1) for line in lines_of([document])]
    assert [line[1] for line in lines if line[0] == "price"] == said


@pytest.mark.parametrize(
    ("reason", "until", "said"),
    [
        ("provider_rate_limited", "2026-11-28T09:05:08Z", ", until "),
        ("spend_limit", "2026-11-29T00:00:00Z", ", until "),
        ("provider_key", None, ""),
        ("publishing", None, ""),
    ],
)
def test_each_wait_has_its_beginning_and_where_it_is_known_its_end(reason: str, until: str | None, said: str) -> None:
    """First hour R2 and D12."""
    wait = {"reason": reason, "text": "why", "since": "2026-11-28T09:05:00Z", "until": until}
    document = {"kind": "process", "url": "http://w", **WORKER, "waits": [wait], "degraded": []}
    check_document("status", document)
    [line] = [line.plain for line in lines_of([document]) if line.plain.startswith("  waits") or "waits " in line.plain]
    assert "since " in line
    assert ("until" in line) == (until is not None)
    assert said in line
    assert line.endswith("why")


async def test_json_lines_are_of_their_schema() -> None:
    """First hour D12."""
    async with a_worker() as url:
        done = await streamer("status", *NO_BROKER, "--url", url, "--url", "http://127.0.0.1:9", "--json")
    process, nobody, group = check_lines("status-line", done.stdout)
    assert (process["url"], process["role"], process["lag"]) == (url, "worker", 12_000)
    assert "no worker or indexer answers at http://127.0.0.1:9" in nobody["error"]
    assert group["kind"] == "group"
    assert "cannot be reached" in group["error"]
    assert done.code == 3


@asynccontextmanager
async def silence() -> AsyncIterator[str]:
    """An address where connections are accepted and nothing is ever answered, as of a process that hangs."""

    async def handle(stream: SocketStream) -> None:
        async with stream:
            await anyio.sleep_forever()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield f"127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


async def test_all_have_one_deadline_and_who_misses_it_is_named() -> None:
    """Left to themselves, the clients of brokers that hang take 15 s and more."""
    async with silence() as hangs:
        asked = ("--url", f"http://{hangs}", "--url", f"http://{NOBODY}", "--url", f"http://{hangs}/other")
        done = await streamer("status", "-b", hangs, *asked, "--timeout", "0.5", "--json")
    first, nobody, other, group = check_lines("status-line", done.stdout)
    assert first["error"] == f"http://{hangs} does not answer within 0.5 s"
    assert f"no worker or indexer answers at http://{NOBODY}" in nobody["error"]
    assert other["error"] == f"http://{hangs}/other does not answer within 0.5 s"
    assert group["error"] == f"Kafka at {hangs} does not answer within 0.5 s"
    assert done.code == 3


async def test_brokers_that_are_silent_hold_up_no_process() -> None:
    shown: list[tuple[str, str | None]] = []
    asked = anyio.Event()

    async def silent(_: Settings, __: float) -> list[dict[str, Any]]:
        await asked.wait()
        return [{"kind": "group", "id": "g", "error": "no broker answers"}]

    def show(documents: Sequence[Mapping[str, Any]]) -> None:
        shown.extend((document["kind"], document.get("error")) for document in documents)
        asked.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "groups_of", silent)
        patch.setattr(command, "_print_json", show)
        async with a_worker() as url:
            with anyio.fail_after(30), pytest.raises(Unreachable, match="1 of 2 did not answer"):
                await command.status(Settings(), [url], watch=False, as_json=True)
    assert shown == [("process", None), ("group", "no broker answers")]


async def test_watching_goes_on_with_what_silent_brokers_said_last() -> None:
    shown: list[str] = []

    async def silent(_: Settings, __: float) -> list[dict[str, Any]]:
        await anyio.sleep_forever()
        raise AssertionError

    def show(documents: Sequence[Mapping[str, Any]]) -> None:
        shown.extend(document["kind"] for document in documents)
        if len(shown) == 3:
            raise RuntimeError("enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "groups_of", silent)
        patch.setattr(command, "_print_json", show)
        async with a_worker() as url:
            with anyio.fail_after(30), pytest.raises(ExceptionGroup):
                await command.status(Settings(), [url], watch=True, as_json=True, interval=0.01)
    assert shown == ["process"] * 3


async def test_a_token_is_sent_and_a_missing_one_named() -> None:
    async with a_worker("secret-token") as url:
        with_it = await streamer("status", *NO_BROKER, "--url", url, STREAMER_HTTP__TOKEN="secret-token")
        without = await streamer("status", *NO_BROKER, "--url", url)
    assert "NOT READY" in with_it.stdout
    assert "answers 401: this needs the header" in without.stdout


async def test_something_else_on_the_port_is_named_as_that() -> None:
    async with serving(create_health_app("worker", Observed())) as client:
        done = await streamer("status", *NO_BROKER, "--url", str(client.base_url))
    assert "answers 404" in done.stdout


def test_it_asks_the_ports_of_the_settings() -> None:
    assert default_urls(Settings()) == ["http://127.0.0.1:8081", "http://127.0.0.1:8080"]
    open_ports = Settings.model_validate({"http": {"host": "0.0.0.0", "worker_port": 0, "port": 80}})
    assert default_urls(open_ports) == ["http://127.0.0.1:80"]


def test_a_group_in_one_line() -> None:
    """First hour D12."""
    lag = {TopicPartition("texts", 0): 5, TopicPartition("texts", 1): 0}
    document = group_document(Group("g", "Stable", ["a", "b"], lag))
    check_document("status-line", document)
    lines = [str(line) for line in lines_of([document])]
    assert lines[0].split() == ["group", "g", "Stable", "2", "members", "lag", "5"]
    assert lines[1].split() == ["lag", "texts/0", "5"]
    unknown = group_document(Group("g", None, None, {}))
    check_document("status-line", unknown)
    assert [str(line) for line in lines_of([unknown])] == ["group     g  state unknown  members unknown  lag unknown"]


INDEXER: dict[str, Any] = {
    **{key: WORKER[key] for key in WORKER if key not in ("in_flight", "dead_letters", "forecast")},
    "role": "indexer", "waits": [], "degraded": [], "ready": True, "state": None, "lag": 0, "partitions": [],
    "vectors": 1_000, "capacity": 200_000, "verdicts": {"ordinary": 3}, "foreign": 0,
    "snapshot_age_seconds": None, "cache": None, "spend": None,
}  # fmt: skip


def test_an_indexer_in_one_line() -> None:
    """First hour D12."""
    check_document("status", INDEXER)
    head, space = lines_of([{"kind": "process", "url": "http://x", **INDEXER}])
    assert str(head) == "indexer   http://x  ready  1,234/s  lag 0  1,000 of 200,000 vectors"
    assert str(space).split(maxsplit=1) == ["space", "abc openai small, no cache"]


def test_an_indexer_tells_of_a_change_of_the_model() -> None:
    side = {"group": "g", "space": "s", "provider": "openai", "model": "large", "ready": True, "state": None,
            "vectors": 900, "lag": 0, "problem": None}  # fmt: skip
    for new, state in (
        (side, "ready"),
        ({**side, "ready": False, "state": "restoring: 1 of 2 records read"}, "restoring: 1 of 2 records read"),
        ({**side, "ready": False, "problem": "no key"}, "no key"),
    ):
        migration = {"serving": "old", "old": side, "new": new, "agreement": None}
        document = {**INDEXER, "migration": migration, "indexes": ["g", "h"]}
        check_document("status", document)
        (line,) = [
            str(line) for line in lines_of([{"kind": "process", "url": "u", **document}]) if "changes" in str(line)
        ]
        said = f"the old model answers; new: openai large {state}, 900 vectors; see streamer migrate status"
        assert line.split(maxsplit=1) == ["changes", said]


class Several:
    """What `streamer run --workers` serves."""

    async def readiness(self) -> Readiness:
        return Readiness(not_ready="worker 2: stopped")

    async def sums(self) -> Sums:
        return Sums()

    async def documents(self, path: str) -> list[Mapping[str, Any]]:
        assert path == "v1/status"
        return [WORKER, {**WORKER, "pid": 2}]


async def test_workers_behind_one_port_are_told_one_by_one() -> None:
    async with serving(create_sums_app(Several(), None)) as client:
        done = await streamer("status", "--json", "--url", str(client.base_url), *NO_BROKER)
    processes = [line for line in check_lines("status-line", done.stdout) if line["kind"] == "process"]
    assert [process["pid"] for process in processes] == [1, 2]


async def test_a_probe_without_the_token_is_told_no_reasons_about_several_either() -> None:
    async with serving(create_sums_app(Several(), "a-token")) as client:
        bare = await client.get("/readyz")
        told = await client.get("/readyz", headers={"authorization": "Bearer a-token"})
        assert (bare.status_code, "worker 2" in bare.text) == (503, False)
        assert told.json() == {"error": "worker 2: stopped"}
        assert (await client.get("/metrics")).status_code == 401
