"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamer.commands.file_format import FORMATS, FileFormat

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="settings (default: streamer.toml here, if there is one)"),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="any setting, as in --set batch.linger_ms=10; repeatable"),
]
Bootstrap = Annotated[
    list[str] | None,
    typer.Option("--bootstrap-servers", "-b", metavar="HOST:PORT", help="kafka.bootstrap_servers; repeatable"),
]
ProviderOption = Annotated[str | None, typer.Option("--provider", metavar="NAME", help="provider.name")]
ModelOption = Annotated[str | None, typer.Option("--model", metavar="NAME", help="provider.model")]
InputTopic = Annotated[str | None, typer.Option("--input", metavar="TOPIC", help="topics.input")]
Workers = Annotated[
    int, typer.Option("--workers", metavar="N", min=1, help="so many on this machine, each a process of its own")
]
Url = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="of the indexer; default from http.host and http.port")
]
Example = Annotated[
    bool, typer.Option("--example", help="print a streamer.toml with every key explained, instead of what is in force")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines instead of text for people")]

FormatOption = Annotated[
    str,
    typer.Option("--format", metavar="FORMAT", help=f"{', '.join(FORMATS)}; auto: by name, else by the first line"),
]
TextFile = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="one text a line, or .csv, .tsv, .jsonl, .json; also .gz; - is standard input"),
]
KeyField = Annotated[
    str | None, typer.Option("--key-field", metavar="NAME", help="the file's column or field with the record key")
]
SampleFile = Annotated[
    Path | None,
    typer.Option(
        "--file", "-f", "--sample",
        help="one text a line, or .csv, .tsv, .jsonl, .json; also .gz; - is standard input",
    ),
]  # fmt: skip
Quantize = Annotated[
    Path | None,
    typer.Option(
        "--quantize", metavar="FOLDER",
        help="of this onnx model make one that computes in integers, measured on the texts; --output names its folder",
    ),
]  # fmt: skip
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help=".npy (ids beside it) or .jsonl; without it JSON lines on standard output"),
]
TextField = Annotated[
    str | None,
    typer.Option(
        "--text-field", metavar="NAME", help="the file's column or field with the text; without it: input.text_field"
    ),
]
Delimiter = Annotated[
    str | None, typer.Option("--delimiter", metavar="CHAR", help="between CSV values, or tab; default: found")
]
Columns = Annotated[
    str | None, typer.Option("--columns", metavar="A,B,C", help="the columns of a CSV file without a header")
]
NoQuotes = Annotated[bool, typer.Option("--no-quotes", help='" is a character like others in a CSV file')]
Encoding = Annotated[
    str | None, typer.Option("--encoding", metavar="NAME", help="of the file, as in latin-1; default: UTF-8")
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="pass over lines that cannot be used, and count them")]


def file_format(
    kind: str, delimiter: str | None, columns: str | None, encoding: str | None, *, no_quotes: bool
) -> FileFormat:
    """Raises ConfigurationError for what no file can have."""
    return FileFormat(
        kind=kind,
        delimiter="\t" if delimiter in ("tab", "\\t") else delimiter,
        columns=[column.strip() for column in columns.split(",")] if columns else None,
        encoding=encoding,
        quotes=not no_quotes,
    )
