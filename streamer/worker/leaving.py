"""Outcomes that are to leave: of each partition in the order of their release, and the partitions in turns.

A producer has one batch of a partition on its way at a time. What leaves a partition at a time therefore waits for the
broker's answer batch by batch, while requests and the broker's threads have room for all of them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import Final

from streamer.core.events import Outcome, TopicPartition

_LEAST: Final = 128  # of a partition at a time, as long as it has so many: each batch costs as much as some events

_partition = attrgetter("origin.tp")


class Leaving:
    """A queue for each partition that has any; whichever was served longest ago is the next one."""

    def __init__(self) -> None:
        self._queues: OrderedDict[TopicPartition, deque[Outcome]] = OrderedDict()  # in the order of their turns

    def __repr__(self) -> str:
        return f"<Leaving: {', '.join(f'{tp}: {len(queue)}' for tp, queue in self._queues.items()) or 'nothing'}>"

    def __bool__(self) -> bool:
        return bool(self._queues)

    def add(self, released: Iterable[Outcome]) -> None:
        """In order of release within each partition."""
        for tp, outcomes in groupby(released, _partition):
            self._queues.setdefault(tp, deque()).extend(outcomes)

    def take(self, most: int) -> list[Outcome]:
        """At most so many, and as many as there are: equal shares of the partitions, or of as many as share well."""
        taken: list[Outcome] = []
        share = max(_LEAST, -(-most // max(1, len(self._queues))))
        while self._queues and len(taken) < most:
            tp, queue = self._queues.popitem(last=False)
            taken += [queue.popleft() for _ in range(min(share, len(queue), most - len(taken)))]
            if queue:
                self._queues[tp] = queue
        return taken
