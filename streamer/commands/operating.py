"""The commands that look at a deployment: `topics`, `config`, `check`, `cache`, `status`."""

from __future__ import annotations

from typing import Annotated

import typer

from streamer.commands import options
from streamer.commands.options import AsJson, Bootstrap, Config, Set
from streamer.commands.running import bind, run_async, settings_from


def register(app: typer.Typer) -> None:
    """Make them commands of the application."""
    app.command(name="topics", epilog="Example: streamer topics --create -b localhost:9092")(topics)
    app.command(name="config", epilog="Example: streamer config -c production.toml    or: streamer config --example")(
        config_
    )
    app.command(name="check", epilog="Example: streamer check -c production.toml")(check)
    app.command(name="cache", epilog="Example: streamer cache stats    or: streamer cache clear -c production.toml")(
        cache
    )
    app.command(
        name="status",
        epilog="Example: streamer status --watch    or: streamer status --url http://worker-1:8081 --json",
    )(status)


def topics(
    config: Config = None,
    set_: Set = None,
    bootstrap_servers: Bootstrap = None,
    input_: options.InputTopic = None,
    create: Annotated[bool, typer.Option("--create", help="create what is missing")] = False,
    as_json: AsJson = False,
) -> None:
    """Check the topics, or create them. A worker creates its output topics, but never an input topic."""
    from streamer.commands.admin import topics as check

    settings = settings_from(config, set_ or [], kafka__bootstrap_servers=bootstrap_servers, topics__input=input_)
    run_async(bind(check, settings, create=create, as_json=as_json))


def config_(
    config: Config = None,
    set_: Set = None,
    example: options.Example = False,
    as_json: AsJson = False,
) -> None:
    """Print the effective settings, secrets redacted."""
    from streamer.commands.admin import show_example, show_settings

    if example:
        show_example()
    else:
        show_settings(settings_from(config, set_ or []), as_json=as_json)


def check(
    config: Config = None, set_: Set = None, bootstrap_servers: Bootstrap = None, as_json: AsJson = False
) -> None:
    """Try everything once, and say what is wrong and what to do.

    Broker, topics, provider, cache, snapshot, groups and dead letters.
    """
    from streamer.commands.check import check as check_all

    settings = settings_from(config, set_ or [], kafka__bootstrap_servers=bootstrap_servers)
    run_async(bind(check_all, settings, as_json=as_json))


def cache(
    action: Annotated[str, typer.Argument(help="stats, prune or clear")],
    config: Config = None,
    set_: Set = None,
    as_json: AsJson = False,
) -> None:
    """Look into the vector cache, prune it, or empty it.

    Pruning drops what is expired or beyond the size cap.
    """
    from streamer.commands.admin import CACHE_ACTIONS
    from streamer.commands.admin import cache as cache_action

    if action not in CACHE_ACTIONS:
        raise typer.BadParameter(f"{action!r} is not one of {', '.join(CACHE_ACTIONS)}", param_hint="ACTION")
    run_async(bind(cache_action, settings_from(config, set_ or []), action, as_json=as_json))


def status(
    config: Config = None,
    set_: Set = None,
    bootstrap_servers: Bootstrap = None,
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="of a worker or an indexer, repeatable; default: those that these settings start on this machine",
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="again and again, until Ctrl-C")] = False,
    interval: Annotated[float, typer.Option("--interval", min=0.2, help="seconds, with --watch")] = 2.0,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="seconds for all to answer; who is late is named")
    ] = 2.0,
    as_json: AsJson = False,
) -> None:
    """What the running processes do, and what they wait for.

    And how far behind they are, at what price.
    """
    from streamer.commands.status import status as show

    settings = settings_from(config, set_ or [], kafka__bootstrap_servers=bootstrap_servers)
    run_async(bind(show, settings, url or [], watch=watch, as_json=as_json, interval=interval, timeout=timeout))
