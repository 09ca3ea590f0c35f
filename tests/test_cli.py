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
from streamer.adapters.providers import onnx
from streamer.adapters.providers.onnx_models import load
from streamer.cli import app
from streamer.commands.running import report
from tests.commands.in_process import empty_folder, streamer  # noqa: F401  a fixture for all tests here
from tests.support.brokers import NOBODY, Broker, NewTopicName

COMMANDS = ("run", "index", "demo", "publish", "tail", "search", "embed", "topics", "config", "check", "cache")
ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.anyio


def program(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A process of its own in an empty folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "streamer", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_explains_itself_with_an_example(command: str) -> None:
    done = await streamer(command, "--help", COLUMNS="100")
    assert done.code == 0
    assert f"Example: streamer {command}" in done.stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("streamer ta", "tail"),
        ("streamer run --prov", "--provider"),
        ("streamer migrate fin", "finish"),
        ("streamer embed --fit", "--fit-pca"),
    ],
)
def test_a_shell_completes_commands_and_options(typed: str, offered: str) -> None:
    """First hour R6."""
    asked = {"_STREAMER_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    assert CliRunner().invoke(app, [], env=asked, prog_name="streamer").stdout.split() == [offered]


async def test_the_list_of_commands_is_not_cut_off() -> None:
    """First hour R7."""
    done = await streamer("--help", COLUMNS="80")
    listed = done.stdout.partition("Commands:")[2]
    assert [line for line in listed.splitlines() if line.endswith("...")] == []


@pytest.mark.parametrize(
    ("before", "after", "servers"),
    [
        (["-c", "own.toml"], [], "kafka-1:9092"),
        (["--config", "own.toml"], ["--set", "kafka.group_id=x"], "kafka-1:9092"),
        (["-c", "own.toml"], ["-c", "other.toml"], "kafka-2:9092"),
        ([], ["-c", "own.toml"], "kafka-1:9092"),
    ],
)
async def test_the_settings_file_may_be_named_before_the_command(
    before: list[str], after: list[str], servers: str, tmp_path: Path
) -> None:
    """First hour R7."""
    (tmp_path / "own.toml").write_text('[kafka]\nbootstrap_servers = "kafka-1:9092"\n')
    (tmp_path / "other.toml").write_text('[kafka]\nbootstrap_servers = "kafka-2:9092"\n')
    done = await streamer(*before, "config", *after)
    assert f'bootstrap_servers = "{servers}"\n' in done.stdout


async def test_brokers_may_be_named_one_by_one() -> None:
    """First hour R7."""
    done = await streamer("topics", "-b", NOBODY, "-b", "127.0.0.1:2", "--set", "kafka.connect_timeout_ms=3000")
    assert f"Kafka at {NOBODY},127.0.0.1:2 cannot be reached" in done.stderr


@pytest.mark.parametrize("command", ["run", "index", "topics", "config", "check"])
async def test_wrong_settings_are_refused_before_anything_is_opened(command: str, tmp_path: Path) -> None:
    (tmp_path / "streamer.toml").write_text('[kafka]\nbootstrap_server = "x"\n')
    done = await streamer(command)
    assert done.code == 2
    assert done.stderr.startswith("streamer: streamer.toml: unknown key kafka.bootstrap_server; known are: ")
    assert "Traceback" not in done.stderr


async def test_a_flag_overrides_and_is_checked_as_well() -> None:
    done = await streamer("run", "--set", "batch.max_events=none")
    assert done.code == 2
    assert "option for batch.max_events: batch.max_events = 'none': input should be a valid integer" in done.stderr
    done = await streamer("run", "--set", "max_events=5")
    assert done.code == 2
    assert "expected section.key=value" in done.stderr


def is_unreachable(code: int, stderr: str) -> None:
    assert code == 3
    [line] = [line for line in stderr.splitlines() if line.startswith("streamer: ")]
    assert line == (
        f"streamer: Kafka at {NOBODY} cannot be reached: no broker answers there; does it run, and is "
        "kafka.bootstrap_servers (-b) right?"
    )
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    "arguments", [("topics",), ("tail", "vectors"), ("publish", "texts.txt")], ids=lambda arguments: arguments[0]
)
async def test_an_unreachable_broker_is_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """First hour R12."""
    (tmp_path / "texts.txt").write_text("hello\n")
    done = await streamer(*arguments, "-b", NOBODY, "--set", "kafka.connect_timeout_ms=3000")
    is_unreachable(done.code, done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "index"])
