"""Troubles of real parts, each for as long as a block lasts: what is wrong with them then is what people meet."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import numpy as np
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # names that it has without exporting them
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tests.support.brokers import Broker, Java
from tests.support.vendors.misbehaviour import Fault, Row

ORDINARY_DIMENSIONS = 8

# Python runs a module of this name before everything else. The size of a file says how many hours its clock is ahead.
_SITECUSTOMIZE = """
import os, time
_true, _hours = time.time, os.environ["HOURS_AHEAD"]
time.time = lambda: _true() + 3600 * os.stat(_hours).st_size
"""


def log_of(broker: Broker, topic: str, partition: int) -> Path | None:
    """Where a broker of ours keeps the records of this partition; None where they cannot be got at."""
    return broker.node.data / "logs" / f"{topic}-{partition}" / f"{0:020}.log" if isinstance(broker, Java) else None


@contextmanager
def damaged(log: Path) -> Iterator[None]:
    """Its last batch does not fit its checksum meanwhile, as after a fault of the disk."""
    with log.open("r+b", buffering=0) as file:
        place = file.seek(-1, os.SEEK_END)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 0xFF]))
        try:
            yield
        finally:
            file.seek(place)
            file.write(bytes([byte]))


@contextmanager
def in_place_of(file: Path) -> Iterator[None]:
    """A folder has the name of the file meanwhile."""
    file.unlink()
    file.mkdir()
    try:
        yield
    finally:
        file.rmdir()


@asynccontextmanager
async def commits_refused(broker: Broker) -> AsyncIterator[None]:
    """Offsets are too large for their topic meanwhile, which somebody has set up wrongly. Groups live on."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})

    def change(operation: AlterConfigOpType) -> None:
        entry = ConfigEntry("max.message.bytes", "1", incremental_operation=operation)
        resource = ConfigResource(ResourceType.TOPIC, "__consumer_offsets", incremental_configs=[entry])
        for done in admin.incremental_alter_configs([resource]).values():
            done.result(30)

    await anyio.to_thread.run_sync(change, AlterConfigOpType.SET)
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(change, AlterConfigOpType.DELETE)


class Clock:
    """Of the processes that are started with `environ`, which can be put forward while they run."""

    def __init__(self, folder: Path) -> None:
        self._hours = folder / "hours-ahead"
        self._hours.write_bytes(b"")
        site = folder / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        path = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environ = {"PYTHONPATH": os.pathsep.join(path), "HOURS_AHEAD": str(self._hours)}

    def forward(self, hours: int) -> None:
        with self._hours.open("ab") as file:
            file.write(b"h" * hours)


def ordinary(**more: Any) -> Fault:
    """Answers whose vectors have few dimensions in common, so that there are others that are unlike all of them."""
    return Fault(rows=lambda rows: _within(rows, slice(ORDINARY_DIMENSIONS)), **more)


STRANGE = Fault(rows=lambda rows: _within(rows, slice(ORDINARY_DIMENSIONS, None)))


def _within(rows: list[Row], kept: slice) -> list[Row]:
    found: list[Row] = []
    for index, vector in rows:
        assert vector is not None
        only = np.zeros_like(vector)
        only[kept] = vector[kept]
        found.append((index, only / np.linalg.norm(only)))
    return found
