"""`streamer publish` and `streamer run` agree: what one writes with some settings, the other reads with the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamer.commands import publish as module
from streamer.commands.publish import message_of
from streamer.commands.rows import Row
from streamer.core.decoding import Decoder
from streamer.core.events import Event, Origin, Record, TopicPartition
from streamer.errors import Unreachable
from streamer.settings import Settings
from streamer.testing import MemorySink
from tests.commands.in_process import empty_folder, streamer  # noqa: F401  a fixture for all tests here

pytestmark = pytest.mark.anyio

TP = TopicPartition("texts", 0)


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> MemorySink:
    """What takes the place of the brokers."""
    memory = MemorySink()

    @asynccontextmanager
    async def open_memory(*_: object, **__: object) -> AsyncIterator[MemorySink]:
        yield memory

    async def all_exist(*_: object) -> None: ...

    monkeypatch.setattr(module, "open_sink", open_memory)
    monkeypatch.setattr(module, "require_topics", all_exist)
    return memory


@pytest.mark.parametrize("input_format", ["auto", "json", "text"])
@pytest.mark.parametrize("target", ["text", "body", "data.text"])
@pytest.mark.parametrize(
    ("content", "source"),
    [
        ("a plain line", None),
        ("{ looks like JSON", None),
        ({"id": 7, "body": "a plain line", "stars": 4}, "body"),
        ({"id": 7, "body": "{ looks like JSON"}, "body"),
        ({"inner": {"text": "deep", "more": 1}}, "inner.text"),
        ({"dotted.name": "deep"}, "dotted.name"),
    ],
)
def test_a_worker_with_the_same_settings_reads_the_text(
    content: str | dict[str, Any], source: str | None, target: str, input_format: str
) -> None:
    """First hour B1."""
    settings = Settings.model_validate({"input": {"format": input_format, "text_field": target}})
    message = message_of(Row(1, content), settings, "texts", text_field=source, key_field=None)
    record = Record(TP, 0, message.key, message.value, 0, message.headers)
    event = Decoder(settings.input.format, settings.input.text_field).decode(record, Origin(TP, 0, 1))
    assert isinstance(event, Event), event
    fields = content if isinstance(content, dict) else {"text": content}
    assert event.text == fields.get(source or "text", "deep")
    if isinstance(content, dict) and "stars" in content and input_format != "text":
        assert event.metadata is not None
        assert (event.metadata["id"], event.metadata["stars"]) == (7, 4)


async def test_the_column_is_named_and_the_worker_needs_no_setting(sink: MemorySink, tmp_path: Path) -> None:
    """First hour B1."""
    (tmp_path / "reviews.csv").write_text("id,body,stars\nr-1,Too late,1\nr-2,Fine,5\n")
    done = await streamer("publish", "reviews.csv", "--text-field", "body", "--key-field", "id")
    assert (done.code, done.stderr) == (0, "2 messages published\n")
    assert [(message.key, orjson.loads(message.value or b"")) for message in sink.acknowledged] == [
        (b"r-1", {"id": "r-1", "text": "Too late", "stars": "1"}),
        (b"r-2", {"id": "r-2", "text": "Fine", "stars": "5"}),
    ]
    assert {message.topic for message in sink.acknowledged} == {"texts"}


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("a.json", '[{"id": "r-1", "review": {"body": "Too late"}}]', "review.body"),
        ("a.tsv", "id\tReview Text\nr-1\tToo late\n", "Review Text"),
        ("a.csv", "\ufeffid;body\r\nr-1;Too late\r\n", "body"),  # as Excel writes it
        ("a.csv", 'id,"body"\nr-1,"Too late"\n', "body"),
    ],
)
async def test_row_19_whatever_the_file_the_worker_of_the_line_above_reads_it(
    name: str, content: str, field: str, sink: MemorySink, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    done = await streamer("publish", name, "--text-field", field, "--key-field", "id")
    assert done.code == 0, done.stderr
    [message] = sink.acknowledged
    event = Decoder().decode(Record(TP, 0, message.key, message.value, 0, message.headers), Origin(TP, 0, 1))
    assert isinstance(event, Event), event
    assert (event.id, event.text) == ("r-1", "Too late")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "id,body,text\nr-1,Too late,a summary\n"),
        ("a.jsonl", '{"id": "r-1", "body": "Too late", "text": {"lang": "en"}}\n'),
    ],
)
async def test_row_19_what_stands_where_the_text_goes_is_not_lost(
    name: str, content: str, sink: MemorySink, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    refused = await streamer("publish", name, "--text-field", "body")
    assert refused.code == 2
    assert "'text' holds something else; rename one of the two, or set input.text_field = body" in refused.stderr
    assert sink.acknowledged == []
    done = await streamer("publish", name, "--text-field", "body", "--set", "input.text_field=body")
    assert done.code == 0, done.stderr
    [message] = sink.acknowledged
    event = Decoder(text_field="body").decode(Record(TP, 0, message.key, message.value, 0), Origin(TP, 0, 1))
    assert isinstance(event, Event), event
    assert event.text == "Too late"
    assert "text" in (event.metadata or {})


TWEETS = r"""tweet_id,airline_sentiment,text,tweet_created
5.70306E+17,neutral,@airline What @someone said.,2015-02-24 11:35:52 -0800
5.70306E+17,negative,"@airline it's ""really"" aggressive to blast
obnoxious entertainment\n at us, & they have little recourse 😡",2015-02-24 11:15:36 -0800
5.70301E+17,positive,"@airline yes, nearly every time I fly 🛫 ❤️",
"""
LOGS = r"""{"host":"web-1","pid":4711,"text":"<34>Oct 11 22:14:15 su: 'su root' failed on /dev/pts/8","tags":[]}
{"host":"db-2","pid":null,"text":"\u0041 50% full\tnow","tags":["disk",{"n":1}]}
"""
BANK = """\ufeffDatum;Verwendungszweck;Betrag\r
01.02.2026;"Miete; Feber";-1.024,50\r
"02.02.2026";Gehalt;3.000,00\r
"""
TICKETS = """[
  {"key": "T-1", "fields": {"summary": "Login fails", "labels": []}},
  {"key": "T-2", "fields": {"summary": "Caf\\u00e9 \\ud83d\\ude00", "labels": ["ui"]}}
]"""
PLAIN = '2026-11-28 12:00:01,123 ERROR [main] "No space left", retrying\n\n{not json} but a line\n'
SMS = """ham\tGo until jurong point, crazy.. Available only "in bugis n great world
spam\tFree entry in 2 a wkly comp! Text FA to 87121 to receive entry; £100
"""


@pytest.mark.parametrize(
    ("name", "content", "arguments", "keys", "texts"),
    [
        (
            "tweets.csv", TWEETS, ["--key-field", "tweet_id"], [b"5.70306E+17", b"5.70306E+17", b"5.70301E+17"],
            ["@airline What @someone said.",
             '@airline it\'s "really" aggressive to blast\nobnoxious entertainment\\n at us, & they have little '
             "recourse 😡",
             "@airline yes, nearly every time I fly 🛫 ❤️"],
        ),
        (
            "logs.jsonl", LOGS, ["--key-field", "host"], [b"web-1", b"db-2"],
            ["<34>Oct 11 22:14:15 su: 'su root' failed on /dev/pts/8", "A 50% full\tnow"],
        ),
        (
            "bank.csv", BANK, ["--text-field", "Verwendungszweck", "--key-field", "Datum"],
            [b"01.02.2026", b"02.02.2026"], ["Miete; Feber", "Gehalt"],
        ),
        (
            "tickets.json", TICKETS, ["--text-field", "fields.summary", "--key-field", "key"], [b"T-1", b"T-2"],
            ["Login fails", "Caf\u00e9 \U0001f600"],
        ),
        (
            "app.log", PLAIN, ["--format", "text"], [None, None],
            ['2026-11-28 12:00:01,123 ERROR [main] "No space left", retrying', "{not json} but a line"],
        ),
        (
            "sms.tsv", SMS, ["--columns", "label,text", "--no-quotes"], [None, None],
            ['Go until jurong point, crazy.. Available only "in bugis n great world',
             "Free entry in 2 a wkly comp! Text FA to 87121 to receive entry; £100"],
        ),
    ],
)  # fmt: skip
async def test_row_42_files_as_people_keep_them_arrive_whole(
    name: str, content: str, arguments: list[str], keys: list[bytes], texts: list[str], sink: MemorySink, tmp_path: Path
) -> None:
    """Field case 42."""
    (tmp_path / name).write_text(content)
    done = await streamer("publish", name, *arguments)
    assert done.code == 0, done.stderr
    assert [message.key for message in sink.acknowledged] == keys
    events = [
        Decoder().decode(Record(TP, 0, message.key, message.value, 0, message.headers), Origin(TP, 0, 1))
        for message in sink.acknowledged
    ]
    assert [event.text for event in events if isinstance(event, Event)] == texts


async def test_one_message_is_not_messages(sink: MemorySink) -> None:
    """First hour R8."""
    done = await streamer("publish", "-", "--topic", "other", stdin="my parcel got wet\n")
    assert (done.code, done.stderr) == (0, "1 message published\n")
    assert [(message.topic, message.value) for message in sink.acknowledged] == [("other", b"my parcel got wet")]


async def test_json_lines_on_standard_input_are_not_taken_for_prose(sink: MemorySink) -> None:
    done = await streamer("publish", "-", "--text-field", "body", stdin='{"body": "my parcel got wet"}\n')
    assert done.code == 0
    assert [orjson.loads(message.value or b"") for message in sink.acknowledged] == [{"text": "my parcel got wet"}]


@pytest.mark.parametrize(
    ("name", "content", "arguments", "says"),
    [
        ("a.csv", "id,body\n1,x\n", [], "a.csv:2: no field 'text'; there are id, body"),
        ("a.csv", "id,body\n1,x\n", ["--text-field", "txt"], "a.csv:2: no field 'txt'; there are id, body"),
        ("a.csv", "id,text\n1,x\n", ["--key-field", "key"], "a.csv:2: no field 'key'; there are id, text"),
        ("a.jsonl", '{"text": "x"}\n', ["--key-field", "key"], "a.jsonl:1: no field 'key'; there are text"),
        ("a.jsonl", '{"text": "x", "k": {"$oid": 1}}\n', ["--key-field", "k"], "a.jsonl:1: 'k' is an object"),
        ("a.jsonl", '{"text": 5}\n', [], "a.jsonl:1: 'text' is a number, not a string"),
        ("a.csv", "text,body\nx,y\n", ["--text-field", "body"], "'body' cannot be moved to 'text' (input.text_field)"),
        ("a.csv", "text\n" + "x" * 2_000_000, [], "more than kafka.max_message_bytes = 1000000"),
        ("a.txt", "x\n", ["--key-field", "id"], "a.txt:1: a line of text has no field 'id'"),
        ("a.txt", b"caf\xe9\n", [], "a.txt:1: not UTF-8: byte 0xe9"),
        ("a.txt", "x\n", ["--encoding", "klingon"], "--encoding klingon"),
        ("a.csv", "a,b\n", ["--delimiter", "::"], "--delimiter '::'"),
    ],
)
async def test_what_no_worker_could_read_is_refused(
    name: str, content: str | bytes, arguments: list[str], says: str, sink: MemorySink, tmp_path: Path
) -> None:
    """Field cases 17 and 30."""
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    done = await streamer("publish", name, *arguments)
    assert done.code == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not sink.sent


async def test_it_says_how_to_go_on_and_goes_on(sink: MemorySink, tmp_path: Path) -> None:
    """Field case 18."""
    lines = [f"text {number}" for number in range(1, 1_501)]
    lines[1_200] = "x" * 2_000_000
    (tmp_path / "texts.txt").write_text("\n".join(lines))
    done = await streamer("publish", "texts.txt")
    assert done.code == 2
    said, reason = done.stderr.splitlines()
    assert said == "1,200 messages published; to go on: --from-line 1201"
    assert reason.startswith("streamer: texts.txt:1201: 2,0")
    again = await streamer("publish", "texts.txt", "--from-line", "1201", "--skip-bad")
    assert again.code == 0
    assert again.stderr.startswith("299 messages published; 1 skipped, the first is texts.txt:1201: ")
    lines.pop(1_200)
    assert [(message.value or b"").decode() for message in sink.acknowledged] == lines


async def test_what_was_not_acknowledged_is_not_counted(sink: MemorySink, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("one\ntwo\n")
    sink.failure = Unreachable("the brokers are gone")
    done = await streamer("publish", "texts.txt")
    assert (done.code, done.stderr) == (3, "streamer: the brokers are gone\n")
