"""`streamer migrate start`: what a change of the model is, and what the new side is called and bound by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamer.app.migrations import settings_of
from streamer.commands.migrate import Plan, changes_of, draft_side, new_side, settings_lines, side_of, work_of
from streamer.core.vectors import Space
from streamer.embedding.prices import Price
from streamer.errors import ConfigurationError
from streamer.migration.decisions import Side
from streamer.settings import Settings, load_settings
from tests.commands.in_process import empty_folder, streamer  # noqa: F401  a fixture for all tests here
from tests.support.brokers import NOBODY

SMALL = Space(provider="openai", model="text-embedding-3-small", dimensions=1536)
LARGE = Space(provider="openai", model="text-embedding-3-large", dimensions=3072)


def settings(**values: Any) -> Settings:
    return load_settings(None, {}, {name.replace("__", "."): value for name, value in values.items()})


def made(before: Settings, *to: str, plan: Plan | None = None) -> Side:
    work = work_of(plan or Plan(to=to), side_of(before, SMALL), LARGE, Price(0.13))
    return new_side(before, draft_side(before, changes_of(to)), LARGE, work)


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ([], "--to is missing"),
        (["provider.model"], "expected section.key=value"),
        (["model=x"], "expected section.key=value"),
        (["topics.vectors=v"], "only provider, input, output change"),
        (["provider.api_key=sk-1"], "a secret is not written down"),
    ],
)
def test_what_is_no_change_of_the_model_is_refused(to: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as refused:
        changes_of(to)
    assert "sk-1" not in str(refused.value)


def test_the_new_side_has_names_of_its_own() -> None:
    side = made(settings(provider__name="openai"), "provider.model=text-embedding-3-large")
    id = LARGE.id
    assert (side.group, side.vectors, side.verdicts) == (f"streamer.{id}", f"vectors.{id}", f"verdicts.{id}")
    after = settings_of(settings(provider__name="openai"), [side])
    assert after.topics.dead_letters == f"dead-letters.{id}"
    assert after.index.snapshot_path == Path(f"streamer-index.{id}.snapshot")
    assert (after.kafka.group_id, after.provider.model) == (side.group, "text-embedding-3-large")


def test_what_describes_the_old_model_is_not_taken_over_and_the_rest_is() -> None:
    before = settings(
        provider__name="openai", provider__model="mine", provider__dimensions="8", provider__max_item_tokens="512",
        provider__max_items="32", provider__timeout_seconds="5", provider__query_prefix="q: ", index__capacity="7",
    )  # fmt: skip
    side = made(before, "provider.model=text-embedding-3-large")
    assert {"provider.dimensions", "provider.query_prefix"} <= set(side.unset)
    after = settings_of(before, [side])
    assert (after.provider.dimensions, after.provider.max_items, after.provider.query_prefix) == (None, None, None)
    assert (after.provider.timeout_seconds, after.index.capacity) == (5, 7)
    same_model = made(before, "provider.dimensions=4")
    assert same_model.unset == ()
    assert settings_of(before, [same_model]).provider.query_prefix == "q: "


def test_another_vendor_is_not_asked_at_the_address_of_the_old_one_nor_with_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VOYAGE_API_KEY", "new-key")
    before = settings(provider__name="openai", provider__base_url="http://localhost:1/v1", provider__api_key="old-key")
    after = settings_of(before, [made(before, "provider.name=voyage", "provider.model=voyage-3.5")])
    assert after.provider.base_url is None
    assert after.provider.api_key is not None
    assert after.provider.api_key.get_secret_value() == "new-key"


def test_budget_and_rate_bind_the_workers_and_nobody_who_searches() -> None:
    before = settings(provider__name="openai")
    to = ["provider.model=text-embedding-3-large"]
    side = made(before, *to, plan=Plan(to=to, max_spend=50.0, texts_per_minute=600))
    worker, searcher = settings_of(before, [side], work=True).provider, settings_of(before, [side]).provider
    assert (worker.max_spend, worker.budget, worker.texts_per_minute) == (50.0, side.group, 600)
    assert (searcher.max_spend, searcher.budget, searcher.texts_per_minute) == (None, None, None)


@pytest.mark.parametrize(
    ("price", "words"), [(Price(0.0), "nobody bills openai"), (None, "the price of openai .* is not known")]
)
def test_a_budget_needs_a_price(price: Price | None, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        work_of(Plan(to=[], max_spend=1.0), side_of(settings(), SMALL), LARGE, price)


def test_what_is_printed_at_the_end_makes_the_same_settings(tmp_path: Path) -> None:
    before = settings(provider__name="openai", provider__model="text-embedding-3-small")
    side = made(before, "provider.name=static", 'provider.model=C:\\a "model"', "output.include_text=false")
    (tmp_path / "streamer.toml").write_text("\n".join(settings_lines(side)))
    written = load_settings(tmp_path / "streamer.toml", {})
    after = settings_of(before, [side])
    assert written.model_dump() == after.model_dump()


def test_a_second_change_is_named_by_its_own_space_alone() -> None:
    before = settings(provider__name="openai")
    first = settings_of(before, [made(before, "provider.model=text-embedding-3-large")])
    second = new_side(first, draft_side(first, {"provider.model": "text-embedding-3-small"}), SMALL, {})
    assert second.vectors == f"vectors.{SMALL.id}"
    assert second.group == f"streamer.{SMALL.id}"


@pytest.mark.anyio
@pytest.mark.parametrize("action", ["start", "status", "switch", "back", "finish"])
async def test_every_action_explains_itself_and_needs_a_broker(action: str) -> None:
    explained = await streamer("migrate", action, "--help", COLUMNS="100")
    assert f"Example: streamer migrate {action}" in explained.stdout
    to = ["--to", "provider.precision=float32"] if action == "start" else []
    done = await streamer("migrate", action, *to, "-b", NOBODY, "--set", "kafka.connect_timeout_ms=500")
    assert done.code == 3
    assert f"Kafka at {NOBODY} cannot be reached" in done.stderr
