"""The topics and settings of one test with real processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.support.brokers import Broker, kafka
from tests.support.topics import Pair, committed, produce
from tests.support.vendors.openai import FakeOpenAI

DIMENSIONS = 16


def free_port() -> int:
    """For a program that is started later: not one that the kernel gives to whoever asks for any."""
    (port,) = kafka.free_ports(1)
    return int(port)


class Stage:
    """The topics and settings of one test."""

    def __init__(
        self, broker: Broker, texts: str, vectors: str, verdicts: str, dead_letters: str, folder: Path
    ) -> None:
        self.bootstrap_servers = broker.bootstrap_servers
        self.texts, self.vectors, self.verdicts, self.dead_letters = texts, vectors, verdicts, dead_letters
        self.ends: dict[int, int] = {}  # after the last text of each partition
        self.port, self.index_port = free_port(), free_port()
        self.settings: dict[str, object] = {
            "kafka.bootstrap_servers": broker.bootstrap_servers,
            "kafka.group_id": f"group-{texts}",
            "kafka.idempotent": broker.is_real,
            "topics.input": texts,
            "topics.vectors": vectors,
            "topics.dead_letters": dead_letters,
            "topics.verdicts": verdicts,
            "cache.path": folder / "cache.sqlite",
            "index.snapshot_path": folder / "index.snapshot",
            "delivery.commit_interval_ms": 100,
            # The embedded broker takes half a session for the first join, and holds fetches although there is news.
            "kafka.session_timeout_ms": 45_000 if broker.is_real else 6_000,
            "kafka.fetch_max_wait_ms": 500 if broker.is_real else 20,
            "http.worker_port": self.port,
            "http.port": self.index_port,
        }

    def with_fake_openai(self, service: FakeOpenAI) -> Stage:
        assert service.key
        self.settings |= {
            "provider.name": "openai",
            "provider.model": "text-embedding-3-small",
            "provider.dimensions": DIMENSIONS,
            "provider.base_url": service.base_url,
            "provider.api_key": service.key,
        }
        return self

    async def produce(self, pairs: Sequence[Pair]) -> None:
        self.ends |= await produce(self.bootstrap_servers, self.texts, pairs)

    async def committed(self) -> dict[int, int]:
        return await committed(self.bootstrap_servers, f"group-{self.texts}", self.texts)
