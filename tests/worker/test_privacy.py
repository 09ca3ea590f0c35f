"""The flow in memory, with a log of everything: what others say about a text does not get into it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import anyio
import orjson
import pytest
import structlog

from streamer.adapters.providers.http_errors import Vendor
from streamer.core.events import TopicPartition
from streamer.core.vectors import Purpose
from streamer.logs import close_logs, configure_logs
from streamer.protocols import Embedding, Rejection
from streamer.testing import SPACE, MemorySink, MemorySource, record
from tests.worker.flows import pipeline, until

pytestmark = pytest.mark.anyio

TEXT = "the planted words of a letter"
KEY = "sk-planted-0123456789"
TP = TopicPartition("texts", 0)


class Talkative:
    """Refuses every text, and quotes it."""

    space = SPACE

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Sequence[Embedding | Rejection]:
        vendor = Vendor("openai")
        bodies = [orjson.dumps({"error": {"message": f"{KEY} cannot embed {text}"}}) for text in texts]
        return [Rejection("rejected", str(vendor.refusal(400, {}, body))) for body in bodies]


@pytest.fixture
def logs_as_they_were() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    close_logs()
    logging.captureWarnings(False)
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.mark.usefixtures("logs_as_they_were")
async def test_no_line_quotes_a_text_or_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="debug", secrets=[KEY])
    values = [orjson.dumps({"text": f"{TEXT} {n}"}) for n in range(50)]
    values += [f"{{{TEXT}".encode(), orjson.dumps({"body": TEXT}), orjson.dumps([TEXT]), b"\xff" + TEXT.encode()]
    source = MemorySource({TP: [record(TP, n, value, b"%d" % n) for n, value in enumerate(values)]})
    sink = MemorySink()
    flow = pipeline(source, Talkative(), sink)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flow.run)
        await flow.on_assigned([TP])
        await until(lambda: len(sink.acknowledged) == len(values))
        flow.stop()
    close_logs()
    written = capsys.readouterr().err
    assert "planted" not in written
    assert b"planted words" in dict(sink.sent[0].headers)["streamer-error"], "the dead letter itself says all of it"
    lines = [orjson.loads(line) for line in written.splitlines()]
    letters = [line for line in lines if line["event"].startswith("dead letter")]
    assert letters[0]["reason"] == "openai answered 400: “…”"
    assert sum(line.get("count", 1) for line in letters) == len(values)
    assert len(letters) <= 6
