"""`streamer migrate start`: a second model beside the first one, with topics, a group and a budget of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson

from streamer.adapters.kafka.groups import watching
from streamer.adapters.kafka.topics import TopicSpec, check_topics, existing_topics, find_spec
from streamer.app.connection import connection_of
from streamer.app.dry_run import decoded_by, recent_records, try_out
from streamer.app.kafka import topic_specs
from streamer.app.migrations import create_topic, decide, read_history, settings_of
from streamer.app.probe import probe
from streamer.app.providers import contract_of, open_provider
from streamer.app.spending import price_for
from streamer.core.vectors import Space
from streamer.embedding.prices import Price, usd
from streamer.errors import ConfigurationError, Unreachable
from streamer.migration.decisions import Side
from streamer.migration.history import Migration
from streamer.migration.naming import of_space
from streamer.settings import SECRETS, Settings

SAMPLE: Final = 1000  # records by which the cost is estimated
# What describes a model. With another model it goes back to its default, unless it is named.
OF_A_MODEL: Final = (
    "model", "dimensions", "matryoshka", "reduction", "max_item_tokens", "max_items", "max_request_tokens",
    "input_type", "query_input_type", "document_prefix", "query_prefix", "price_per_million_tokens", "precision",
)  # fmt: skip
SECTIONS: Final = ("provider", "input", "output")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a start is about to do. `texts_per_minute`, `max_spend`: of the workers of the new side."""

    to: Sequence[str]
    max_spend: float | None = None
    texts_per_minute: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Of embedding all that the input holds now, from its last records. None: not known, or nothing to go by.
    `deleted`: earlier records that the input does not hold any more, so that the new side will never have them."""

    records: int
    deleted: int
    tokens: int | None
    usd: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """`settings`: those of the old side; `specs`: the topics of the new one. `is_running`: this very change was begun
    before."""

    settings: Settings
    old: Side
    new: Side
    specs: Sequence[TopicSpec]
    estimate: Estimate
    price: Price | None
    is_running: bool = False


async def prepare(settings: Settings, plan: Plan) -> Prepared:
    """All that a start needs, and nothing changed yet. The new provider is asked with the texts of `streamer check`.

    Raises ConfigurationError for a change that is none or cannot be, and Unreachable.
    """
    group = settings.kafka.group_id
    standing = (await read_history(settings)).standing(group)
    running, changes = standing.running, changes_of(plan.to)
    if running is not None and not _is_begun_with(running, changes):
        raise ConfigurationError(_running_already(running))
    settings = settings_of(settings, standing.kept)
    draft = draft_side(settings, changes)
    wanted = settings_of(settings, [draft])
    async with open_provider(settings) as opened:
        space = opened.provider.space
    new_space = (await probe(wanted)).space
    if space.id == new_space.id:
        raise ConfigurationError(
            f"--to {' '.join(plan.to)}: the vectors would be of the same space ({space.id}, {space.model}); there is "
            "nothing to change"
        )
    price = price_for(wanted, contract_of(wanted))
    old = side_of(settings, space)
    new = new_side(settings, draft, new_space, work_of(plan, old, new_space, price))
    if running is not None and new != running.new:
        raise ConfigurationError(_running_already(running))
    settings_of(settings, [new], work=True)  # raises for what cannot be
    return Prepared(
        settings=settings, old=old, new=new, specs=await _specs(settings, old, new), price=price,
        estimate=await _estimate(settings, wanted, plan, price), is_running=running is not None,
    )  # fmt: skip


def _is_begun_with(running: Migration, changes: Mapping[str, str]) -> bool:
    """Whether the start that is running changed the same. The new side's settings have the names of its own, too."""
    own = {name: value for name, value in running.new.settings.items() if name.partition(".")[0] in SECTIONS}
    return own == changes


def _running_already(running: Migration) -> str:
    return (
        f"a change of the model is running already, from {running.old.model} to {running.new.model}; end it with: "
        "streamer migrate finish"
    )


async def start(settings: Settings, plan: Plan) -> Prepared:
    """Create what the new side needs, and write the start down. What was there before a failure is used by the next
    try; a start that is written down already is not written twice."""
    prepared = await prepare(settings, plan)
    if prepared.is_running:
        return prepared
    await check_topics(connection_of(prepared.settings), prepared.specs, create=True)
    await create_topic(prepared.settings)
    last = (await read_history(prepared.settings)).last(prepared.old.group)
    await decide(prepared.settings, "start", last, old=prepared.old, new=prepared.new)
    return prepared


def changes_of(to: Sequence[str]) -> dict[str, str]:
    """`section.key=value`, checked. Raises ConfigurationError for what is no part of a change of the model."""
    changes: dict[str, str] = {}
    for assignment in to:
        name, equals, value = assignment.partition("=")
        section, _, key = name.strip().partition(".")
        if not equals or not key:
            raise ConfigurationError(
                f"--to {assignment}: expected section.key=value, as in --to provider.model=text-embedding-3-large"
            )
        if section not in SECTIONS:
            raise ConfigurationError(f"--to {name}: only {', '.join(SECTIONS)} change; topics and group get new names")
        if (section, key) in SECRETS:
            raise ConfigurationError(
                f"--to {name}: a secret is not written down; set it in the environment of workers and indexer"
            )
        changes[name.strip()] = value
    if not changes:
        raise ConfigurationError("--to is missing: say what changes, as in --to provider.model=text-embedding-3-large")
    return changes


