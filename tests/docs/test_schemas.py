"""Every command with `--json` has its schema in the manual, and prints nothing else."""

from __future__ import annotations

from typing import Any

import jsonschema
import orjson
import pytest
import typer.main

from streamer.cli import app
from streamer.commands.tail import as_document
from streamer.core.events import Record, TopicPartition
from tests.commands.in_process import empty_folder, streamer  # noqa: F401  a fixture for all tests here
from tests.support.brokers import Broker, NewTopicName
from tests.support.schemas import FOLDER, SCHEMAS, check_lines

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def has_json(command: Any) -> bool:
    """It, or a command within it."""
    takes = any("--json" in parameter.opts for parameter in command.params)
    return takes or any(has_json(inner) for inner in getattr(command, "commands", {}).values())


WITH_JSON = sorted(name for name, command in COMMANDS.items() if has_json(command))


def test_there_is_a_schema_for_each_command_with_json_and_for_no_other() -> None:
    """First hour R8."""
    assert sorted(name.removesuffix("-line") for name in SCHEMAS if name.endswith("-line")) == WITH_JSON


@pytest.mark.parametrize("command", WITH_JSON)
def test_a_schema_is_one_and_is_named_in_the_manual(command: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[f"{command}-line"])
    assert f"(schemas/{command}-line.schema.json)" in (FOLDER.parent / "operations.md").read_text()


def test_a_wrong_line_is_found() -> None:
    with pytest.raises(jsonschema.ValidationError):
        check_lines("topics-line", '{"name": "texts"}')


def test_any_record_is_a_line_of_tail() -> None:
    """First hour R8."""
    tp = TopicPartition("vectors", 0)
    for value, key in ((b'{"id": "a"}', b"a"), (None, None), (b"\xff", b"\x00")):
        line = orjson.dumps(as_document(Record(tp, 1, key, value, 5, (("name", b"value"),))))
        check_lines("tail-line", line.decode())


@pytest.mark.anyio
async def test_settings_are_one_line() -> None:
    """First hour R8."""
    done = await streamer("config", "--json")
    assert done.code == 0
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.anyio
@pytest.mark.kafka
async def test_topics_are_one_line_each(broker: Broker, new_topic: NewTopicName) -> None:
    topic = await new_topic("texts", partitions=3)
    done = await streamer("topics", "--json", "-b", broker.bootstrap_servers, "--input", topic)
    lines = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert {"name": topic, "partitions": 3, "created": False} in lines
    assert len(lines) == 4
