"""`streamer migrate switch`, `back` and `finish`: one decision each, and what comes of it.

A command that was killed can be run again: what is decided already is not decided twice, and the rest of it is done.
"""

from __future__ import annotations

from typing import Final

import anyio

from streamer.adapters.kafka.groups import watching
from streamer.adapters.kafka.topics import delete_topics
from streamer.app.connection import connection_of
from streamer.app.migrations import decide
from streamer.commands.migrate_status import ask_indexer, found, indexer_url, look
from streamer.errors import ConfigurationError, StreamerError
from streamer.migration.decisions import Change, Place, Side
from streamer.migration.history import Migration
from streamer.settings import Settings

FOLLOW_SECONDS: Final = 15.0  # for an indexer to do what is decided
ASK_SECONDS: Final = 0.2


async def switch(settings: Settings, *, url: str | None, most_lag: int, force: bool) -> tuple[Migration, str]:
    """Let the new side answer. Raises StreamerError, with the reasons, while it should not; `force` does it all the
    same. The migration, and who answers now in words."""
    settings, migration = await _possible(settings, "switch")
    if migration.serving == "new":
        return migration, await _followed(settings, url, migration, "new")
    if not force:
        seen = await look(settings, migration, url=url, most_lag=most_lag, seconds=0.0)
        if seen.reasons:
            raise StreamerError(f"not switched: {'; '.join(seen.reasons)} (--force switches all the same)")
    made = await decide(settings, "switch", migration)
    return made, await _followed(settings, url, made, "new")


async def back(settings: Settings, *, url: str | None) -> tuple[Migration, str]:
    """Let the old side answer again, which has gone on all the time."""
    settings, migration = await _possible(settings, "back")
    made = migration if migration.serving == "old" else await decide(settings, "back", migration)
    return made, await _followed(settings, url, made, "old")


async def finish(settings: Settings, *, url: str | None, keep_old: bool, delete: bool) -> tuple[Migration, str]:
    """Give the side up that does not answer. `delete`: its vectors and verdicts, too; raises ConfigurationError while
    workers of it run."""
    settings, migration = await _possible(settings, "finish")
    if (migration.serving == "old") != keep_old:
        if not migration.running:
            raise ConfigurationError(str(migration.against("finish")))
        raise ConfigurationError(
            f"--keep-old: {migration.new.model} answers; go back first with: streamer migrate back"
            if keep_old
            else f"{migration.old.model} still answers: switch first, or give {migration.new.model} up with --keep-old"
        )
    if delete:
        await _refuse_running(settings, migration.other)
    made = await decide(settings, "finish", migration) if migration.running else migration
    said = await _followed(settings, url, made, None)
    if not delete:
        return made, said
    gone, index = migration.other, settings.index
    await delete_topics(connection_of(settings), [gone.vectors, gone.verdicts])
    said = f"{said}; deleted: {gone.vectors}, {gone.verdicts}"
    if index.backend == "milvus":  # a file is open in the indexer alone
        name = f"{index.milvus_collection}_{gone.space}"
        said = f"{said}; to be dropped: the Milvus collections {name} and {name}_positions"
    return made, said


async def _possible(settings: Settings, change: Change) -> tuple[Settings, Migration]:
    """Raises ConfigurationError for a change that cannot be made, unless it is the one that was made last."""
    settings, migration = await found(settings)
    if not migration.running and change != "finish":
        raise ConfigurationError(str(migration.against(change)))
    return settings, migration


async def _refuse_running(settings: Settings, side: Side) -> None:
    async with watching(connection_of(settings)) as watcher:
        members = (await watcher.group(side.group)).members
    if members:
        raise ConfigurationError(
            f"--delete: workers of the group {side.group!r} are still running ({', '.join(members)}); stop them first"
        )


async def _followed(settings: Settings, url: str | None, migration: Migration, serving: Place | None) -> str:
    """Wait until the indexer has done what is decided. `serving` None: until it has let the other side go."""
    address = url or indexer_url(settings)
    said: object = None
    with anyio.move_on_after(FOLLOW_SECONDS):
        while True:
            said = await ask_indexer(settings, address)
            if isinstance(said, str):
                break
            document = said.get("migration", {})
            if serving is None and document is None and said["indexes"] == [migration.server.group]:
                return f"searches at {address} are answered by {migration.server.model}, space {said['space']}"
            if document and document["serving"] == serving:
                side = document[serving]
                return f"searches at {address} are answered by {side['model']}, space {side['space']}"
            await anyio.sleep(ASK_SECONDS)
    if isinstance(said, str):
        return f"it is written down; an indexer that starts will follow ({said})"
    model = migration.server.model
    return f"it is written down; the indexer at {address} follows as soon as its index of {model} is ready"
