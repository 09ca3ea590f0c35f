"""The answers of processes and groups, for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.text import Text

from streamer.commands.terminal import one_line
from streamer.embedding.prices import usd_text
from streamer.forecast.outlook import duration

SHOWN_PARTITIONS: Final = 8
INDENT: Final = "          "
PRICE_SETTING: Final = "provider.price_per_million_tokens"

Document = Mapping[str, Any]


def lines_of(documents: Sequence[Document]) -> list[Text]:
    """A paragraph each: one line with what matters, then what is waited for and why."""
    lines: list[Text] = []
    price: str | None = None
    for document in documents:
        if document["kind"] != "process":
            lines += _group(document)
            continue
        lines += _process(document)
        if (said := _price(document)) is not None and said != price:  # workers of one group pay alike
            price = said
            lines.append(_line("price", said))
    return lines


def _process(document: Document) -> Iterator[Text]:
    if "error" in document:
        yield Text.assemble((f"{'unknown':<10}", "bold red"), one_line(str(document["error"])))
        return
    ready = document["ready"]
    head = Text.assemble((f"{document['role']:<10}", "bold"), f"{document['url']}  ")
    head.append("ready" if ready else "NOT READY", "green" if ready else "bold red")
    head.append(f"  {_per_second(document['rate'])}  lag {_number(document['lag'])}")
    if document["role"] == "indexer":
        head.append(f"  {document['vectors']:,} of {document['capacity']:,} vectors")
    elif document.get("in_flight"):
        head.append(f"  {document['in_flight']:,} in flight")
    yield head
    if not ready and not document["waits"]:
        yield _line("waits", document["state"])
    for waits in document["waits"]:
        yield _line("waits", _waits(waits), "yellow")
    for lack in document["degraded"]:
        yield _line("without", _waits(lack), "yellow")
    yield from _partitions(document["partitions"])
    if (failure := document.get("commit_failure")) is not None and not _tells(document["degraded"], "commit"):
        yield _line("commits", f"since {_clock(failure['since'])}: {failure['reason']}", "yellow")
    yield from _dead_letters(document.get("dead_letters", []))
    yield _line("space", f"{document['space']} {document['provider']} {document['model']}{_cache(document['cache'])}")
    if (migration := document.get("migration")) is not None:
        yield _line("changes", _migration(migration), "yellow")
    if (spend := _spend(document["spend"])) is not None:
        yield _line("spend", spend)
    if (forecast := document.get("forecast")) is not None:
        yield _line("outlook", _forecast(forecast))


def _tells(conditions: Sequence[Document], reason: str) -> bool:
    return any(condition["reason"] == reason for condition in conditions)


def _migration(document: Document) -> str:
    new = document["new"]
    state = new["problem"] or ("ready" if new["ready"] else new["state"])
    said = f"the {document['serving']} model answers; new: {new['provider']} {new['model']} {state}"
    return f"{said}, {new['vectors']:,} vectors; see streamer migrate status"


def _group(document: Document) -> Iterator[Text]:
    if "error" in document:
        yield Text.assemble((f"{'unknown':<10}", "bold red"), one_line(str(document["error"])))
        return
    members = document["members"]
    told = "members unknown" if members is None else f"{len(members)} members"
    if members is not None and len(members) == 1:
        told = "1 member"
    lag = f"lag {_number(document['lag'])}"
    yield Text.assemble(
        (f"{'group':<10}", "bold"), f"{document['id']}  {document['state'] or 'state unknown'}  {told}  {lag}"
    )
    yield from _partitions(document["partitions"])


def _partitions(partitions: Sequence[Document]) -> Iterator[Text]:
    """The ones that are furthest behind, when any is."""
    behind = [one for one in partitions if one["lag"] or one.get("oldest_unfinished_seconds", 0) >= 1]
    behind.sort(key=lambda one: (-(one["lag"] or 0), one["topic"], one["partition"]))
    for one in behind[:SHOWN_PARTITIONS]:
        said = f"{one['topic']}/{one['partition']} {_number(one['lag'])}"
        if one.get("oldest_unfinished_seconds", 0) >= 1:
            said += f", the oldest event in flight for {_duration(one['oldest_unfinished_seconds'])}"
        if one.get("commit_age_seconds", 0) >= 10:
            said += f", nothing committed for {_duration(one['commit_age_seconds'])}"
        yield _line("lag", said)
    if len(behind) > SHOWN_PARTITIONS:
        yield _line("", f"and {len(behind) - SHOWN_PARTITIONS} more partitions")


def _dead_letters(kinds: Sequence[Document]) -> Iterator[Text]:
    for letters in kinds:
        said = f"{letters['count']:,} {letters['kind']} in the last hour, mostly: {letters['reason']}"
        yield _line("dead", said, "yellow")


def _waits(waits: Document) -> str:
    until = f", until {_clock(waits['until'])}" if waits["until"] else ""
    return f"since {_clock(waits['since'])}{until}: {waits['text']}"


def _cache(cache: Document | None) -> str:
    if cache is None:
        return ", no cache"
    return "" if cache["share"] is None else f", cache {cache['share']:.0%} of {cache['texts']:,} texts"


def _spend(spend: Document | None) -> str | None:
    """None where nothing has been paid."""
    if spend is None or not (spend["day_tokens"] or spend["usd"]):
        return None
    day = "unknown" if spend["day_usd"] is None else usd_text(spend["day_usd"])
    month = "" if spend["month_usd"] is None else f", {usd_text(spend['month_usd'])} this month"
    requests = spend.get("day_requests")  # an earlier version does not tell
    sent = "" if requests is None else f" in {requests:,} requests"
    return f"{day} today for {spend['day_tokens']:,} tokens{sent}{month}"


def _price(document: Document) -> str | None:
    """None where nothing is paid, or with an answer of an earlier version. An indexer pays for searches only."""
    if document.get("role") != "worker" or (price := document.get("price")) is None:
        return None
    if price["usd_per_million_tokens"] is None:
        return f"of {document['provider']} {document['model']} is not known: set {PRICE_SETTING}"
    whose = f"list price of {price['as_of']}" if price["as_of"] else "your price"
    return f"{price['usd_per_million_tokens']:g} USD a million tokens ({whose})"


def _forecast(forecast: Document) -> str:
    """In money where that is known, else in tokens and requests."""
    usd, seconds = forecast["usd_per_day"], forecast["backlog_seconds"]
    if usd is not None:
        said, costs = f"{usd_text(usd)} a day", f"costs {usd_text(forecast['backlog_usd'])} and "
    else:
        said, costs = f"{forecast['tokens_per_day']:,} tokens a day", ""
        if requests := forecast.get("requests_per_day"):
            said = f"{requests:,} requests and {said}"
        if tokens := forecast.get("backlog_tokens"):
            costs = f"has {tokens:,} tokens and "
    if not seconds:
        return f"at this rate {said}"
    return f"at this rate {said}; the backlog {costs}takes {duration(seconds)}"


def _line(name: str, said: str, style: str = "") -> Text:
    return Text.assemble(INDENT, (f"{name:<8}", "dim"), (one_line(said), style))


def hang_of(line: Text) -> int:
    """Where what is said in a line begins, behind its names."""
    return len(INDENT) + 8 if line.plain.startswith(INDENT) else len(INDENT)


def _clock(time: str) -> str:
    """Of today only the time."""
    return time.removeprefix(f"{datetime.now(UTC):%Y-%m-%d}T")


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _per_second(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 10 or rate == 0 else f"{rate:.1f}/s"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
