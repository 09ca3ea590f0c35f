"""The options of `streamer try` and `streamer plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamer.commands import options
from streamer.commands.options import AsJson, Bootstrap, Config, ModelOption, ProviderOption, Set
from streamer.commands.running import bind, run_async, settings_from

Latency = Annotated[
    float | None,
    typer.Option("--latency-ms", metavar="MS", min=0, help="of a request to the provider; default: an assumption"),
]


def register(app: typer.Typer) -> None:
    """Make them commands of the application."""
    app.command(
        name="try",
        epilog="Example: streamer try reviews.csv --text-field body --provider openai    or: "
        "streamer try --topic reviews --last 1000",
    )(try_)
    app.command(epilog="Example: streamer plan --rate 5000/s --provider openai --tokens 60")(plan)


def try_(
    file: Annotated[
        Path | None, typer.Argument(help="text, .csv, .tsv, .jsonl or .json, also .gz; - is standard input")
    ] = None,
    config: Config = None,
    set_: Set = None,
    bootstrap_servers: Bootstrap = None,
    topic: Annotated[
        str | None, typer.Option("--topic", "-t", metavar="TOPIC", help="instead of a file; default: topics.input")
    ] = None,
    last: Annotated[int, typer.Option("--last", metavar="N", min=1, help="how many of the topic's records")] = 1000,
    format_: options.FormatOption = "auto",
    text_field: options.TextField = None,
    key_field: options.KeyField = None,
    delimiter: options.Delimiter = None,
    columns: options.Columns = None,
    no_quotes: options.NoQuotes = False,
    encoding: options.Encoding = None,
    provider: ProviderOption = None,
    model: ModelOption = None,
    latency_ms: Latency = None,
    as_json: AsJson = False,
) -> None:
    """Dry run: dead letters, requests, tokens and price.

    A file is read as `streamer publish` reads it, and each record as a worker with the same settings does. Nothing is
    embedded, committed or published.
    """
    from streamer.commands.try_out import Trial, try_records

    settings = settings_from(
        config, set_ or [], kafka__bootstrap_servers=bootstrap_servers, provider__name=provider, provider__model=model
    )
    trial = Trial(
        path=file, topic=topic, count=last, text_field=text_field, key_field=key_field,
        format=options.file_format(format_, delimiter, columns, encoding, no_quotes=no_quotes),
        answer_seconds=None if latency_ms is None else latency_ms / 1000,
    )  # fmt: skip
    run_async(bind(try_records, settings, trial, as_json=as_json))


def plan(
    rate: Annotated[str, typer.Option("--rate", metavar="N/s", help="events, as in 5000/s, 300/min or 2M/day")],
    tokens: Annotated[int, typer.Option("--tokens", metavar="N", min=1, help="of a text, in the mean")] = 60,
    repeats: Annotated[
        float, typer.Option("--repeats", min=0, max=0.999, help="share of events whose text came before, 0 to 1")
    ] = 0.0,
    backlog: Annotated[int, typer.Option("--backlog", metavar="N", min=0, help="events that wait already")] = 0,
    config: Config = None,
    set_: Set = None,
    provider: ProviderOption = None,
    model: ModelOption = None,
    latency_ms: Latency = None,
    as_json: AsJson = False,
) -> None:
    """What a stream takes, what it costs, and what runs out first.

    Simulates a worker with these settings. Opens no connection.
    """
    from streamer.commands.plan import plan as print_plan
    from streamer.commands.plan import rate_of
    from streamer.forecast.sizing import Demand

    settings = settings_from(config, set_ or [], provider__name=provider, provider__model=model)
    demand = Demand(rate=rate_of(rate), tokens=tokens, repeats=repeats, backlog=backlog)
    seconds = None if latency_ms is None else latency_ms / 1000
    run_async(bind(print_plan, settings, demand, answer_seconds=seconds, as_json=as_json))
