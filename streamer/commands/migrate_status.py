"""`streamer migrate status`: how far the new model has come, what it cost, how it agrees, and whether it may answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import anyio

from streamer.adapters.kafka.groups import Watcher, watching
from streamer.app.accounts import open_account
from streamer.app.caches import open_caches
from streamer.app.connection import connection_of
from streamer.app.migrations import read_history, settings_of
from streamer.app.providers import contract_of, remote_space
from streamer.app.spending import budget_name, price_for
from streamer.client.searching import SearchClient
from streamer.commands.migrate import inputs_of, settings_lines
from streamer.commands.status_asks import EVERYWHERE
from streamer.core.events import TopicPartition
from streamer.embedding.budget import TOTAL
from streamer.embedding.prices import usd, usd_text
from streamer.errors import ConfigurationError, StreamerError
from streamer.forecast.outlook import duration
from streamer.http.role_state import utc
from streamer.migration.decisions import Side
from streamer.migration.history import Migration
from streamer.migration.readiness import Index, Position, Progress, progress, reasons_to_wait
from streamer.settings import Settings

MOST_LAG: Final = 1000
LOOK_SECONDS: Final = 2.5  # between two looks at offsets, which are committed every second

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """`members`: of the new group, None where the broker does not tell. `indexer`: what it says of the migration, why
    nobody answers, or None where there is none. `dead_letters`: records in the new side's topic."""

    migration: Migration
    reached: Progress
    members: int | None
    dead_letters: int
    spend: Mapping[str, float | int | None] | None
    url: str
    indexer: Mapping[str, Any] | str | None
    reasons: Sequence[str]


async def found(settings: Settings) -> tuple[Settings, Migration]:
    """The settings as finished migrations have changed them, and the last migration. Raises ConfigurationError where
    there has been none."""
    group = settings.kafka.group_id
    history = await read_history(settings)
    standing = history.standing(group)
    groups = [group, *(side.group for side in standing.kept)]
    last = standing.migration or (history.last(groups[-2]) if standing.kept else None)
    if last is None:
        raise ConfigurationError(
            f"no change of the model is known for the group {group!r}; begin one with: streamer migrate start"
        )
    return settings_of(settings, standing.kept), last


async def look(
    settings: Settings, migration: Migration, *, url: str | None, most_lag: int, seconds: float = LOOK_SECONDS
) -> Look:
    """Ask the brokers, the indexer and the cache's store. Raises Unreachable when the brokers do not answer."""
    new, address = migration.new, url or indexer_url(settings)
    inputs = await inputs_of(settings)
    async with watching(connection_of(settings)) as watcher:
        before = await _positions(watcher, new.group, inputs)
        if seconds:
            await anyio.sleep(seconds)
        reached = progress(before, await _positions(watcher, new.group, inputs), seconds)
        members = (await watcher.group(new.group)).members
        dead = await watcher.positions(new.group, [new.dead_letters])
        judged = Progress(await _positions(watcher, f"{new.group}-verdicts", [new.vectors]))
        indexer: Mapping[str, Any] | str | None = await ask_indexer(settings, address)
        if isinstance(indexer, str) and not await _is_there_an_index(watcher, migration.old):
            indexer = None
    return Look(
        migration=migration, reached=reached, members=None if members is None else len(members),
        dead_letters=sum(end - begin for begin, _, end in dead.values()), spend=await spend_of(settings, new),
        url=address, indexer=indexer,
        reasons=reasons_to_wait(reached, index_of(indexer, migration, address, judged.lag), most_lag),
    )  # fmt: skip


async def _positions(watcher: Watcher, group: str, inputs: Sequence[str]) -> dict[TopicPartition, Position]:
    return {tp: Position(*offsets) for tp, offsets in (await watcher.positions(group, inputs)).items()}


async def _is_there_an_index(watcher: Watcher, side: Side) -> bool:
    group = await watcher.group(f"{side.group}-verdicts")
    return bool(group.members or group.lag)


def indexer_url(settings: Settings) -> str:
    http = settings.http
    return f"http://{'127.0.0.1' if http.host in EVERYWHERE else http.host}:{http.port}"


async def ask_indexer(settings: Settings, url: str) -> Mapping[str, Any] | str:
    """Its status, or why there is none."""
    token = settings.http.token
    try:
        async with SearchClient(url, token=token.get_secret_value() if token else None, timeout=5.0) as client:
            return await client.ask("GET", "/v1/status")
    except StreamerError as exc:
        return str(exc)


def index_of(said: Mapping[str, Any] | str | None, migration: Migration, url: str, lag: int) -> Index | str | None:
    """What an indexer's status means for the new side of this migration. `lag`: of its index, as the brokers know it;
    what the indexer says of it is some seconds old."""
    if said is None or isinstance(said, str):
        return said
    document = said.get("migration")
    if not document or document["new"]["space"] != migration.new.space:
        return f"the indexer at {url} does not hold the index of {migration.new.model} yet, or is of another group"
    new = document["new"]
    return Index(ready=new["ready"], state=new["state"], lag=lag, problem=new["problem"])


async def spend_of(settings: Settings, side: Side) -> Mapping[str, float | int | None] | None:
    """From the store of the cache that these settings name. None where nothing is paid or no store is there."""
    wanted = settings_of(settings, [side], work=True)
    contract = contract_of(wanted)
    price = price_for(wanted, contract)
    path = wanted.cache.path
    has_store = wanted.cache.url is not None or (path is not None and await anyio.Path(path).exists())
    if not wanted.cache.enabled or not has_store or (price is not None and not price.usd_per_million_tokens):
        return None
    async with (
        open_caches(wanted, remote_space(wanted, contract)) as caches,
        open_account(wanted, contract, caches) as account,
    ):
        ledger = account.ledgers.ledger(budget_name(wanted, contract)) if account.ledgers else None
        spent = await ledger.spent([TOTAL]) if ledger else None
    if spent is None:
        return None
    cost = spent[TOTAL]
    return {"usd": None if price is None else usd(cost), "tokens": cost.tokens, "limit_usd": wanted.provider.max_spend}