def test_an_unreachable_broker_ends_a_process_with_one_line(command: str, tmp_path: Path) -> None:
    """First hour R12."""
    done = program(command, "-b", NOBODY, "--set", "kafka.connect_timeout_ms=3000", folder=tmp_path)
    is_unreachable(done.returncode, done.stderr)


async def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(onnx, "load", load)
    done = await streamer("embed", "hello")
    assert done.code == 2
    assert done.stderr == (
        "streamer: onnxruntime is not installed; run: pip install 'embedding-streamer[onnx]' "
        "(in a checkout: pip install -c constraints.txt -e '.[onnx]')\n"
    )


@pytest.mark.kafka
@pytest.mark.parametrize("command", ["run", "publish"])
async def test_a_misspelt_topic_is_refused_and_not_created(
    command: str, broker: Broker, new_topic: NewTopicName, tmp_path: Path
) -> None:
    """First hour D9 and D10."""
    near = await new_topic("no-such-topics")
    (tmp_path / "texts.txt").write_text("hello\n")
    arguments = ("--input", "no-such-topic") if command == "run" else ("texts.txt", "-t", "no-such-topic")
    done = program(command, "-b", broker.bootstrap_servers, *arguments, folder=tmp_path)
    assert done.returncode == 3
    assert near in done.stderr
    assert "no-such-topic" not in await existing_topics(KafkaConnection(bootstrap_servers=broker.bootstrap_servers))
    assert "topic 'no-such-topic' does not exist" in done.stderr
    assert "create it with: streamer topics --create --input no-such-topic" in done.stderr


async def test_search_without_an_indexer_and_embed_without_a_text_say_what_is_missing() -> None:
    done = await streamer("search", "hello", "--url", "http://127.0.0.1:1")
    assert done.code == 3
    assert "start one with: streamer index" in done.stderr
    done = await streamer("embed")
    assert done.code == 2
    assert "nothing to embed" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of `streamer embed -f texts.txt | head`. The broken pipe of a connection is one."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert report(BrokenPipeError(32, "Broken pipe"), debug=False) == 1
        assert "Broken pipe" in capsys.readouterr().err
        os.close(reader)
        assert report(BaseExceptionGroup("", [BrokenPipeError(32, "Broken pipe")]), debug=False) == 1
        print("more", flush=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "closed", [*(pytest.param(one, marks=pytest.mark.slow) for one in ("<&-", ">&-", "2>&-")), "<&- >&- 2>&-"]
)
def test_closed_standard_streams_give_their_numbers_to_nobody(closed: str, tmp_path: Path) -> None:
    """As of a supervisor that closes them: the event loop aborts, or the cache gets our words."""
    script = f'{sys.executable} -m streamer search hello --url http://127.0.0.1:1 {closed}; echo "ended $?" > ended'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(["sh", "-c", script], cwd=tmp_path, timeout=60, check=True, env=environment)
    assert (tmp_path / "ended").read_text() == "ended 3\n"


def test_numpy_is_not_imported_before_main_has_given_blas_one_thread() -> None:
    """It would be too late: numpy reads the number when it is imported. A second thread of BLAS spins between products,
    and an indexer takes 1.4 times the processor time."""
    look = "import sys, streamer.cli, streamer.bench.child; sys.exit('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0


async def test_debug_shows_the_traceback() -> None:
    wrong = ("--url", "http://127.0.0.1:1")
    done = await streamer("search", "hello", *wrong, "--debug", STREAMER_DEBUG="")  # which it sets, and we set back
    assert done.code == 3
    assert "Traceback" in done.stderr


async def test_the_example_of_all_settings_is_a_file_to_start_from(tmp_path: Path) -> None:
    """First hour R6."""
    done = await streamer("config", "--example")
    assert done.code == 0
    (tmp_path / "streamer.toml").write_text(done.stdout)
    assert "# linger_ms = 25\n" in done.stdout
    defaults = await streamer("config", "--config", os.devnull)
    assert (await streamer("config")).stdout == defaults.stdout


async def test_printed_settings_are_settings(tmp_path: Path) -> None:
    done = await streamer("config", STREAMER_HTTP__TOKEN="hunter2", STREAMER_TOPICS__INPUT='["a", "b"]')
    assert done.code == 0
    assert "hunter2" not in done.stdout
    (tmp_path / "printed.toml").write_text(done.stdout)
    again = await streamer("config", "--config", "printed.toml", STREAMER_HTTP__TOKEN="hunter2")
    assert again.stdout == done.stdout
