"""When a memory is saved, and that what is saved can be relied on: it never holds more than what was committed."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import structlog
from anyio import CancelScope, sleep

from streamer.errors import Unreachable
from streamer.indexer.commits import Commits
from streamer.indexer.progress import Progress, remaining
from streamer.indexer.snapshots.format import Cut, Facts, Header, Offsets
from streamer.indexer.snapshots.store import Snapshots, SnapshotStatistics
from streamer.indexer.state import IndexerState
from streamer.protocols import Changelog

log = structlog.get_logger(__name__)


class Saving:
    """Snapshots of a memory that follows a changelog: loaded at the start, saved every `snapshots.interval` seconds and
    at the end."""

    def __init__(
        self, snapshots: Snapshots, state: IndexerState, changelog: Changelog, progress: Progress, commits: Commits
    ) -> None:
        self._snapshots = snapshots
        self._state = state
        self._changelog = changelog
        self._progress = progress
        self._commits = commits
        self._read_at = 0.0  # when nothing was left unread, by the clock of the snapshots
        self._looked_at: tuple[float, Offsets] = (0.0, {})  # where the topic ended when we looked last

    def statistics(self) -> SnapshotStatistics:
        return self._snapshots.statistics()

    async def load(self) -> None:
        """Make the memory what the snapshot holds, if there is a good one, and have reading go on from there."""
        self._looked_at = (self._snapshots.clock(), self._progress.end_offsets)
        judge = self._state.new_judge()
        header = await self._snapshots.load(judge, self._facts(), self._progress.bounds())
        if header is not None:
            self._state.judge = judge
            if not self._state.is_distant:
                self._changelog.seek(header.offsets)

    def caught_up(self) -> None:
        """All has been read that the topic held when it was loaded."""
        self._read_at, _ = self._looked_at

    async def regularly(self, scope: CancelScope) -> None:
        """Until `scope` is cancelled."""
        with scope:
            while True:
                await sleep(self._snapshots.interval)
                await self._look_at_the_ends(self._snapshots.clock())
                await self.save()

    async def at_the_end(self) -> None:
        """Everything has been published, and as a rule committed."""
        if self._progress.bounds().uncommitted(self._progress.remembered):
            log.warning("no snapshot written at the stop, because some verdict offsets are not committed")
        else:
            await self.save()

    async def save(self) -> None:
        """Unless the snapshot that is there holds just the same."""
        if self._snapshots.has(self._progress.remembered, self._read_at):
            return
        cut = await self._state.between_batches(self._cut)
        # Verdicts are published from the committed offsets on. With a snapshot ahead of these, those in between would
        # be left out; and the older snapshot, which is not, would be lost.
        await self._snapshots.save(cut, partial(self._commits.until_committed, cut.header.offsets))

    def _cut(self) -> Cut:
        """All of one moment. Vectors are taken later, see ReadView."""
        judge = self._state.judge
        state, recent = judge.state()
        view = judge.index.read_view()
        header = Header(
            facts=self._facts(), offsets=dict(self._progress.remembered), read_at=self._read_at, vectors=len(view.ids)
        )
        return Cut(header, view, state, recent)

    async def _look_at_the_ends(self, now: float) -> None:
        """Where the topic ends now; and whether all has been read by now that it held at the last look."""
        then, ends = self._looked_at
        if not remaining(ends, self._changelog.positions()) and not self._progress.waiting:
            self._read_at = then
            with suppress(Unreachable):  # then the older look is good for another interval
                self._looked_at = (now, await self._changelog.end_offsets())

    def _facts(self) -> Facts:
        memory, policy = self._state, self._state.policy
        return {
            **self._snapshots.facts,
            "space": memory.space.id,
            "dimensions": memory.space.dimensions,
            "index.capacity": memory.capacity,
            "index.near_duplicate_similarity": policy.near_duplicate_similarity,
            "index.near_duplicate_numbers": policy.near_duplicate_numbers,
            "index.neighbors": policy.neighbors,
            "index.false_alarm_rate": policy.false_alarm_rate,
            "index.window_seconds": None if policy.window is None else policy.window / 1000,
        }
