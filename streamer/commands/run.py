"""`streamer run`: a worker, or several on one machine."""

from __future__ import annotations

from typing import Annotated

import typer

from streamer.commands.options import Bootstrap, Config, InputTopic, ModelOption, ProviderOption, Set, Workers
from streamer.commands.running import bind, run_async, settings_from


def run(
    config: Config = None,
    set_: Set = None,
    bootstrap_servers: Bootstrap = None,
    input_: InputTopic = None,
    provider: ProviderOption = None,
    model: ModelOption = None,
    workers: Workers = 1,
    migration: Annotated[
        bool,
        typer.Option(
            "--migration",
            envvar="STREAMER_MIGRATION",
            help="for the new model of a change that streamer migrate has started",
        ),
    ] = False,
    as_worker: Annotated[str, typer.Option("--as-worker", hidden=True)] = "",
) -> None:
    """Run a worker: text topic in, vector topic out. Start more of them to scale."""
    from streamer.app.worker import run_worker
    from streamer.app.workers import report_to, run_workers

    settings = settings_from(
        config, set_ or [], kafka__bootstrap_servers=bootstrap_servers, topics__input=input_, provider__name=provider,
        provider__model=model,
    )  # fmt: skip
    if workers == 1:
        run_async(bind(run_worker, settings, report_to(as_worker), of_migration=migration))
        return
    named = {
        "--config": config, "-b": bootstrap_servers, "--input": input_, "--provider": provider, "--model": model
    }  # fmt: skip
    words = [str(word) for name, value in named.items() if value is not None for word in (name, value)]
    words += ["--migration"] if migration else []
    words += [word for assignment in set_ or [] for word in ("--set", assignment)]
    if code := run_async(run_workers, settings, workers, words):
        raise typer.Exit(code)
