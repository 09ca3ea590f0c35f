"""The options of `streamer migrate` and its commands."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated, Any

import orjson
import typer

from streamer.commands import options
from streamer.commands.options import AsJson, Bootstrap, Config, Set
from streamer.commands.running import bind, run_async, settings_from

MaxLag = Annotated[
    int, typer.Option("--max-lag", metavar="N", min=0, help="records that the new model may be behind at a switch")
]

migrate = typer.Typer(
    name="migrate",
    help="Change the model while the stream goes on.\n\nA second model embeds the topic beside the first one. Readers "
    "are moved to it in one step, and back if need be.",
    epilog="Example: streamer migrate start --to provider.model=text-embedding-3-large --max-spend 50",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Make them commands of the application."""
    app.add_typer(migrate)


@migrate.command(
    epilog="Example: streamer migrate start --to provider.name=openai --to provider.model=text-embedding-3-large "
    "--max-spend 50 --rate 200/s"
)
def start(
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="SECTION.KEY=VALUE", help="what changes, in [provider], [input] or [output]"),
    ] = None,
    max_spend: Annotated[
        float | None, typer.Option("--max-spend", metavar="USD", min=0.000001, help="of the new workers, in all")
    ] = None,
    rate: Annotated[
        str | None, typer.Option("--rate", metavar="N/s", help="texts that the new workers send, as in 200/s or 5k/min")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="ask and estimate, and change nothing")] = False,
    config: Config = None,
    set_: Set = None,
    bootstrap_servers: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Begin with a second model.

    Asks it, creates its topics, says what it will cost and what to run. The first one goes on.
    """
    from streamer.commands.migrate import Plan, prepare
    from streamer.commands.migrate import start as begin
    from streamer.commands.migrate_view import start_document, start_lines
    from streamer.commands.plan import rate_of

    settings = settings_from(config, set_ or [], kafka__bootstrap_servers=bootstrap_servers)
    texts = None if rate is None else max(1, round(rate_of(rate) * 60))
    plan = Plan(to=to or [], max_spend=max_spend, texts_per_minute=texts)
    prepared = run_async(bind(prepare if dry_run else begin, settings, plan))
    _show(start_document(prepared, dry_run=dry_run), start_lines(prepared, dry_run=dry_run), as_json=as_json)


@migrate.command(epilog="Example: streamer migrate status --json")
def status(
    url: options.Url = None,
    max_lag: MaxLag = 1000,
    config: Config = None,
    set_: Set = None,
    bootstrap_servers: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Tell how far it is, and what it waits for.

    Progress by partition, rate, cost, agreement of neighbours, and whether the new model may answer.
    """
    from streamer.commands.migrate_view import status_of

    settings = settings_from(config, set_ or [], kafka__bootstrap_servers=bootstrap_servers)
    document, lines = run_async(bind(status_of, settings, url=url, most_lag=max_lag))
    _show(document, lines, as_json=as_json)


@migrate.command(epilog="Example: streamer migrate switch --max-lag 100")
def switch(
    url: options.Url = None,
    max_lag: MaxLag = 1000,
    force: Annotated[bool, typer.Option("--force", help="although it is behind or no indexer answers")] = False,
    config: Config = None,
    set_: Set = None,
    bootstrap_servers: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Let the new model answer. Refused while it is behind. The old one goes on, so that there is a way back."""
    from streamer.commands.migrate_moves import switch as move

    settings = settings_from(config, set_ or [], kafka__bootstrap_servers=bootstrap_servers)
    _moved(run_async(bind(move, settings, url=url, most_lag=max_lag, force=force)), as_json=as_json)


@migrate.command(epilog="Example: streamer migrate back")
def back(
    url: options.Url = None,
    config: Config = None,
    set_: Set = None,
    bootstrap_servers: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Let the old model answer again. Nothing of either is lost."""
    from streamer.commands.migrate_moves import back as move

    settings = settings_from(config, set_ or [], kafka__bootstrap_servers=bootstrap_servers)
    _moved(run_async(bind(move, settings, url=url)), as_json=as_json)


@migrate.command(
    epilog="Example: streamer migrate finish    or, to give the new model up: streamer migrate finish --keep-old"
)
def finish(
    url: options.Url = None,
    keep_old: Annotated[bool, typer.Option("--keep-old", help="give the new model up")] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="delete the vectors and verdicts of the model that is given up")
    ] = False,
    config: Config = None,
    set_: Set = None,
    bootstrap_servers: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """End it: the model that answers is kept. Says which settings to write down and what may be deleted."""
    from streamer.commands.migrate_moves import finish as end

    settings = settings_from(config, set_ or [], kafka__bootstrap_servers=bootstrap_servers)
    _moved(run_async(bind(end, settings, url=url, keep_old=keep_old, delete=delete)), as_json=as_json)


def _moved(made: tuple[Any, str], *, as_json: bool) -> None:
    from streamer.commands.migrate_view import moved_document, moved_lines

    _show(moved_document(*made), moved_lines(*made), as_json=as_json)


def _show(document: dict[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(document) + b"\n")
        sys.stdout.buffer.flush()
        return
    for line in lines:
        typer.echo(line)
