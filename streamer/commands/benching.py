"""The options of `streamer bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamer.commands.options import AsJson, Config, ModelOption, ProviderOption, Set
from streamer.commands.running import bind, run_async, settings_from
from streamer.errors import ConfigurationError


def register(app: typer.Typer) -> None:
    """Make it a command of the application."""
    app.command(
        name="bench",
        epilog="Example: streamer bench overhead -b localhost:9092    or: streamer bench index --vectors 10k,100k,1M "
        "--json    or: streamer bench local --provider onnx --tokens 10,60,250",
    )(bench)


def bench(
    names: Annotated[list[str], typer.Argument(help="overhead, latency, restore, cache, index, local; or all")],
    config: Config = None,
    set_: Set = None,
    bootstrap_servers: Annotated[
        str | None,
        typer.Option("--bootstrap-servers", "-b", metavar="HOST:PORT", help="default: an embedded broker"),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", metavar="N", min=1, help="a figure is the median of so many")] = 5,
    dimensions: Annotated[int, typer.Option("--dimensions", metavar="N", min=8, help="of a vector")] = 384,
    format_: Annotated[
        str | None, typer.Option("--format", metavar="A,B", help="json, binary: of vector events; a point each")
    ] = None,
    partitions: Annotated[str, typer.Option("--partitions", metavar="N,M", help="of each topic; a point each")] = "4",
    events: Annotated[
        str | None, typer.Option("--events", metavar="N", help="of a run: overhead 30k, latency (a burst) 20k")
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", min=0.5, help="latency: for which each rate is offered")
    ] = 5.0,
    provider_ms: Annotated[
        float, typer.Option("--provider-ms", metavar="MS", min=0, help="latency: what a call to the provider takes")
    ] = 20.0,
    vectors: Annotated[
        str | None, typer.Option("--vectors", metavar="N,M", help="index 100k, restore 30k; a point each")
    ] = None,
    like: Annotated[str, typer.Option("--like", metavar="KIND", help="index: vectors like texts or noise")] = "texts",
    entries: Annotated[str, typer.Option("--entries", metavar="N,M", help="of the cache file; a point each")] = "100k",
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="DIR", help="for the cache file, which is removed afterwards")
    ] = None,
    texts: Annotated[str, typer.Option("--texts", metavar="N", help="local: of a call")] = "256",
    tokens: Annotated[
        str, typer.Option("--tokens", metavar="N,M", help="local: length of a text; a point each")
    ] = "60",
    provider: ProviderOption = None,
    model: ModelOption = None,
    as_json: AsJson = False,
) -> None:
    """Measure what streamer does on this machine.

    A figure is the median of several runs, each beside a reference of the same run, so that the ratio holds on a busy
    machine too. Topics and files of a bench are new and are removed afterwards.
    """
    from streamer.app.providers import contract_of
    from streamer.bench.points import Wanted
    from streamer.commands.bench import chosen, formats_of, numbers_of, run_benches

    if like not in ("texts", "noise"):
        raise ConfigurationError(f"--like {like}: vectors are like texts or like noise")
    wanted = Wanted(
        runs=runs, dimensions=dimensions, formats=formats_of(format_),
        partitions=numbers_of("--partitions", partitions), vectors=numbers_of("--vectors", vectors) or None,
        entries=numbers_of("--entries", entries), tokens=numbers_of("--tokens", tokens),
        events=next(iter(numbers_of("--events", events)), None), texts=numbers_of("--texts", texts)[0],
        seconds=seconds, provider_ms=provider_ms, like=like, folder=None if folder is None else str(folder),
    )  # fmt: skip
    given = {"kafka.bootstrap_servers": bootstrap_servers, "provider.name": provider, "provider.model": model}
    overrides = {name: value for name, value in given.items() if value is not None}
    settings = settings_from(
        config, set_ or [], **{name.replace(".", "__"): value for name, value in overrides.items()}
    )
    overrides |= {name: value for name, _, value in (assignment.partition("=") for assignment in set_ or [])}
    where = {"config": None if config is None else str(config), "overrides": overrides}
    benches = chosen(names)
    if "local" in benches and not contract_of(settings).is_local:
        raise ConfigurationError(f"provider.name = {settings.provider.name} calls a service; local are onnx and static")
    run_async(bind(run_benches, benches, wanted, where, embedded=bootstrap_servers is None, as_json=as_json))