def draft_side(settings: Settings, changes: Mapping[str, str]) -> Side:
    """A side that has the new model and nothing else yet."""
    is_another = any(name in changes for name in ("provider.name", "provider.model"))
    given = settings.provider.model_fields_set
    unset = [
        f"provider.{key}" for key in OF_A_MODEL if is_another and key in given and f"provider.{key}" not in changes
    ]
    if "provider.name" in changes and "base_url" in given and "provider.base_url" not in changes:
        unset.append("provider.base_url")
    topics = settings.topics
    return Side(
        provider="", model="", space="", group=settings.kafka.group_id, vectors=topics.vectors,
        verdicts=topics.verdicts, dead_letters=topics.dead_letters, settings=dict(changes), unset=tuple(unset),
    )  # fmt: skip


def side_of(settings: Settings, space: Space) -> Side:
    topics = settings.topics
    return Side(
        provider=space.provider, model=space.model, space=space.id, group=settings.kafka.group_id,
        vectors=topics.vectors, verdicts=topics.verdicts, dead_letters=topics.dead_letters,
    )  # fmt: skip


def new_side(settings: Settings, draft: Side, space: Space, work: Mapping[str, str]) -> Side:
    id, topics = space.id, settings.topics
    names = {
        "kafka.group_id": of_space(settings.kafka.group_id, id),
        "topics.vectors": of_space(topics.vectors, id),
        "topics.verdicts": of_space(topics.verdicts, id),
        "topics.dead_letters": of_space(topics.dead_letters, id),
    }
    snapshot = settings.index.snapshot_path
    paths = {} if snapshot is None else {"index.snapshot_path": str(snapshot.with_name(of_space(snapshot.name, id)))}
    return replace(
        draft, provider=space.provider, model=space.model, space=id, group=names["kafka.group_id"],
        vectors=names["topics.vectors"], verdicts=names["topics.verdicts"], dead_letters=names["topics.dead_letters"],
        settings={**draft.settings, **names, **paths}, work=work,
    )  # fmt: skip


def work_of(plan: Plan, old: Side, space: Space, price: Price | None) -> dict[str, str]:
    """A budget and a rate for the workers, which nobody else is bound by."""
    work: dict[str, str] = {}
    is_paid = price is None or price.usd_per_million_tokens > 0
    if plan.max_spend is not None:
        if not is_paid:
            raise ConfigurationError(f"--max-spend: nobody bills {space.provider} {space.model}")
        if price is None:
            raise ConfigurationError(
                f"--max-spend: the price of {space.provider} {space.model} is not known; add --to "
                "provider.price_per_million_tokens=..."
            )
        work["provider.max_spend"] = f"{plan.max_spend:g}"
    if is_paid:
        work["provider.budget"] = of_space(old.group, space.id)
    if plan.texts_per_minute is not None:
        work["provider.texts_per_minute"] = str(plan.texts_per_minute)
    return work


async def _specs(settings: Settings, old: Side, new: Side) -> list[TopicSpec]:
    """As the old ones are, or would be made."""
    usual = {spec.name: spec for spec in topic_specs(settings)}
    specs = []
    for name, successor in zip(old.topics, new.topics, strict=True):
        found = await find_spec(connection_of(settings), name)
        specs.append(replace(found or usual[name], name=successor))
    return specs


async def inputs_of(settings: Settings) -> list[str]:
    """The input topics that exist. Raises Unreachable when there is none."""
    existing, pattern = await existing_topics(connection_of(settings)), settings.topics.pattern
    names = [name for name in existing if pattern.match(name)] if pattern else settings.topics.inputs
    found = sorted(name for name in names if name in existing)
    if not found:
        raise Unreachable(f"topics.input = {settings.topics.input!r}: there is no such topic")
    return found


async def _estimate(settings: Settings, wanted: Settings, plan: Plan, price: Price | None) -> Estimate:
    inputs = await inputs_of(settings)
    async with watching(connection_of(settings)) as watcher:
        positions = await watcher.positions(settings.kafka.group_id, inputs)
    records = sum(end - begin for begin, _, end in positions.values())
    deleted = sum(begin for begin, _, _ in positions.values())
    if not records:
        return Estimate(records=0, deleted=deleted, tokens=0, usd=0.0, seconds=0.0)
    sizes: dict[str, int] = {}
    for tp, (begin, _, end) in positions.items():
        sizes[tp.topic] = sizes.get(tp.topic, 0) + end - begin
    recent = await recent_records(settings, max(sizes, key=lambda topic: sizes[topic]), SAMPLE)
    named = [(f"{record.tp}/{record.offset}", record) for record in recent.records]
    if not named:
        return Estimate(records=records, deleted=deleted, tokens=None, usd=None, seconds=None)
    run = (await try_out(wanted, decoded_by(wanted, named), None)).run
    tokens, seconds = run.tokens / run.records * records, run.seconds / run.records * records
    if plan.texts_per_minute is not None:
        seconds = max(seconds, 60 * records / plan.texts_per_minute)
    return Estimate(
        records=records, deleted=deleted, tokens=round(tokens), usd=None if price is None else usd(price.cost(tokens)),
        seconds=round(seconds, 1),
    )  # fmt: skip


def settings_lines(side: Side) -> list[str]:
    """What to write into streamer.toml once the side is the only one."""
    sections: dict[str, list[str]] = {}
    for name, value in side.settings.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, []).append(f"{key} = {orjson.dumps(value).decode()}")
    for name in side.unset:
        section, _, key = name.partition(".")
        sections.setdefault(section, []).append(f"# {key}: remove it")
    return [line for section, keys in sections.items() for line in (f"[{section}]", *keys)]