def side_document(side: Side) -> Document:
    topics = {"vectors": side.vectors, "verdicts": side.verdicts, "dead_letters": side.dead_letters}
    named = {name: getattr(side, name) for name in ("provider", "model", "space", "group")}
    return {**named, "topics": topics}


def migration_document(migration: Migration) -> Document:
    """What is decided. `serving`: the side that is to answer, or was kept."""
    return {
        "group": migration.old.group,
        "running": migration.running,
        "serving": migration.serving,
        "started": utc(migration.started),
        "changed": utc(migration.changed),
        "old": side_document(migration.old),
        "new": side_document(migration.new),
        "settings": dict(migration.new.settings),
        "unset": list(migration.new.unset),
    }


def look_document(seen: Look) -> Document:
    """The whole line of `streamer migrate status --json`."""
    reached, said = seen.reached, seen.indexer
    document = None if said is None or isinstance(said, str) else said.get("migration")
    partitions = [
        {"topic": tp.topic, "partition": tp.partition, **asdict(position), "lag": position.lag}
        for tp, position in sorted(reached.positions.items())
    ]
    eta = reached.eta
    return {
        **migration_document(seen.migration),
        "progress": {
            "records": reached.records,
            "done": reached.done,
            "lag": reached.lag,
            "share": round(reached.share, 4),
            "rate": None if reached.rate is None else round(reached.rate, 1),
            "eta_seconds": None if eta is None else round(eta, 1),
            "workers": seen.members,
            "dead_letters": seen.dead_letters,
            "partitions": partitions,
        },
        "spend": seen.spend,
        "indexer": None if said is None else {"url": seen.url, **_indexer_document(said, document)},
        "agreement": document.get("agreement") if document else None,
        "may_switch": not seen.reasons,
        "reasons": list(seen.reasons),
    }


def _indexer_document(said: Mapping[str, Any] | str, document: Mapping[str, Any] | None) -> Document:
    if isinstance(said, str):
        return {"error": said}
    return {name: document[name] for name in ("serving", "old", "new")} if document else {"serving": None}


def look_lines(document: Document) -> Iterator[str]:
    """The same for a person."""
    yield from decided_lines(document)
    reached = document["progress"]
    yield (
        f"progress  {reached['done']:,} of {reached['records']:,} records ({reached['share']:.0%}), "
        f"{reached['lag']:,} behind; {_moving(reached)}"
    )
    for one in reached["partitions"]:
        if one["lag"]:
            yield f"          {one['topic']}/{one['partition']} {one['lag']:,} behind"
    if reached["dead_letters"]:
        yield f"          {reached['dead_letters']:,} dead letters in {document['new']['topics']['dead_letters']}"
    if (spend := document["spend"]) is not None:
        amount = f"{spend['tokens']:,} tokens" if spend["usd"] is None else usd_text(spend["usd"])
        limit = "" if spend["limit_usd"] is None else f" of {usd_text(spend['limit_usd'])}"
        yield f"spend     {amount}{limit}"
    yield from _index_lines(document)
    if (agreement := document["agreement"]) is not None:
        yield (
            f"agreement {agreement['overlap']:.0%} of the {agreement['neighbors']} nearest are the same, on "
            f"{agreement['events']:,} events that both indexes hold"
        )
    if document["serving"] == "new":
        yield "next      streamer migrate finish, or: streamer migrate back"
    elif document["may_switch"]:
        yield "next      streamer migrate switch"
    for number, reason in enumerate(document["reasons"] if document["serving"] == "old" else []):
        yield f"{'' if number else 'waits for':<9} {reason}"


def decided_lines(document: Document) -> Iterator[str]:
    for name in ("old", "new"):
        side = document[name]
        answers = "" if document["serving"] != name else ", answers" if document["running"] else ", was kept"
        yield (
            f"{name:<9} {side['provider']} {side['model']}, space {side['space']}, group {side['group']}, "
            f"vectors in {side['topics']['vectors']}{answers}"
        )


def kept_lines(migration: Migration) -> Iterator[str]:
    """What is left to do once a migration is finished."""
    if migration.serving == "new":
        yield "settings  to write down, for workers and indexer:"
        yield from (f"          {line}" for line in settings_lines(migration.new))
    gone = migration.other
    yield f"delete    when nobody needs them: topics {', '.join(gone.topics)};"
    yield f"          groups {gone.group}, {gone.group}-verdicts"


def _moving(reached: Mapping[str, Any]) -> str:
    workers = reached["workers"]
    told = "workers unknown" if workers is None else f"{workers} worker{'' if workers == 1 else 's'}"
    if workers == 0:
        return "no worker runs: start one with streamer run --migration"
    if not reached["rate"]:
        return told
    eta = f", {duration(reached['eta_seconds'])} to go" if reached["lag"] and reached["eta_seconds"] else ""
    return f"{told}, {reached['rate']:,.0f}/s{eta}"


def _index_lines(document: Document) -> Iterator[str]:
    indexer = document["indexer"]
    if indexer is None:
        yield "indexer   none runs for this group"
    elif "error" in indexer:
        yield f"indexer   {indexer['error']}"
    elif indexer["serving"] is not None:
        new = indexer["new"]
        state = new["problem"] or ("ready" if new["ready"] else new["state"])
        yield f"indexer   {indexer['serving']} answers; new: {state}, {new['vectors']:,} vectors"
