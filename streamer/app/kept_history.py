"""The dashboard's memory on disk, beside the snapshot: the last hour's numbers and the latest verdicts, without texts.

It is written every minute and at a clean stop. What a killed indexer had not written is missing from charts and feed,
and nowhere else: the verdict topic has it all.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

import anyio
import orjson
import structlog
from anyio.to_thread import run_sync

from streamer.adapters.snapshot_file import SnapshotFile
from streamer.http.history import History
from streamer.indexer.recent import RecentVerdicts

log = structlog.get_logger(__name__)

_FORMAT: Final = 1
_INTERVAL: Final = 60.0  # seconds


class KeptHistory:
    """Nothing depends on it: what cannot be read or written is a line in the log."""

    def __init__(self, file: SnapshotFile, space: str, history: History, recent: RecentVerdicts) -> None:
        self._file = file
        self._space = space
        self._history = history
        self._recent = recent

    async def load(self) -> None:
        try:
            document = orjson.loads(await run_sync(self._read))
            if not (isinstance(document, dict) and document.get("format") == _FORMAT):
                raise ValueError("it is of another format")
            self._history.resume(document["history"])
            self._recent.resume(document["verdicts"], self._space)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as exc:
            log.warning("history of the dashboard ignored", path=str(self._file), reason=str(exc))

    async def save_regularly(self) -> NoReturn:
        while True:
            await anyio.sleep(_INTERVAL)
            await self.save()

    async def save(self) -> None:
        document: dict[str, Any] = {
            "format": _FORMAT,
            "history": self._history.state(),
            "verdicts": self._recent.state(),
        }
        try:
            async with self._file.replacing() as write:
                await write(orjson.dumps(document))
        except OSError as exc:
            log.warning("history of the dashboard not saved", path=str(self._file), reason=str(exc))

    def _read(self) -> bytes:
        with self._file.open() as opened:
            return opened.read()
