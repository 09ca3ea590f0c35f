"""Somebody who searches all the time while the model changes, and the commands that change it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import orjson
from model2vec import StaticModel

from streamer.core.vectors import unit_rows
from tests.commands.in_process import Done
from tests.commands.in_process import streamer as command
from tests.support.stages import Stage
from tests.support.static_models import static_folder, static_model

TEXTS = {
    f"id-{number}": f"{what} number {number} {how}"
    for number, (what, how) in enumerate(
        (what, how)
        for what in ("parcel", "letter", "invoice", "courier", "refund", "address")
        for how in ("arrived broken", "is late again", "was never sent", "went to a neighbour")
    )
}
QUERY = "the parcel is late"


def two_models(stage: Stage, folder: Path) -> tuple[StaticModel, StaticModel, str, dict[str, object]]:
    """The model of now and one to change to, the folder of that, and settings of a migration of its own."""
    before, after = static_model(1, 32), static_model(2, 48)
    old, new = (static_folder(folder / name, model) for name, model in (("before", before), ("after", after)))
    settings: dict[str, object] = {
        **stage.settings,
        "provider.name": "static",
        "provider.model": str(old),
        "topics.migrations": f"migrations-{uuid.uuid4().hex[:12]}",
    }
    return before, after, str(new), settings


@dataclass(slots=True)
class Searcher:
    """Asks without a pause, and holds each answer against the model of the space that it names."""

    url: str
    models: dict[str, Callable[[list[str]], Any]] = field(default_factory=dict)  # by space
    texts: dict[str, str] = field(default_factory=dict)
    spaces: list[str] = field(default_factory=list)

    async def run(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=20.0) as client:
            while True:
                response = await client.post("/v1/search", json={"text": QUERY, "k": 5})
                assert response.status_code == 200, response.text
                answer = response.json()
                assert len(answer["matches"]) == 5
                self.check(answer["space"], answer["matches"])
                self.spaces.append(answer["space"])
                await anyio.sleep(0.005)  # others want the processor, too

    def check(self, space: str, matches: list[dict[str, Any]]) -> None:
        query, *found = unit_rows(self.models[space]([QUERY, *(self.texts[match["id"]] for match in matches)]))
        expected = np.stack(found) @ query
        assert np.allclose(expected, [match["similarity"] for match in matches], atol=1e-3), "another space's"

    async def hears(self, space: str) -> None:
        """Until so many more answers are of the space, and none of another after the first of them."""
        start = len(self.spaces)
        with anyio.fail_after(60):
            while self.spaces[start:].count(space) < 5:  # noqa: ASYNC110 - another task counts
                await anyio.sleep(0.01)
        first = self.spaces.index(space, start)
        assert set(self.spaces[first:]) == {space}


@asynccontextmanager
async def searching(searcher: Searcher) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(searcher.run)
        yield
        tasks.cancel_scope.cancel()


def environ(settings: Mapping[str, object]) -> dict[str, str]:
    return {f"STREAMER_{name.replace('.', '__')}".upper(): str(value) for name, value in settings.items()}


async def migrate(settings: Mapping[str, object], *arguments: str) -> Done:
    return await command("migrate", *arguments, "--json", **environ(settings))


async def succeeds(settings: Mapping[str, object], *arguments: str) -> dict[str, Any]:
    """Tried until it is possible: processes come up beside it."""
    with anyio.fail_after(90):
        while (done := await migrate(settings, *arguments)).code == 1:
            assert "not switched" in done.stderr
            await anyio.sleep(0.05)
    assert done.code == 0, done.stderr
    document: dict[str, Any] = orjson.loads(done.stdout)
    return document
