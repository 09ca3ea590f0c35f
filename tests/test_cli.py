"""The command line as a person meets it: one clear line and the right exit code for each thing that can be wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamer.adapters.kafka.connection import KafkaConnection
from streamer.adapters.kafka.topics import existing_topics
from streamer.cli import app
from tests.support.brokers import Broker, NewTopicName

pytestmark = pytest.mark.anyio

COMMANDS = ("run", "index", "demo", "publish", "tail", "search", "embed", "topics", "config", "check", "cache")
NOBODY = "127.0.0.1:1"  # a port where nothing listens


def streamer(*arguments: str, folder: Path, blocked: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run it in an empty folder. `blocked`: a package that is to look as if it were not installed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STREAMER_")} | environ
    environment |= {"PYTHONPATH": os.pathsep.join([str(folder), str(Path(__file__).parent.parent)]), "COLUMNS": "100"}
    if blocked:
        (folder / f"{blocked}.py").write_text("raise ImportError('blocked by the test')")
    command = [sys.executable, "-m", "streamer", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str, tmp_path: Path) -> None:
    done = streamer(command, "--help", folder=tmp_path)
    assert done.returncode == 0
    assert f"Example: streamer {command}" in done.stdout


@pytest.mark.parametrize(
    ("typed", "offered"), [("streamer ta", "tail"), ("streamer run --prov", "--provider")], ids=["command", "option"]
)
def test_a_shell_completes_commands_and_options(typed: str, offered: str) -> None:
    asked = {"_STREAMER_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    assert CliRunner().invoke(app, [], env=asked, prog_name="streamer").stdout.split() == [offered]


@pytest.mark.parametrize("command", ["run", "index", "topics", "config", "check"])
def test_wrong_settings_are_refused_before_anything_is_opened(command: str, tmp_path: Path) -> None:
    (tmp_path / "streamer.toml").write_text('[kafka]\nbootstrap_server = "x"\n')
    done = streamer(command, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("streamer: streamer.toml: unknown key kafka.bootstrap_server; known are: ")
    assert "Traceback" not in done.stderr


def test_a_flag_overrides_and_is_checked_as_well(tmp_path: Path) -> None:
    done = streamer("run", "--set", "batch.max_events=none", folder=tmp_path)
    assert done.returncode == 2
    assert "option for batch.max_events: batch.max_events = 'none': input should be a valid integer" in done.stderr
    done = streamer("run", "--set", "max_events=5", folder=tmp_path)
    assert done.returncode == 2
    assert "expected section.key=value" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("topics",), ("tail", "vectors"), ("run",), ("index",), ("publish", "texts.txt")],
    ids=lambda arguments: arguments[0],
)
def test_an_unreachable_broker_is_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("hello\n")
    done = streamer(*arguments, "-b", NOBODY, "--set", "kafka.connect_timeout_ms=3000", folder=tmp_path)
    assert done.returncode == 3
    [line] = [line for line in done.stderr.splitlines() if line.startswith("streamer: ")]
    assert line == (
        f"streamer: Kafka at {NOBODY} cannot be reached: no broker answers there; does it run, and is "
        "kafka.bootstrap_servers (-b) right?"
    )
    assert "Traceback" not in done.stderr


def test_a_missing_extra_says_what_to_install(tmp_path: Path) -> None:
    done = streamer("embed", "hello", folder=tmp_path, blocked="onnxruntime")
    assert done.returncode == 2
    assert done.stderr == (
        "streamer: onnxruntime is not installed; run: pip install 'embedding-streamer[onnx]' "
        "(in a checkout: pip install -c constraints.txt -e '.[onnx]')\n"
    )


@pytest.mark.kafka
@pytest.mark.parametrize("command", ["run", "publish"])
async def test_a_misspelt_topic_is_refused_and_not_created(
    command: str, broker: Broker, new_topic: NewTopicName, tmp_path: Path
) -> None:
    near = await new_topic("no-such-topics")
    (tmp_path / "texts.txt").write_text("hello\n")
    arguments = ("--input", "no-such-topic") if command == "run" else ("texts.txt", "-t", "no-such-topic")
    done = streamer(command, "-b", broker.bootstrap_servers, *arguments, folder=tmp_path)
    assert done.returncode == 3
    assert f"there are {near}" in done.stderr
    assert "no-such-topic" not in await existing_topics(KafkaConnection(bootstrap_servers=broker.bootstrap_servers))
    assert "topic 'no-such-topic' does not exist" in done.stderr
    assert "create it with: streamer topics --create --input no-such-topic" in done.stderr


def test_no_indexer_and_no_text(tmp_path: Path) -> None:
    done = streamer("search", "hello", "--url", "http://127.0.0.1:1", folder=tmp_path)
    assert done.returncode == 3
    assert "start one with: streamer index" in done.stderr
    done = streamer("embed", folder=tmp_path)
    assert done.returncode == 2
    assert "nothing to embed" in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = streamer("topics", "-b", NOBODY, "--set", "kafka.connect_timeout_ms=1000", "--debug", folder=tmp_path)
    assert done.returncode == 3
    assert "Traceback" in done.stderr


def test_the_example_of_all_settings_is_a_file_to_start_from(tmp_path: Path) -> None:
    done = streamer("config", "--example", folder=tmp_path)
    assert done.returncode == 0
    (tmp_path / "streamer.toml").write_text(done.stdout)
    assert "# linger_ms = 25\n" in done.stdout
    defaults = streamer("config", "--config", os.devnull, folder=tmp_path)
    assert streamer("config", folder=tmp_path).stdout == defaults.stdout


def test_printed_settings_are_settings(tmp_path: Path) -> None:
    done = streamer("config", folder=tmp_path, STREAMER_HTTP__TOKEN="hunter2", STREAMER_TOPICS__INPUT='["a", "b"]')
    assert done.returncode == 0
    assert "hunter2" not in done.stdout
    (tmp_path / "printed.toml").write_text(done.stdout)
    again = streamer("config", "--config", "printed.toml", folder=tmp_path, STREAMER_HTTP__TOKEN="hunter2")
    assert again.stdout == done.stdout
